//! `longlived demo`: the first thing that anybody runs.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::cli_support::{PATIENCE, Process, run};

/// The processes of the servers that a demo named.
fn server_processes(lines: &[String]) -> Vec<PathBuf> {
    let pid = |line: &String| {
        let (_, rest) = line.split_once("longlived serve")?.1.split_once("(pid ")?;
        let (pid, _) = rest.split_once(')')?;
        Some(PathBuf::from(format!("/proc/{pid}")))
    };
    lines.iter().filter_map(pid).collect()
}

#[test]
fn everybody_survives_and_the_verdict_says_so() {
    let began = Instant::now();
    let ended = run(&["demo"]);
    let took = began.elapsed();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}\n{:?}", ended.stderr);
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(ended.stderr.is_empty(), "{:?}", ended.stderr);
    for client in 1..=10 {
        let client = format!("client {client:<3}");
        for what in [
            "subscribed",
            "lost its stream",
            "backing off",
            "resubscribed",
        ] {
            let told = |line: &&String| line.contains(&client) && line.contains(what);
            assert!(
                ended.stdout.iter().any(|line| told(&line)),
                "{client}{what}\n{text}"
            );
        }
    }
    let all = ended.stdout.iter().find(|line| line.contains("│ all 10 │"));
    let all: Vec<&str> = all.expect("a verdict").split('│').map(str::trim).collect();
    assert_eq!(&all[3..5], ["0", "0"], "lost and repeated: {text}");
    assert_eq!(&all[5..7], ["10", "10"], "gaps and reconnects: {text}");
    assert!(text.contains("40 lines acknowledged"), "{text}");
    assert!(text.contains("Nothing lost, nothing repeated."), "{text}");
    let servers = server_processes(&ended.stdout);
    assert_eq!(servers.len(), 2, "{text}");
    assert!(servers.iter().all(|server| !server.exists()), "{servers:?}");
}

#[test]
fn an_interrupted_demo_takes_its_server_along() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
    let demo = Process::start(&["demo", "--file", file.path().to_str().unwrap()]);
    demo.stdout.line_with(&["line 1", "10 of 10", "one"]);
    let servers = server_processes(&demo.stdout.all());
    assert_eq!(servers.len(), 1);
    assert!(servers[0].exists());
    demo.signal(Signal::TERM);
    let ended = demo.ended();
    assert_eq!(ended.code, Some(143), "{ended:?}");
    let deadline = Instant::now() + PATIENCE;
    while servers[0].exists() {
        assert!(Instant::now() < deadline, "the server still runs");
        std::thread::yield_now();
    }
}
