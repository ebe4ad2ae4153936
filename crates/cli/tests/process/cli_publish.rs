//! `longlived publish`, and the events of its subscribers.

use std::io::Write as _;
use std::process::Stdio;

use super::cli_support::{Process, Server, command, free_address, json, run, run_with_input};

#[test]
fn the_answer_names_position_and_durability() {
    let server = Server::start(&[]);
    let ended = run(&["publish", "--server", &server.url, "orders.eu", "42 boxes"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout.len(), 1, "{ended:?}");
    assert!(
        ended.stdout[0].contains("/1, durability memory"),
        "{ended:?}"
    );
}

#[test]
fn a_message_id_is_stored_once() {
    let server = Server::start(&[]);
    let publish = [
        "publish",
        "--server",
        &server.url,
        "orders.eu",
        "42 boxes",
        "--message-id",
        "order-17",
        "--json",
    ];
    let (first, second) = (run(&publish), run(&publish));
    let (first, second) = (json(&first.stdout[0]), json(&second.stdout[0]));
    assert_eq!(first["duplicate"], false);
    assert_eq!(second["duplicate"], true);
    assert_eq!(first["sequence"], second["sequence"]);
    assert_eq!(first["durability"], "memory");
}

#[test]
fn each_line_of_the_input_is_a_message_with_key_headers_and_an_id_of_its_own() {
    let server = Server::start(&[]);
    let publish = [
        "publish",
        "--server",
        &server.url,
        "orders.eu",
        "--lines",
        "--key",
        "k",
        "--header",
        "a=b",
        "--header",
        "c=d=e",
        "--message-id",
        "import",
    ];
    let ended = run_with_input(&publish, b"one\n\nthree \xff\nfour");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout[0].contains("published 4 lines"), "{ended:?}");
    let again = run_with_input(&publish, b"one\n\nthree \xff\nfour\nfive\n");
    assert!(
        again.stdout[0].contains("(4 had been published before)"),
        "{again:?}"
    );

    let subscribe = [
        "subscribe",
        "--server",
        &server.url,
        "orders.>",
        "--from",
        "earliest",
        "--json",
    ];
    let subscriber = Process::start(&subscribe);
    let lines = subscriber
        .stdout
        .until("5 events", |lines| lines.len() == 5);
    let events: Vec<_> = lines.iter().map(|line| json(line)).collect();
    let payloads: Vec<_> = events
        .iter()
        .map(|event| event["payload"].as_str())
        .collect();
    assert_eq!(
        payloads,
        [Some("one"), Some(""), None, Some("four"), Some("five")]
    );
    assert_eq!(events[2]["payload_base64"], "dGhyZWUg/w==");
    for event in &events {
        assert_eq!(event["type"], "event");
        assert_eq!(event["topic"], "orders.eu");
        assert_eq!(event["key"], "k");
        assert_eq!(event["headers"]["c"], "d=e");
        assert!(event["epoch"].is_u64() && event["sequence"].is_u64());
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
    }
}

#[test]
fn with_json_each_acknowledged_line_is_one_object() {
    let server = Server::start(&[]);
    let publish = ["publish", "--server", &server.url, "a", "--lines", "--json"];
    let input = "x\n".repeat(1_000);
    let ended = run_with_input(&publish, input.as_bytes());
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    let sequences: Vec<_> = ended
        .stdout
        .iter()
        .map(|line| json(line)["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (1..=1_000).collect::<Vec<u64>>());
}

#[test]
fn nothing_is_published_where_there_is_nothing() {
    let server = Server::start(&[]);
    let ended = run_with_input(&["publish", "--server", &server.url, "a", "--lines"], b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout[0].contains("nothing to publish"), "{ended:?}");
}

#[test]
fn a_refusal_names_the_limit_and_the_line() {
    let server = Server::start(&["--event-bytes-max", "1000"]);
    let publish = ["publish", "--server", &server.url, "a", "--lines"];
    let input = format!("short\n{}\nnever sent\n", "x".repeat(2_000));
    let ended = run_with_input(&publish, input.as_bytes());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].contains("line 2"), "{ended:?}");
    assert!(ended.stderr[0].contains("1000"), "{ended:?}");
}

