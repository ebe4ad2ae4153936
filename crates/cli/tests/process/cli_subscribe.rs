//! `longlived subscribe`: its output, and the position at which the next run goes on.

use rustix::process::Signal;

use super::cli_support::{Process, Server, json};

/// The payloads of JSON lines that are events.
fn payloads(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| json(line))
        .filter(|line| line["type"] == "event")
        .map(|event| event["payload"].as_str().unwrap().to_owned())
        .collect()
}

fn subscribe<'a>(server: &'a Server, more: &[&'a str]) -> Vec<&'a str> {
    ["subscribe", "--server", &server.url, "orders.>", "--json"]
        .iter()
        .chain(more)
        .copied()
        .collect()
}

#[test]
fn a_position_file_continues_across_runs_without_loss_or_repeat() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.position");
    let file = file.to_str().unwrap();
    let flags = subscribe(&server, &["--from", "earliest", "--position-file", file]);
    let mut got = Vec::new();
    let mut published = 0;
    let mut publish = |count: u32| {
        for _ in 0..count {
            published += 1;
            server.publish("orders.eu", &published.to_string());
        }
    };

    // The first run begins with the kept events, and ends on SIGTERM.
    publish(3);
    let first = Process::start(&flags);
    first.stdout.until("3 events", |lines| lines.len() == 3);
    publish(1);
    first.stdout.until("4 events", |lines| lines.len() == 4);
    first.signal(Signal::TERM);
    let ended = first.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    got.extend(payloads(&ended.stdout));

    // The second is killed when it had time to save.
    publish(2);
    let second = Process::start(&flags);
    second.stdout.until("2 events", |lines| lines.len() == 2);
    let saved = |sequence: u64| {
        let ends = format!("/{sequence}\n");
        let deadline = tokio::time::Instant::now() + super::cli_support::PATIENCE;
        while !std::fs::read_to_string(file).unwrap().ends_with(&ends) {
            assert!(tokio::time::Instant::now() < deadline, "not saved");
            std::thread::yield_now();
        }
    };
    saved(6);
    got.extend(payloads(&second.stdout.all()));
    second.kill();

    // The third has something new only.
    publish(2);
    let third = Process::start(&flags);
    third.stdout.until("2 events", |lines| lines.len() == 2);
    third.signal(Signal::INT);
    let ended = third.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    got.extend(payloads(&ended.stdout));
    assert_eq!(got, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn events_before_the_first_event_of_a_run_are_not_lost_to_the_next() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.position");
    let file = file.to_str().unwrap();
    let flags = subscribe(&server, &["--position-file", file]);
    // Nothing is published while it runs; it stands at the end of the log all the same.
    let first = Process::start(&flags);
    first.stderr.line_with(&["subscribed"]);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code, Some(0));
    server.publish("orders.eu", "between");
    let second = Process::start(&flags);
    let lines = second.stdout.until("1 event", |lines| !lines.is_empty());
    assert_eq!(payloads(&lines), ["between"]);
}

#[test]
fn an_empty_position_file_is_a_new_subscription_and_said_to_be_one() {
    let server = Server::start(&[]);
    server.publish("orders.eu", "before");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.position");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let flags = subscribe(&server, &["--from", "earliest", "--position-file", file]);
    let first = Process::start(&flags);
    first
        .stderr
        .line_with(&[file, "is empty", "new subscription"]);
    let lines = first.stdout.until("1 event", |lines| !lines.is_empty());
    assert_eq!(payloads(&lines), ["before"]);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code, Some(0));
    let saved = std::fs::read_to_string(file).unwrap();
    assert!(saved.ends_with("/1\n"), "{saved}");
}

#[test]
fn a_server_that_was_killed_is_called_lost_and_nothing_else() {
    let server = Server::start(&[]);
    let subscriber = Process::start(&subscribe(&server, &[]));
    subscriber.stderr.line_with(&["subscribed"]);
    server.kill();
    let said = subscriber
        .stderr
        .line_with(&["connection to the server lost"]);
    assert!(!said.to_lowercase().contains("pipe"), "{said}");
    assert!(!said.contains("reset"), "{said}");
}

