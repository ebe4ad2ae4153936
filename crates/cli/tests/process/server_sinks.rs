//! A log that nobody takes costs lines, and nothing else: publishing, streams, health, metrics and both signals go on.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::Instant;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::cli_support::free_address;
use super::server_metrics::value;
use super::server_signals::{NO_DRAIN_TIMEOUT, flood};
use super::sinks::{Sink, Trouble};
use super::support::{PATIENCE, Server, Stream, Stuck, StuckReader, longlived, request, within};

const DROPPED: &str = "longlived_log_lines_dropped_total";
/// Of each of which the log tells much.
const MESSAGES: usize = 100;

/// A server whose log goes to a sink, on addresses that it need not tell.
async fn start(sink: &Sink, more: &[&str]) -> (Server, SocketAddr) {
    let (address, metrics) = (free_address(), free_address());
    let mut command = serve(address, metrics, more);
    command.stderr(sink.stdio());
    (Server::silent(&mut command, address).await, metrics)
}

fn serve(address: SocketAddr, metrics: SocketAddr, more: &[&str]) -> Command {
    let mut command = longlived();
    command.args(["serve", "--listen", &address.to_string()]);
    command.args(["--metrics-listen", &metrics.to_string()]);
    // A line for each call.
    command.args(["--log-rate-max", "1GiB"]);
    command.args(more).env("RUST_LOG", "debug");
    command
}

async fn health(server: &Server) -> ServingStatus {
    let mut health = HealthClient::new(server.channel());
    let answer = health.check(HealthCheckRequest::default());
    let answer = within("the health", answer).await.expect("it is known");
    answer.into_inner().status()
}

/// Everything that a node does for others.
async fn works(server: &Server, metrics: SocketAddr, live: &mut Stream) {
    for _ in 0..MESSAGES {
        let sequence = server.publish("t", "x").await.expect("stored");
        assert_eq!(live.event().await.sequence, sequence);
    }
    assert_eq!(health(server).await, ServingStatus::Serving);
    let sequence = value(metrics, "longlived_log_visible_sequence").await;
    assert!(sequence >= MESSAGES as u64, "{sequence}");
}

/// It does all that while its log grows beyond the buffer of a stuck sink. Returns how many lines were dropped.
async fn drops(server: &Server, metrics: SocketAddr, live: &mut Stream) -> u64 {
    loop {
        works(server, metrics, live).await;
        let dropped = value(metrics, DROPPED).await;
        if dropped > 0 {
            return dropped;
        }
    }
}

async fn serves_and_ends(trouble: Trouble) {
    let Some(sink) = Sink::open(trouble) else {
        return;
    };
    let (mut server, metrics) = start(&sink, &["--drain-timeout", "2s"]).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    drops(&server, metrics, &mut live).await;

    // It drains: subscribers that read are told, and those that do not read are dropped in time.
    let _stuck = StuckReader::open(&server, "stuck", "stuck", Stuck::Socket).await;
    flood(&server, "stuck", 20, 500 << 10).await;
    server.signal(Signal::TERM);
    live.until_go_away().await;
    assert_eq!(server.ended().await.code(), Some(0), "{trouble:?}");

    // A second signal ends it at once.
    let (mut server, _) = start(&sink, &NO_DRAIN_TIMEOUT).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let _stuck = StuckReader::open(&server, "stuck", "stuck", Stuck::Socket).await;
    flood(&server, "stuck", 20, 500 << 10).await;
    server.signal(Signal::TERM);
    live.until_go_away().await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(143), "{trouble:?}");
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    serves_and_ends(Trouble::UnreadPipe).await;
}

#[tokio::test]
async fn a_log_whose_reader_is_gone_ends_nothing() {
    serves_and_ends(Trouble::ClosedPipe).await;
}

#[tokio::test]
async fn a_log_on_a_full_device_ends_nothing() {
    serves_and_ends(Trouble::FullDevice).await;
}

#[tokio::test]
async fn a_log_on_a_full_disk_ends_nothing() {
    serves_and_ends(Trouble::FullDisk).await;
}

/// Dropped lines are counted in one line in the format of the log, once the sink takes lines again; the rest is whole.
async fn counts_dropped_lines(trouble: Trouble, format: &str) {
    let Some(sink) = Sink::open(trouble) else {
        return;
    };
    let (mut server, metrics) = start(&sink, &["--log-format", format]).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let mut dropped = drops(&server, metrics, &mut live).await;
    let read = sink.relieved();
    // Each call has its line: until one of them is taken, it has not recovered.
    let since = Instant::now();
    loop {
        server.publish("t", "x").await.expect("stored");
        let before = std::mem::replace(&mut dropped, value(metrics, DROPPED).await);
        if before == dropped {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{trouble:?}: still dropping");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
    let lines = tokio::task::spawn_blocking(read).await.unwrap();
    let told = |line: &&String| line.contains("lines of the log were dropped");
    let mut sum = 0;
    for line in lines.iter().filter(told) {
        assert!(line.contains("WARN"), "{line}");
        sum += if format == "json" {
            let told: serde_json::Value = serde_json::from_str(line).expect("JSON");
            told["lines"].as_u64().expect("a number")
        } else {
            let (_, number) = line.rsplit_once("lines=").expect("how many");
            number.parse().expect("a number")
        };
    }
    assert_eq!(
        sum,
        dropped,
        "{trouble:?}: {:#?}",
        &lines[..lines.len().min(5)]
    );
    assert!(
        lines.last().unwrap().contains("log closed")
            || lines.iter().any(|line| line.contains("drained"))
    );
    if format == "json" {
        // A write that failed in the middle of a line may have left a piece of it, once.
        let torn = lines
            .iter()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
        assert!(torn.count() <= 1, "{trouble:?}");
    }
}

#[tokio::test]
async fn dropped_lines_are_counted_when_the_log_is_read_again() {
    counts_dropped_lines(Trouble::UnreadPipe, "text").await;
}

#[tokio::test]
async fn dropped_lines_are_counted_as_json_when_the_disk_has_space_again() {
    counts_dropped_lines(Trouble::FullDisk, "json").await;
}

#[tokio::test]
async fn a_log_that_is_read_is_whole() {
    let mut server = Server::start(&["--log-format", "json"]).await;
    for _ in 0..10 {
        server.publish("t", "x").await.expect("stored");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await.code(), Some(0));
    server
        .line("the last words", |line| line.contains("log closed"))
        .await;
    for line in server.lines() {
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    }
}