#[test]
fn lines_that_were_acknowledged_and_are_gone_are_said_with_an_exit_status_of_their_own() {
    let server = Server::start(&[]);
    let url = server.url.clone();
    let publish = ["publish", "--server", &url, "a", "--lines", "--json"];
    let mut publisher = Process::spawn(command(&publish).stdin(Stdio::piped()));
    let mut input = publisher.stdin();
    input.write_all(b"one\ntwo\n").unwrap();
    publisher
        .stdout
        .until("two answers", |lines| lines.len() == 2);
    let address = server.kill();
    let server = Server::start_at(address, &[]);
    input.write_all(b"three\n").unwrap();
    publisher
        .stdout
        .until("three answers", |lines| lines.len() == 3);
    drop(input);
    let ended = publisher.ended();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let said = ended.stderr.join("\n");
    assert!(
        said.contains("lines 1 to 2 were acknowledged and gone"),
        "{said}"
    );
    assert!(said.contains("publish them again"), "{said}");
    drop(server);
}

#[test]
fn lines_that_were_all_answered_are_a_call_that_ended_with_ok() {
    let server = Server::start(&[]);
    let publish = ["publish", "--server", &server.url, "a", "--lines"];
    let ended = run_with_input(&publish, b"one\ntwo\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = server.said(&["call ended", "PublishStream"]);
    assert!(line.contains("status=\"OK\""), "{line}");
    assert!(line.contains("published=2"), "{line}");
}

#[test]
fn an_error_names_the_server() {
    let url = format!("http://{}", free_address());
    let commands: [&[&str]; 2] = [
        &["publish", "--timeout", "300ms", "a", "x"],
        &["publish", "--timeout", "300ms", "a", "--lines"],
    ];
    for command in commands {
        let ended = run_with_input(&[command, &["--server", &url]].concat(), b"x\n");
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(&url), "{ended:?}");
    }
    let subscriber = Process::start(&["subscribe", "a", "--server", &url]);
    subscriber
        .stderr
        .line_with(&["cli-", &url, "cannot connect"]);
    let server = Server::start(&[]);
    let inbox = ["subscribe", "inbox.other", "--server", &server.url];
    let ended = run(&inbox);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.last().unwrap();
    assert!(last.contains(&server.url), "{ended:?}");
    assert!(last.contains("PERMISSION_DENIED"), "{ended:?}");
}

#[test]
fn a_server_that_is_away_is_waited_for_no_longer_than_told() {
    let url = format!("http://{}", free_address());
    let ended = run(&["publish", "--server", &url, "a", "x", "--timeout", "300ms"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains("not stored"), "{ended:?}");
}

#[test]
fn a_server_that_was_killed_is_called_lost_and_no_pipe() {
    let server = Server::start(&[]);
    let lines = ["publish", "--server", &server.url, "a", "--lines", "--json"];
    let lines = [&lines[..], &["--timeout", "1s"]].concat();
    let mut process = Process::spawn(command(&lines).stdin(Stdio::piped()));
    let mut stdin = process.stdin();
    // Ends when nobody reads it any more.
    let feeding = std::thread::spawn(move || while writeln!(stdin, "a line").is_ok() {});
    process
        .stdout
        .until("acknowledgements", |lines| lines.len() > 100);
    server.kill();
    let ended = process.ended();
    feeding.join().unwrap();
    assert_eq!(ended.code, Some(1), "{:?}", ended.stderr);
    let said = ended.stderr.join("\n").to_lowercase();
    assert!(
        said.contains("lost") || said.contains("cannot connect"),
        "{said}"
    );
    assert!(!said.contains("pipe") && !said.contains("reset"), "{said}");
}
