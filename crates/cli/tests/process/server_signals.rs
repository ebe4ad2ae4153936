//! SIGTERM, SIGINT and SIGHUP: all subscribers are told, and the process ends in time with any behaviour of its peers.

use std::process::Stdio;
use std::time::Duration;

use longlived_api::v1::go_away::Reason;
use rustix::process::Signal;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, process::Command};
use tonic::Code;

#[cfg(target_os = "linux")]
use super::cli_support::{free_address, terminal};
#[cfg(target_os = "linux")]
use super::support::skipped;
use super::support::{Server, Stuck, StuckReader, request, stop_signals};

/// No test waits for an hour: a process that ends with this flag has not waited for the timeout.
pub(crate) const NO_DRAIN_TIMEOUT: [&str; 2] = ["--drain-timeout", "1h"];

/// Publishes more than a stuck reader can be sent.
pub(crate) async fn flood(server: &Server, topic: &str, messages: usize, bytes: usize) {
    let payload = "x".repeat(bytes);
    for _ in 0..messages {
        let stored = server.publish(topic, &payload).await;
        stored.expect("a stuck reader holds up nobody");
    }
}

#[tokio::test]
async fn live_streams_are_sent_away_with_spread_turns_and_the_exit_code_is_0() {
    for (signal, _) in stop_signals() {
        let mut server = Server::start(&[]).await;
        let mut streams = Vec::new();
        for n in 0..20 {
            streams.push(server.open(request(&format!("s-{n}"), &["t"])).await.0);
        }
        server.signal(signal);
        let mut turns = Vec::new();
        for stream in &mut streams {
            let go_away = stream.until_go_away().await;
            assert_eq!(go_away.reason(), Reason::Draining);
            assert!(go_away.reconnect);
            let turn = go_away.reconnect_after.expect("a turn");
            turns.push(Duration::try_from(turn).expect("not negative"));
            let end = stream.next().await.expect_err("the GoAway was the last");
            end.expect("OK");
        }
        assert_eq!(server.ended().await.code(), Some(0));
        turns.sort_unstable();
        turns.dedup();
        assert!(turns.len() > 15, "{turns:?}");
        let spread = turns[turns.len() - 1].saturating_sub(turns[0]);
        assert!(spread > Duration::from_millis(300), "{turns:?}");
    }
}

#[tokio::test]
async fn a_server_without_clients_ends_at_once() {
    let mut server = Server::start(&NO_DRAIN_TIMEOUT).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn stuck_silent_and_half_open_peers_do_not_hold_up_the_exit() {
    let mut server = Server::start(&["--drain-timeout", "2s"]).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let _stream = StuckReader::open(&server, "stream", "stuck", Stuck::Stream).await;
    let _socket = StuckReader::open(&server, "socket", "stuck", Stuck::Socket).await;
    flood(&server, "stuck", 20, 500 << 10).await;
    let _silent = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    let mut half = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    half.write_all(b"PRI * HTTP/2.0\r\n").await.expect("taken");
    let mut opened = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    opened.write_all(preface).await.expect("taken");

    server.signal(Signal::TERM);
    assert_eq!(live.until_go_away().await.reason(), Reason::Draining);
    let refused = server.subscribe(request("late", &["t"])).await;
    let refused = refused.err().expect("it drains");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(
        refused.metadata().get("grpc-retry-pushback-ms").is_some(),
        "{refused:?}"
    );
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn silent_and_idle_connections_alone_do_not_delay_the_exit() {
    let mut server = Server::start(&NO_DRAIN_TIMEOUT).await;
    let _silent = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    server.publish("t", "x").await.expect("stored");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    for (signal, code) in stop_signals() {
        let mut server = Server::start(&NO_DRAIN_TIMEOUT).await;
        let _stuck = StuckReader::open(&server, "s", "stuck", Stuck::Stream).await;
        flood(&server, "stuck", 20, 16 << 10).await;
        server.signal(Signal::TERM);
        server
            .line("that it drains", |line| line.contains("draining"))
            .await;
        server.signal(signal);
        assert_eq!(server.ended().await.code(), Some(code));
    }
}

#[tokio::test]
async fn a_hang_up_is_ignored_where_the_parent_process_had_it_ignored() {
    let mut command = longlived_from("trap '' HUP; exec \"$0\" serve --listen 127.0.0.1:0");
    let mut server = Server::of(&mut command).await;
    server.signal(Signal::HUP);
    server.publish("t", "x").await.expect("it goes on");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
    let lines = server.lines();
    assert!(
        !lines.iter().any(|line| line.contains("SIGHUP")),
        "{lines:?}"
    );
}

/// The binary as a shell's last word.
fn longlived_from(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_longlived")]);
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_drains_when_the_terminal_that_it_was_started_on_closes() {
    let (ours, theirs) = terminal();
    let address = free_address();
    // The terminal becomes that of a session of its own, whose first process is the server.
    let mut command = Command::new("setsid");
    command
        .args([
            "--ctty",
            env!("CARGO_BIN_EXE_longlived"),
            "serve",
            "--listen",
            &address.to_string(),
        ])
        .env_remove("RUST_LOG")
        .kill_on_drop(true)
        .stdin(theirs.try_clone().expect("a copy"))
        .stderr(theirs);
    if std::process::Command::new("setsid")
        .arg("--version")
        .output()
        .is_err()
    {
        return skipped("a terminal that closes", "there is no setsid");
    }
    if stop_signals().len() < 3 {
        return skipped(
            "a terminal that closes",
            "this process was started with SIGHUP ignored",
        );
    }
    let mut server = Server::silent(&mut command, address).await;
    drop(command);
    let (mut live, _) = server.open(request("live", &["t"])).await;
    drop(ours);
    assert_eq!(live.until_go_away().await.reason(), Reason::Draining);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_timeout_of_zero_ends_at_once() {
    let mut server = Server::start(&["--drain-timeout", "0s"]).await;
    let _stuck = StuckReader::open(&server, "s", "stuck", Stuck::Socket).await;
    flood(&server, "stuck", 20, 16 << 10).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
    // It did not wait for the stuck reader to be reset, which would have been a drain without a rest.
    server
        .line("the requests that the drain dropped", |line| {
            line.contains("the rest is dropped")
        })
        .await;
}
