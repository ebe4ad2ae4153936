//! `longlived topics`: the list, the history and the check, against a real server.

use super::cli_support::{Ended, Process, Server, free_address, json, run, run_with_input};

fn topics(server: &Server, arguments: &[&str]) -> Ended {
    let all: Vec<&str> = ["topics", "--server", &server.url]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    run(&all)
}

fn publish_lines(server: &Server, topic: &str, count: usize) {
    let publish = ["publish", "--server", &server.url, topic, "--lines"];
    let ended = run_with_input(&publish, "x\n".repeat(count).as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn the_list_has_the_kept_events_of_each_topic_and_its_subscribers() {
    let server = Server::start(&["--history", "orders.>=events:3"]);
    publish_lines(&server, "orders.eu", 5);
    server.publish("orders.us", "x");
    server.publish("parcels", "x");
    let subscriber = Process::start(&[
        "subscribe",
        "--server",
        &server.url,
        "orders.>",
        "orders.eu",
        "--from",
        "earliest",
    ]);
    subscriber.stdout.line_with(&["orders.us #6"]);

    let ended = topics(&server, &["--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.iter().map(|line| json(line)).collect();
    assert_eq!(lines.len(), 4);
    let row = |line: &serde_json::Value| {
        let number = |name: &str| line[name].as_u64();
        (
            line["topic"].as_str().unwrap().to_owned(),
            number("first"),
            number("last"),
            number("events"),
            number("subscribers"),
        )
    };
    let all = |n| Some(n);
    assert_eq!(
        row(&lines[0]),
        ("orders.eu".to_owned(), all(4), all(5), all(2), all(1))
    );
    assert_eq!(
        row(&lines[1]),
        ("orders.us".to_owned(), all(6), all(6), all(1), all(1))
    );
    assert_eq!(
        row(&lines[2]),
        ("parcels".to_owned(), all(7), all(7), all(1), all(0))
    );
    assert_eq!(lines[3]["type"], "topics");
    assert_eq!(
        (&lines[3]["head"], &lines[3]["events"]),
        (&7.into(), &4.into())
    );
    assert!(lines[3].get("more").is_none());

    let ended = topics(&server, &["orders.*"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stdout.iter().any(|line| line.contains("2 topics")),
        "{ended:?}"
    );
    assert!(
        !ended.stdout.iter().any(|line| line.contains("parcels")),
        "{ended:?}"
    );
    let ended = topics(&server, &["--limit", "2"]);
    assert!(
        ended.stdout.iter().any(|line| line.contains("2 topics")),
        "{ended:?}"
    );
    assert!(
        ended.stdout.last().unwrap().contains("--limit"),
        "{ended:?}"
    );
}

#[test]
fn the_history_is_read_in_pieces_and_each_says_where_the_next_begins() {
    let server = Server::start(&["--history", "a=events:4"]);
    publish_lines(&server, "b", 2);
    publish_lines(&server, "a", 10);
    let whole = topics(&server, &["--history", "--json", "a", "b"]);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let lines: Vec<_> = whole.stdout.iter().map(|line| json(line)).collect();
    let types: Vec<_> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "event", "event", "gap", "event", "event", "event", "event", "next"
        ]
    );
    assert_eq!(lines[2]["after"]["sequence"], 2);
    assert_eq!(lines[2]["through"]["sequence"], 8);
    assert_eq!(lines[7]["end"], true);

    let mut pieces = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..20 {
        let mut arguments = vec!["--history", "--json", "a", "b", "--limit", "2"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let mut piece = topics(&server, &arguments);
        let next = json(&piece.stdout.pop().unwrap());
        assert!(piece.stdout.len() <= 2, "{piece:?}");
        pieces.extend(piece.stdout);
        if next["end"] == true {
            break;
        }
        after = Some(format!("{}/{}", next["epoch"], next["sequence"]));
    }
    assert_eq!(pieces, whole.stdout[..7]);

    let text = topics(&server, &["--history", "a", "--limit", "1"]);
    assert_eq!(text.stdout.len(), 1, "{text:?}");
    assert!(text.stdout[0].contains("a #9"), "{text:?}");
    assert!(text.stderr[0].contains("--after "), "{text:?}");
}

#[test]
fn the_check_ends_with_3_where_something_would_be_missed() {
    let server = Server::start(&["--history", "a=events:4"]);
    publish_lines(&server, "a", 10);
    let listed = topics(&server, &["--json"]);
    let epoch = json(listed.stdout.last().unwrap())["epoch"]
        .as_u64()
        .unwrap();
    let other = epoch % 1_000 + 1;
    for (position, state, code) in [
        (format!("{epoch}/6"), "resumable", 0),
        (format!("{epoch}/10"), "resumable", 0),
        (format!("{epoch}/5"), "missing", 3),
        (format!("{epoch}/11"), "future", 3),
        (format!("{other}/6"), "epoch_changed", 3),
    ] {
        let ended = topics(&server, &["a", "--check", &position, "--json"]);
        assert_eq!(ended.code, Some(code), "{position}: {ended:?}");
        let answer = json(&ended.stdout[0]);
        assert_eq!(answer["state"], state, "{position}");
        assert_eq!(answer.get("gap").is_some(), code == 3);
        assert_eq!(answer["earliest"]["sequence"], 6);
        let text = topics(&server, &["a", "--check", &position]);
        assert_eq!(text.code, Some(code), "{text:?}");
        assert!(text.stdout[0].contains(&position), "{text:?}");
        let other_epoch = "the position is of another epoch, that of an earlier history";
        let is_said = text.stdout[0].contains(other_epoch);
        assert_eq!(is_said, state == "epoch_changed", "{text:?}");
    }
}

#[test]
fn a_refusal_of_the_server_is_one_line_and_exit_1() {
    let server = Server::start(&[]);
    server.publish("inbox.me", "x");
    let ended = topics(&server, &["inbox.>"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].contains("PERMISSION_DENIED"), "{ended:?}");
    let ended = topics(&server, &["inbox.me", "--id", "me"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let url = format!("http://{}", free_address());
    for asked in [&[][..], &["--history"], &["--check", "7/1"]] {
        let ended = run(&[&["topics", "--server", &url], asked].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(&url), "{ended:?}");
    }
}

#[test]
fn wrong_arguments_are_named_before_anything_is_asked() {
    let cases: &[(&[&str], &str)] = &[
        (&["topics", "a..b"], "a..b"),
        (&["topics", "a", "b"], "FILTER"),
        (&["topics", "--limit", "0"], "--limit"),
        (&["topics", "--after", "7/1"], "--history"),
        (&["topics", "--history", "--after", "7/"], "--after"),
        (&["topics", "--check", "7"], "--check"),
        (&["topics", "--check", "7/1", "--history"], "--history"),
        (&["topics", "--check", "7/1", "--after", "7/1"], "--check"),
        (&["topics", "--id", "a b"], "--id"),
    ];
    for (arguments, named) in cases {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{arguments:?}: {ended:?}");
        assert!(ended.stderr[0].contains(named), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    let ended = run(&["topics", "--help"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
