//! `longlived demo`: the first thing that anybody runs.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tokio::time::Instant;

use super::cli_support::{PATIENCE, Process, run};
use super::support::stop_signals;

/// A demo gives up where a person would; a slow machine is waited for.
const SLOWLY: [&str; 2] = ["--give-up-after", "150s"];

/// The processes of the servers that a demo named.
fn server_processes(lines: &[String]) -> Vec<PathBuf> {
    let number = |line: &String| {
        let after = ["It is process ", "the same command (pid "];
        let rest = after.iter().find_map(|it| Some(line.split_once(it)?.1))?;
        let end = rest.find(|it: char| !it.is_ascii_digit())?;
        Some(PathBuf::from(format!("/proc/{}", &rest[..end])))
    };
    lines.iter().filter_map(number).collect()
}

/// The directory in which a demo's server keeps its history.
fn data_dir(lines: &[String]) -> Option<PathBuf> {
    let rest = lines
        .iter()
        .find_map(|line| Some(line.split_once("--data-dir ")?.1))?;
    Some(PathBuf::from(rest.split(' ').next()?))
}

/// The directory with the certificate and the auth file of a demo's server.
fn credentials(lines: &[String]) -> Option<PathBuf> {
    let rest = lines
        .iter()
        .find_map(|line| Some(line.split_once("--auth ")?.1))?;
    let file = Path::new(rest.split(' ').next()?);
    Some(file.parent()?.to_owned())
}

/// Runs a demo that comes through. Returns its output.
fn survived(arguments: &[&str], gaps: &str) -> Vec<String> {
    let ended = run(&[arguments, &SLOWLY].concat());
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}\n{:?}", ended.stderr);
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
    assert_eq!(&all[5..7], [gaps, "10"], "gaps and reconnects: {text}");
    assert!(text.contains("Nothing lost, nothing repeated."), "{text}");
    let servers = server_processes(&ended.stdout);
    assert_eq!(servers.len(), 2, "{text}");
    assert!(servers.iter().all(|server| !server.exists()), "{servers:?}");
    ended.stdout
}

#[test]
fn everybody_goes_on_where_it_was_when_history_is_on_disk() {
    let lines = survived(&["demo"], "0");
    let text = lines.join("\n");
    assert!(
        text.contains("40 lines acknowledged on disk x 10 clients = 400 deliveries: 400 made, 0 "),
        "{text}"
    );
    assert!(text.contains("no gap, the same epoch."), "{text}");
    assert!(!text.contains("gap announced"), "{text}");
    assert!(!text.contains("published twice"), "{text}");
    let dir = data_dir(&lines).expect("a directory is named");
    assert!(!dir.exists(), "{} is left behind", dir.display());
}

#[test]
fn every_client_is_told_of_lost_events_when_history_is_in_memory() {
    let lines = survived(&["demo", "--memory"], "10");
    let text = lines.join("\n");
    assert!(
        text.contains("40 lines acknowledged in memory x 10"),
        "{text}"
    );
    assert!(text.contains("10 gaps were announced"), "{text}");
    assert!(!text.contains("the same epoch"), "{text}");
    assert_eq!(data_dir(&lines), None);
}

