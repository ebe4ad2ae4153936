//! `longlived simulate --record`: a history of a real run that the checker judges.

use std::fs;
use std::path::Path;

use longlived_checker::{Limits, Rule, check, read};
use rustix::process::Signal;

use super::cli_support::{PATIENCE, Process, Server, free_address, run};

/// The rules that the history breaks.
fn broken(path: &Path) -> Vec<Rule> {
    let history = read(path).unwrap();
    // The time until a subscriber is current again depends on the machine.
    let limits = Limits {
        head_within: PATIENCE,
        ..Limits::default()
    };
    let report = check(&history, &limits);
    for violation in &report.violations {
        eprintln!("{violation}");
    }
    assert_eq!(report.is_lawful(), report.broken().is_empty());
    report.broken()
}

fn lines_of(path: &Path, kind: &str) -> Vec<String> {
    let kind = format!("{{\"kind\":\"{kind}\"");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with(&kind));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_run_over_a_killed_server_is_lawful_and_one_delivery_less_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let server = Server::start(&[]);
    let url = server.url.clone();
    let simulate = [
        "simulate",
        "--server",
        &url,
        "--clients",
        "4",
        "--stagger",
        "10ms",
        "--topic",
        "orders.>",
        "other",
        "--publish-every",
        "10ms",
        "--record",
        path.to_str().unwrap(),
    ];
    let simulation = Process::start(&simulate);
    for client in ["client 1 ", "client 2 ", "client 3 ", "client 4 "] {
        simulation.stdout.line_with(&[client, "orders.simulate"]);
        simulation.stdout.line_with(&[client, "other"]);
    }
    let address = server.kill();
    for client in ["client 1 ", "client 2 ", "client 3 ", "client 4 "] {
        simulation.stdout.line_with(&[client, "lost its stream"]);
    }
    let server = Server::start_at(address, &[]);
    for client in ["client 1 ", "client 2 ", "client 3 ", "client 4 "] {
        simulation.stdout.line_with(&[client, "gap announced"]);
    }
    let again = simulation.stdout.all().len();
    simulation.stdout.until("events after it", |lines| {
        let after = lines[again..].iter();
        after
            .filter(|line| line.contains("orders.simulate"))
            .count()
            >= 40
    });
    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}\n{:?}", ended.stderr);
    assert!(text.contains("Nothing lost, nothing repeated."), "{text}");
    assert!(text.contains("Published: "), "{text}");
    drop(server);

    assert_eq!(broken(&path), []);
    let streams = lines_of(&path, "stream_opened").len();
    assert!(streams >= 8, "{streams}");
    assert_eq!(lines_of(&path, "stream_ended").len(), streams);
    assert_eq!(lines_of(&path, "head").len(), 1);
    assert_eq!(lines_of(&path, "faults_over").len(), 1);
    let faults = lines_of(&path, "fault").join("\n");
    assert!(faults.contains("server_away"), "{faults}");
    assert!(faults.contains("server_back"), "{faults}");
    assert_eq!(faults.lines().count(), 2, "{faults}");
    let judge = ["check", path.to_str().unwrap(), "--head-within", "5min"];
    let judged = run(&judge);
    assert_eq!(judged.code, Some(0), "{judged:?}");
    let history = read(&path).unwrap();
    assert_eq!(history.truncated, None);

    // One delivery that was made is taken out.
    let whole = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = whole.lines().collect();
    let deliveries: Vec<usize> = (0..lines.len())
        .filter(|&line| lines[line].starts_with("{\"kind\":\"event\""))
        .collect();
    lines.remove(deliveries[deliveries.len() / 2]);
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let judged = run(&judge);
    assert_eq!(judged.code, Some(1), "{judged:?}");
    let broken = broken(&path);
    assert!(broken.contains(&Rule::AcknowledgedLost), "{broken:?}");
}

#[test]
fn a_run_over_a_server_that_drains_is_lawful_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let address = free_address();
    let url = format!("http://{address}");
    let flags = ["--generate-every", "100ms"];
    let simulate = [
        "simulate",
        "--server",
        &url,
        "--clients",
        "3",
        "--stagger",
        "10ms",
        "--publish-every",
        "20ms",
        "--record",
        path.to_str().unwrap(),
    ];
    // It begins before its server does.
    let simulation = Process::start(&simulate);
    simulation.stdout.line_with(&["client 1 ", "backing off"]);
    let server = Server::start_at(address, &flags);
    for client in ["client 1 ", "client 2 ", "client 3 "] {
        simulation.stdout.line_with(&[client, "simulated message"]);
        simulation.stdout.line_with(&[client, "data mock for"]);
    }
    server.drain();
    let _server = Server::start_at(address, &flags);
    for client in ["client 1 ", "client 2 ", "client 3 "] {
        simulation.stdout.line_with(&[client, "resubscribed"]);
    }
    let again = simulation.stdout.all().len();
    simulation.stdout.until("events after it", |lines| {
        ["inbox.1 ", "inbox.2 ", "inbox.3 "]
            .iter()
            .all(|inbox| lines[again..].iter().any(|line| line.contains(inbox)))
    });
    simulation.signal(Signal::TERM);
    let ended = simulation.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stdout.join("\n"));
    assert_eq!(broken(&path), []);
}

#[test]
fn a_history_that_cannot_be_written_ends_the_run_with_an_error() {
    let server = Server::start(&["--generate-every", "100ms"]);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").join("history.jsonl");
    // The second takes the first bytes and nothing more.
    for path in [missing.to_str().unwrap(), "/dev/full"] {
        let ended = run(&[
            "simulate",
            "--server",
            &server.url,
            "--clients",
            "2",
            "--record",
            path,
        ]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = ended.stderr.join("\n");
        assert!(said.contains("cannot be written"), "{said}");
        assert!(said.contains(path), "{said}");
    }
}
