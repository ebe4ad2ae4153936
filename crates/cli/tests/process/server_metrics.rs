//! `--metrics-listen`: its line in the log, its refusals, and damage of the disk seen from outside.

use std::{fs, net::SocketAddr, path::Path, path::PathBuf};

use longlived_api::v1::{self, gap::Reason};
use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{PING, frame};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{Frame, Server, longlived, request, run_to_end, until, within};

/// Where it says that it tells metrics.
pub(crate) async fn told_at(server: &Server) -> SocketAddr {
    let line = server.line("metrics on", |line| line.contains("metrics on "));
    let line = line.await;
    let (_, address) = line.rsplit_once(' ').unwrap();
    address.parse().expect("an address")
}

/// All that is told there.
pub(crate) async fn scrape(address: SocketAddr) -> String {
    let mut answer = String::new();
    within("an answer", async {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let get = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(get).await.expect("it reads");
        socket.read_to_string(&mut answer).await.expect("an answer");
    })
    .await;
    answer
}

/// The value of a sample.
pub(crate) async fn value(address: SocketAddr, name: &str) -> u64 {
    let answer = scrape(address).await;
    let mut samples = answer.lines().filter_map(|line| line.split_once(' '));
    let sample = samples.find(|(sample, _)| *sample == name);
    let (_, value) = sample.unwrap_or_else(|| panic!("{name}: {answer}"));
    value.parse().expect("a whole number")
}

fn sealed(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("sealed")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|it| it == "seg"))
        .collect()
}

#[tokio::test]
async fn damage_of_a_sealed_file_is_a_gap_to_subscribers_and_a_count_in_the_metrics() {
    const EVENTS: u64 = 100;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let flags = [
        "--data-dir",
        dir.to_str().unwrap(),
        "--segment-bytes",
        "65536",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let mut server = Server::start(&flags).await;
    let metrics = told_at(&server).await;
    assert_eq!(value(metrics, "longlived_store_events_total").await, 0);
    let payload = "x".repeat(2_000);
    for n in 1..=EVENTS {
        assert_eq!(server.publish("a", &payload).await.expect("stored"), n);
    }
    let events = value(metrics, "longlived_store_events_total").await;
    assert_eq!(events, EVENTS);
    assert!(value(metrics, "longlived_store_commits_total").await > 0);
    assert_eq!(value(metrics, "longlived_store_damaged_total").await, 0);
    until("a segment is sealed", async || {
        (!sealed(&dir).is_empty()).then_some(())
    })
    .await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());

    let file = sealed(&dir).remove(0);
    let mut content = fs::read(&file).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&file, content).unwrap();
    let server = Server::start(&flags).await;
    let metrics = told_at(&server).await;
    let earliest = v1::SubscribeRequest {
        start: Some(v1::Start {
            at: Some(v1::start::At::Earliest(true)),
        }),
        ..request("s", &["a"])
    };
    let (mut stream, _) = server.open(earliest).await;
    let (mut at, mut lost) = (0, 0);
    while at < EVENTS {
        match stream.frame().await {
            Frame::Event(event) => {
                assert_eq!(event.sequence, at + 1, "nothing is missing unsaid");
                at = event.sequence;
            }
            Frame::Gap(gap) => {
                assert_eq!(gap.reason(), Reason::Damaged);
                assert_eq!(gap.after_sequence, at, "{gap:?}");
                lost += gap.through_sequence - gap.after_sequence;
                at = gap.through_sequence;
            }
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((1..EVENTS / 2).contains(&lost), "{lost}");
    assert!(value(metrics, "longlived_store_damaged_total").await > 0);
    assert_eq!(value(metrics, "longlived_log_visible_sequence").await, 100);
}

#[tokio::test]
async fn an_address_for_metrics_that_cannot_be_had_is_named_with_its_flag_before_anything_is_served()
 {
    let server = Server::start(&[]).await;
    let taken = server.address.to_string();
    for (address, code, said) in [
        (taken.as_str(), 1, "already in use"),
        ("192.0.2.1:9464", 1, "cannot listen on 192.0.2.1:9464"),
        ("nonsense", 2, "must be ADDRESS:PORT"),
    ] {
        let mut second = longlived();
        second.args(["serve", "--listen", "127.0.0.1:0"]);
        second.args(["--metrics-listen", address]);
        let (exit, out, err) = run_to_end(&mut second).await;
        assert_eq!(exit, Some(code), "{err}");
        assert_eq!(out, "");
        assert_eq!(err.lines().count(), 1, "{err}");
        for part in ["--metrics-listen", address, said] {
            assert!(err.contains(part), "{part}: {err}");
        }
    }
    let quiet = server.lines();
    assert!(quiet.iter().all(|line| !line.contains("metrics on ")));
}

#[tokio::test]
async fn the_address_for_metrics_may_come_from_the_environment() {
    let mut command = longlived();
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("LONGLIVED_METRICS_LISTEN", "127.0.0.1:0");
    let server = Server::of(&mut command).await;
    let metrics = told_at(&server).await;
    assert_eq!(value(metrics, "longlived_publishing_possible").await, 1);
}

#[tokio::test]
async fn requests_that_are_refused_and_connections_that_are_cut_are_told_by_the_reason() {
    let server = Server::start(&["--metrics-listen", "127.0.0.1:0", "--streams-max", "1"]).await;
    let metrics = told_at(&server).await;
    let mut peer = Attacker::hello(server.address).await;
    let check = Block::grpc("/grpc.health.v1.Health/Check");
    peer.send(&check.clone().field("A", "b").headers(1, 0))
        .await;
    let large = check.clone().field("a", vec![b'x'; 20_000]);
    peer.send(&large.in_frames(3, None, &[16_000])).await;
    assert!(peer.is_answered(1).await, "the large one has its answer");
    for stream in [5, 7, 9, 11] {
        // Their messages do not come, so the first stays open.
        peer.send(&check.headers(stream, 0)).await;
    }
    assert!(peer.is_taken().await);
    peer.send(&frame(PING, 0, 1, b"a stream")).await;
    peer.end().await;
    for (name, count) in [
        ("longlived_requests_refused_total{reason=\"malformed\"}", 1),
        ("longlived_requests_refused_total{reason=\"headers\"}", 1),
        (
            "longlived_requests_refused_total{reason=\"streams_max\"}",
            3,
        ),
        ("longlived_connections_cut_total{reason=\"flood\"}", 0),
        ("longlived_connections_cut_total{reason=\"protocol\"}", 1),
    ] {
        until("it is told", async || {
            (value(metrics, name).await == count).then_some(())
        })
        .await;
    }
}