#[test]
fn it_begins_where_it_is_told_to() {
    let server = Server::start(&[]);
    for payload in ["1", "2", "3"] {
        server.publish("orders.eu", payload);
    }
    let earliest = Process::start(&subscribe(&server, &["--from", "earliest"]));
    let lines = earliest.stdout.until("3 events", |lines| lines.len() == 3);
    let second = json(&lines[1]);
    let position = format!("{}/{}", second["epoch"], second["sequence"]);
    let time = second["time"].as_str().unwrap();
    for (from, expected) in [
        (position.as_str(), &["3"][..]),
        (time, &["2", "3"][..]),
        ("1h", &["1", "2", "3"][..]),
    ] {
        let subscriber = Process::start(&subscribe(&server, &["--from", from]));
        let lines = subscriber
            .stdout
            .until(from, |lines| lines.len() == expected.len());
        assert_eq!(payloads(&lines), expected, "--from {from}");
    }
    // Without it: with the next event.
    let next = Process::start(&subscribe(&server, &[]));
    next.stderr.line_with(&["subscribed"]);
    server.publish("orders.eu", "4");
    let lines = next.stdout.until("1 event", |lines| !lines.is_empty());
    assert_eq!(payloads(&lines), ["4"]);
}

#[test]
fn a_killed_server_is_a_gap_and_not_an_end() {
    let server = Server::start(&[]);
    let flags = subscribe(&server, &[]);
    let subscriber = Process::start(&flags);
    subscriber.stderr.line_with(&["subscribed"]);
    server.publish("orders.eu", "before");
    subscriber.stdout.line_with(&["before"]);
    let address = server.kill();
    subscriber.stderr.line_with(&["back in"]);
    let server = Server::start_at(address, &[]);
    subscriber.stderr.line_with(&["resubscribed"]);
    server.publish("orders.eu", "after");
    subscriber.stdout.line_with(&["after", r#""type":"event""#]);
    let lines: Vec<_> = subscriber
        .stdout
        .all()
        .iter()
        .map(|line| json(line))
        .collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[1]["type"], "gap");
    assert_eq!(lines[1]["reason"], "epoch_changed");
    assert_eq!(lines[1]["after"]["sequence"], 1);
    assert_ne!(lines[1]["after"]["epoch"], lines[1]["through"]["epoch"]);
    let why = "the position is of another epoch, that of an earlier history";
    subscriber.stderr.line_with(&["gap: ", why]);
}

#[test]
fn a_person_reads_topic_sequence_key_payload_and_headers() {
    let server = Server::start(&[]);
    let publish = [
        "publish",
        "--server",
        &server.url,
        "orders.eu",
        "42\nboxes",
        "--key",
        "order-17",
        "--header",
        "a=b",
    ];
    assert_eq!(super::cli_support::run(&publish).code, Some(0));
    let flags = [
        "subscribe",
        "--server",
        &server.url,
        "orders.eu",
        "--from",
        "earliest",
    ];
    let subscriber = Process::start(&flags);
    subscriber
        .stdout
        .line_with(&[r"Z  orders.eu #1  [order-17]  42\nboxes  {a=b}"]);
}

#[test]
fn a_refused_subscription_says_why() {
    let server = Server::start(&[]);
    let ended = super::cli_support::run(&["subscribe", "--server", &server.url, "inbox.7"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].contains("inbox.7"), "{ended:?}");
}

#[test]
fn a_position_file_that_is_something_else_is_left_alone() {
    let server = Server::start(&[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Dear reader").unwrap();
    let path = file.path().to_str().unwrap();
    let flags = subscribe(&server, &["--position-file", path]);
    let ended = super::cli_support::run(&flags);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains(path), "{ended:?}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "Dear reader");
}
