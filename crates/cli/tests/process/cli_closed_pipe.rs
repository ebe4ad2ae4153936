//! One rule for all commands: when the reader of standard output has gone, the command ends without a word and as if
//! SIGPIPE had ended it.

use std::process::Stdio;

use super::cli_support::{Process, Server, command, run};
use super::sinks::{Sink, Trouble};

/// The exit code that a shell reports of a program that SIGPIPE ended.
const SIGPIPE: i32 = 141;

/// The commands that `--help` names.
fn listed() -> Vec<String> {
    let help = run(&["--help"]).stdout;
    let commands = help
        .iter()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names = commands
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.map(ToOwned::to_owned).collect()
}

fn auth_check(rules: &str) -> [&str; 8] {
    let caller = ["--principal", "anonymous"];
    let [auth, check, flag] = ["auth", "check", "--auth"];
    [
        auth,
        check,
        flag,
        rules,
        caller[0],
        caller[1],
        "subscribe",
        "a",
    ]
}

#[test]
fn every_command_ends_alike_when_nobody_reads_its_output_any_more() {
    let server = Server::start(&["--generate-every", "50ms"]);
    let url = server.url.as_str();
    server.publish("t", "x");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (history, data, pages) = (path("history"), path("data"), path("pages"));
    let simulate = [
        "simulate",
        "--server",
        url,
        "--clients",
        "1",
        "--duration",
        "1s",
    ];
    let recorded = run(&[&simulate[..], &["--record", &history]].concat());
    assert_eq!(recorded.code, Some(0), "{recorded:?}");
    let rules = path("auth.toml");
    std::fs::write(&rules, "[anonymous]").unwrap();
    drop(Server::start(&["--data-dir", &data]));
    std::fs::write(&pages, "one\ntwo\n").unwrap();
    let commands: &[&[&str]] = &[
        &["--help"],
        &["--version"],
        &["serve", "--help"],
        &auth_check(&rules),
        &["token", "new", "ci"],
        &["check", &history],
        &["demo", "--memory", "--file", &pages],
        &["healthcheck", "--server", url],
        &["healthcheck", "--server", url, "--json"],
        &["new-epoch", "--data-dir", &data],
        &["publish", "--server", url, "t", "x"],
        &["publish", "--server", url, "t", "x", "--json"],
        &["publish", "--server", url, "t", "--lines"],
        &simulate,
        &["simulate", "--server", url, "--clients", "11", "--json"],
        &["subscribe", "--server", url, "t", "--from", "earliest"],
        &[
            "subscribe",
            "--server",
            url,
            "t",
            "--from",
            "earliest",
            "--json",
        ],
        &["topics", "--server", url],
        &["topics", "--server", url, "--json"],
        &["topics", "--server", url, "t", "--history"],
        &["topics", "--server", url, "t", "--history", "--json"],
        &["topics", "--server", url, "t", "--check", "7/1"],
        &[
            "bench",
            "publish",
            "--messages",
            "200",
            "--warmup",
            "1",
            "--server-cores",
            "any",
            "--load-cores",
            "any",
        ],
    ];
    for arguments in commands {
        let sink = Sink::open(Trouble::ClosedPipe).unwrap();
        let ended = Process::spawn(command(arguments).stdout(sink.stdio())).ended();
        assert_eq!(ended.code, Some(SIGPIPE), "{arguments:?}: {ended:?}");
        let said = ended
            .stderr
            .iter()
            .filter(|line| !line.contains("subscribed"));
        assert_eq!(said.count(), 0, "{arguments:?}: {ended:?}");
    }
    // Everything that can be asked for is in the list.
    let listed = listed();
    assert!(listed.len() > 8, "{listed:?}");
    for name in listed.iter().filter(|name| *name != "help") {
        assert!(commands.iter().any(|command| command[0] == *name), "{name}");
    }
}

#[test]
fn a_reader_that_has_enough_ends_a_subscription_quietly() {
    let server = Server::start(&[]);
    let flags = [
        "subscribe",
        "--server",
        &server.url,
        "orders.>",
        "--json",
        "--from",
        "earliest",
    ];
    server.publish("orders.eu", "1");
    // The reader in `longlived subscribe ... | head -1`.
    let mut head = std::process::Command::new("head")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = head.stdin.take().unwrap();
    let subscriber = Process::spawn(command(&flags).stdout(pipe));
    assert!(head.wait().unwrap().success());
    server.publish("orders.eu", "2");
    let ended = subscriber.ended();
    assert_eq!(ended.code, Some(SIGPIPE), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "only that it subscribed: {ended:?}");
}
