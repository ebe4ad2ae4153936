//! `longlived simulate`: clients that outlive their server, and a verdict that can be trusted.

use rustix::process::Signal;

use super::cli_support::{Process, Server, free_address, json, on_a_terminal, run};

/// For each of the clients 1 to 3 a line that holds all of `parts`.
fn three(process: &Process, parts: &[&str]) {
    for client in ["client 1 ", "client 2 ", "client 3 "] {
        let parts: Vec<&str> = [client].iter().chain(parts).copied().collect();
        process.stdout.line_with(&parts);
    }
}

#[test]
fn clients_come_before_their_server_survive_its_death_and_leave_with_ok() {
    let address = free_address();
    let url = format!("http://{address}");
    let simulate = [
        "simulate",
        "--server",
        &url,
        "--clients",
        "3",
        "--stagger",
        "10ms",
    ];
    let simulation = Process::start(&simulate);
    three(&simulation, &["has no stream yet", "backing off"]);

    let flags = ["--generate-every", "200ms"];
    let server = Server::start_at(address, &flags);
    three(&simulation, &["subscribed"]);
    three(&simulation, &["inbox.", "#", "data mock for: "]);

    server.kill();
    three(&simulation, &["lost its stream", "backing off"]);
    let _server = Server::start_at(address, &flags);
    three(&simulation, &["resubscribed"]);
    three(&simulation, &["gap announced"]);
    let again = simulation.stdout.all().len();
    simulation
        .stdout
        .until("events after the restart", |lines| {
            ["inbox.1 ", "inbox.2 ", "inbox.3 "]
                .iter()
                .all(|inbox| lines[again..].iter().any(|line| line.contains(inbox)))
        });

    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}");
    assert!(text.contains("SIGINT: unsubscribing everybody"), "{text}");
    assert_eq!(text.matches("stream ended OK").count(), 3, "{text}");
    assert!(text.contains("Unsubscribed: 3 of 3"), "{text}");
    assert!(text.contains("Nothing lost, nothing repeated."), "{text}");
    assert!(text.contains("3 gaps were announced"), "{text}");
    assert!(ended.stderr.is_empty(), "{:?}", ended.stderr);
}

#[test]
fn of_many_clients_the_numbers_are_printed_and_a_duration_ends_it() {
    let server = Server::start(&["--generate-every", "500ms"]);
    let simulate = ["simulate", "--server", &server.url, "--clients"];
    let many = [&simulate[..], &["150", "--stagger", "1ms"]].concat();
    let simulation = Process::start(&many);
    let all = "connected 150/150  reconnecting 0  delivered ";
    simulation.stdout.line_with(&[all]);
    simulation.stdout.until("deliveries", |lines| {
        let told = lines.iter().filter_map(|line| line.split_once(all));
        told.into_iter().any(|(_, rate)| !rate.starts_with("0/s"))
    });
    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}");
    assert!(text.contains("150 clients over 2 connections"), "{text}");
    assert!(!text.contains("data mock for"), "{text}");
    assert!(text.contains("Unsubscribed: 150 of 150"), "{text}");

    // With a duration nobody has to tell it; whether that was enough for everybody is another matter.
    let ended = run(&[&simulate[..], &["3", "--duration", "1s"]].concat());
    let text = ended.stdout.join("\n");
    assert!(text.contains("unsubscribing everybody"), "{text}");
    assert!(text.contains("Unsubscribed: "), "{text}");
}

#[test]
fn clients_that_had_no_time_to_start_spoil_the_verdict() {
    let server = Server::start(&["--generate-every", "1s"]);
    let simulate = [
        "simulate",
        "--server",
        &server.url,
        "--clients",
        "300",
        "--stagger",
        "200ms",
        "--duration",
        "3s",
    ];
    let ended = run(&simulate);
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(1), "{text}");
    assert!(
        text.contains("the last client starts after 59s 800ms"),
        "{text}"
    );
    assert!(
        text.contains(" of 300 clients were never current"),
        "{text}"
    );
    assert!(!text.contains("Nothing lost"), "{text}");
    // Without a stagger of its own the same run has time for all, where the machine has.
    let mut ended = run(&[&simulate[..5], &simulate[7..]].concat());
    for longer in ["15s", "100s"] {
        if ended.code == Some(0) {
            break;
        }
        ended = run(&[&simulate[..5], &["--duration", longer]].concat());
    }
    assert_eq!(ended.code, Some(0), "{}", ended.stdout.join("\n"));
}

