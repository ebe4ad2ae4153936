//! `longlived simulate` against a server with a data directory that is killed: nothing is lost, nothing is repeated,
//! and there is no gap to announce.

use longlived_checker::{Limits, check, read};
use rustix::process::Signal;

use super::cli_support::{Process, Server, run};

#[test]
fn a_simulation_over_a_killed_durable_server_has_no_gap_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let data = folder.path().join("data");
    let flags = ["--data-dir", data.to_str().unwrap()];
    let mut server = Server::start(&flags);
    let simulation = Process::start(&[
        "simulate",
        "--server",
        &server.url,
        "--clients",
        "3",
        "--stagger",
        "10ms",
        "--topic",
        "orders.>",
        "--publish-every",
        "10ms",
        "--record",
        path.to_str().unwrap(),
    ]);
    let clients = ["client 1 ", "client 2 ", "client 3 "];
    for client in clients {
        simulation.stdout.line_with(&[client, "orders.simulate"]);
    }
    for _ in 0..2 {
        let before = simulation.stdout.all().len();
        let address = server.kill();
        server = Server::start_at(address, &flags);
        simulation.stdout.until("everybody goes on", |lines| {
            clients.iter().all(|client| {
                let mut lines = lines[before..].iter().filter(|line| line.contains(client));
                lines.any(|line| line.contains("resubscribed"))
                    && lines.any(|line| line.contains("orders.simulate"))
            })
        });
    }
    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}\n{:?}", ended.stderr);
    assert!(text.contains("Nothing lost, nothing repeated."), "{text}");
    assert!(!text.contains("gap announced"), "{text}");
    drop(server);

    // How soon is for the machine to say.
    let judged = run(&["check", path.to_str().unwrap(), "--head-within", "5min"]);
    assert_eq!(judged.code, Some(0), "{judged:?}");
    let summary = check(&read(&path).unwrap(), &Limits::default()).summary;
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
    assert_eq!((summary.epochs, summary.dropped), (1, 0));
    assert_eq!(
        summary.faults.get("server_away"),
        Some(&2),
        "{:?}",
        summary.faults
    );
}