/// What a demo over TLS tells beside the rest.
fn told_of_tls(lines: &[String]) {
    let text = lines.join("\n");
    assert!(text.contains("serve --listen tls://127.0.0.1:"), "{text}");
    for (brings, said) in [
        ("without a token", "UNAUTHENTICATED, CREDENTIAL_MISSING: "),
        (
            "with a token that a foreign key signed",
            "UNAUTHENTICATED, CREDENTIAL_INVALID: ",
        ),
        (
            "with a token for another topic",
            "PERMISSION_DENIED, NOT_GRANTED: ",
        ),
    ] {
        let told = format!("{brings}: refused with {said}");
        assert!(text.contains(&told), "{told}: {text}");
    }
    let killed = text.find("killed (pid ").expect("a kill");
    for client in 1..=10 {
        let renewed =
            format!("client {client:<3} was told that its token ends soon, and renewed it");
        let at = text.find(&renewed);
        assert!(at.is_some_and(|at| at < killed), "{renewed}: {text}");
    }
    for sentence in [
        "Everything went over TLS, and all three strangers were refused.",
        "Each of the 10 clients renewed its token by a second stream before it left the first: ",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }
    // A JWT begins with the base64 of `{"`.
    for secret in ["eyJ", "Bearer", "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let folder = credentials(lines).expect("an auth file is named");
    assert!(!folder.exists(), "{} is left behind", folder.display());
}

#[test]
fn over_tls_strangers_are_refused_and_everybody_renews_its_token_and_misses_nothing() {
    let lines = survived(&["demo", "--tls"], "0");
    told_of_tls(&lines);
    let text = lines.join("\n");
    assert!(text.contains("no gap, the same epoch."), "{text}");
}

#[test]
fn over_tls_a_short_file_in_memory_is_told_of_as_well() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
    let path = file.path().to_str().unwrap();
    let lines = survived(&["demo", "--tls", "--memory", "--file", path], "10");
    told_of_tls(&lines);
    let text = lines.join("\n");
    assert!(
        text.contains("3 lines acknowledged in memory x 10"),
        "{text}"
    );
    assert_eq!(data_dir(&lines), None);
}

/// Sends a signal to a demo in the middle of its text. Returns its server's directory once the server is gone.
fn interrupted(arguments: &[&str], signal: Signal, code: i32) -> PathBuf {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\ntwo\nthree\n").unwrap();
    let mut all = vec!["demo", "--file", file.path().to_str().unwrap()];
    all.extend(SLOWLY);
    all.extend(arguments);
    let demo = Process::start(&all);
    demo.stdout.line_with(&["line 1", "10 of 10", "one"]);
    let lines = demo.stdout.all();
    let servers = server_processes(&lines);
    assert_eq!(servers.len(), 1);
    assert!(servers[0].exists());
    let dir = data_dir(&lines).expect("a directory is named");
    assert!(dir.join("META").exists());
    let credentials = credentials(&lines);
    assert!(credentials.iter().all(|folder| folder.exists()));
    demo.signal(signal);
    let ended = demo.ended();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let deadline = Instant::now() + PATIENCE;
    while servers[0].exists() {
        assert!(Instant::now() < deadline, "the server still runs");
        std::thread::yield_now();
    }
    assert!(credentials.iter().all(|folder| !folder.exists()));
    dir
}

#[test]
fn an_interrupted_demo_takes_its_server_and_its_directory_along() {
    for (signal, code) in stop_signals() {
        let dir = interrupted(&[], signal, code);
        assert!(!dir.exists(), "{} is left behind", dir.display());
    }
}

#[test]
fn a_directory_that_is_given_is_kept_and_that_of_the_certificate_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let given = parent.path().join("data");
    let arguments = ["--tls", "--data-dir", given.to_str().unwrap()];
    let dir = interrupted(&arguments, Signal::TERM, 143);
    assert_eq!(dir, given);
    assert!(given.join("META").exists());
}

#[test]
fn a_demo_whose_server_cannot_start_says_why_and_leaves_the_directory_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letters"), "mine").unwrap();
    let ended = run(&["demo", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].contains("holds `letters`"), "{ended:?}");
    let names = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!(names(dir.path()), 1);
}

#[test]
fn a_gap_fails_the_demo_when_history_is_on_disk() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\ntwo\nthree\nfour\n").unwrap();
    let path = file.path().to_str().unwrap();
    let demo = Process::start(&[&["demo", "--file", path][..], &SLOWLY].concat());
    demo.stdout.line_with(&["killed (pid "]);
    // The server is dead for two seconds, and for as long as nobody can start it; meanwhile its disk is lost.
    demo.signal(Signal::STOP);
    let dir = data_dir(&demo.stdout.all()).expect("a directory is named");
    std::fs::remove_dir_all(&dir).unwrap();
    demo.signal(Signal::CONT);
    let ended = demo.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(1), "{text}");
    for said in [
        "10 gaps were announced although history is on disk.",
        "Positions had 2 epochs instead of one.",
        "The demo did not come through.",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert!(!text.contains("no gap, the same epoch"), "{text}");
    assert!(!dir.exists(), "{} is left behind", dir.display());
}