#[test]
fn clients_that_were_taken_over_spoil_the_verdict() {
    let server = Server::start(&["--generate-every", "100ms"]);
    let simulate = ["simulate", "--server", &server.url, "--clients", "2"];
    let published = [&simulate[..], &["--publish-every", "20ms"]].concat();
    let first = Process::start(&published);
    for client in ["client 1 ", "client 2 "] {
        first.stdout.line_with(&[client, "simulated message "]);
    }
    let second = Process::start(&simulate);
    for client in ["client 1 ", "client 2 "] {
        second.stdout.line_with(&[client, "data mock for: "]);
    }
    // It ends by itself: there is nobody left.
    let ended = first.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(1), "{text}");
    let told = "2 ended before they were told to; clients 1, 2: ";
    assert!(text.contains(told), "{text}");
    // The server has done nothing wrong: later events went to the others.
    assert!(!text.contains("lost without a word"), "{text}");
    assert!(!text.contains("Nothing lost"), "{text}");
    second.signal(Signal::INT);
    assert_eq!(second.ended().code, Some(0));
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_plain_lines() {
    let server = Server::start(&["--generate-every", "100ms"]);
    let simulate = ["simulate", "--server", &server.url, "--clients", "20"];
    let is_there = |shown: &str| shown.contains("connected 20/20");
    let dumb = on_a_terminal("dumb", 0, &simulate, is_there);
    assert!(dumb.contains("20 clients over 1 connection"), "{dumb}");
    assert!(dumb.contains("connected 20/20"), "{dumb}");
    assert!(dumb.contains("Nothing lost"), "{dumb}");
    assert!(!dumb.contains('\u{1b}'), "{dumb}");
    let able = on_a_terminal("xterm", 0, &simulate, is_there);
    assert!(able.contains("connected 20/20"), "{able}");
    assert!(able.contains('\u{1b}'), "{able}");
}

#[test]
fn with_the_frozen_contract_the_number_of_lost_events_is_unknown() {
    let server = Server::start(&["--generate-every", "200ms"]);
    let simulate = ["simulate", "--server", &server.url, "--clients", "2"];
    let simulate = [&simulate[..], &["--contract", "protos"]].concat();
    let simulation = Process::start(&simulate);
    for client in ["client 1 ", "client 2 "] {
        simulation.stdout.line_with(&[client, "data mock for: "]);
    }
    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(0), "{text}");
    assert!(text.contains("data mock for: 1"), "{text}");
    assert!(text.contains("unknown"), "{text}");
    assert!(text.contains("cannot be known"), "{text}");
    assert!(text.contains("Unsubscribed: 2 of 2"), "{text}");
}

#[test]
fn without_data_it_says_how_to_make_some_and_fails() {
    let server = Server::start(&[]);
    let ended = run(&[
        "simulate",
        "--server",
        &server.url,
        "--clients",
        "2",
        "--stagger",
        "0s",
        "--topic",
        "orders.>",
        "orders.eu",
        "--duration",
        "6500ms",
    ]);
    let text = ended.stdout.join("\n");
    assert_eq!(ended.code, Some(1), "{text}");
    assert!(text.contains("no data for 5 s"), "{text}");
    let hint = format!("longlived publish --server {} orders.eu hello", server.url);
    assert!(text.contains(&hint), "{text}");
    assert!(
        text.contains("longlived serve --generate-every 1s"),
        "{text}"
    );
    assert!(text.contains("Nothing was delivered"), "{text}");
}

#[test]
fn the_hint_makes_data() {
    let server = Server::start(&[]);
    let simulate = [
        "simulate",
        "--server",
        &server.url,
        "--clients",
        "2",
        "--stagger",
        "0s",
        "--topic",
        "orders.>",
        "orders.eu",
    ];
    let simulation = Process::start(&simulate);
    for client in ["client 1 ", "client 2 "] {
        simulation.stdout.line_with(&[client, "subscribed"]);
    }
    server.publish("orders.eu", "hello");
    for client in ["client 1 ", "client 2 "] {
        simulation
            .stdout
            .line_with(&[client, "orders.eu #1  hello"]);
    }
    simulation.signal(Signal::TERM);
    let ended = simulation.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn with_json_each_line_is_an_object_and_the_last_one_the_verdict() {
    let server = Server::start(&["--generate-every", "200ms"]);
    let simulate = [
        "simulate",
        "--server",
        &server.url,
        "--clients",
        "2",
        "--json",
    ];
    let simulation = Process::start(&simulate);
    simulation
        .stdout
        .line_with(&[r#""type":"event","client":1"#]);
    simulation
        .stdout
        .line_with(&[r#""type":"event","client":2"#]);
    simulation.signal(Signal::INT);
    let ended = simulation.ended();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.stdout.iter().map(|line| json(line)).collect();
    let event = lines.iter().find(|line| line["type"] == "event").unwrap();
    assert!(
        event["payload"]
            .as_str()
            .unwrap()
            .starts_with("data mock for: ")
    );
    let verdict = lines.last().unwrap();
    assert_eq!(verdict["type"], "verdict");
    assert_eq!(verdict["lost"], 0);
    assert_eq!(verdict["unsubscribed_ok"], 2);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    // A server that is away cannot be unsubscribed from; neither does it hold anybody up.
    let url = format!("http://{}", free_address());
    let simulation = Process::start(&["simulate", "--server", &url, "--clients", "2"]);
    simulation.stdout.line_with(&["client 1 ", "backing off"]);
    simulation.signal(Signal::INT);
    simulation.signal(Signal::TERM);
    let ended = simulation.ended();
    assert!(matches!(ended.code, Some(1 | 143 | 130)), "{ended:?}");
}
