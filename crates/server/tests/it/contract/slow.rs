//! Readers that do not keep up, under both policies.

use std::time::Duration;

use longlived_api::v1::{self, SlowPolicy};
use prost::Message as _;
use tonic::Code;

use super::{
    states::{States, until_states},
    support::{
        Frame, GoAwayReason, Node, PATIENCE, Raw, RawReply, earliest, framed, message, pass,
        request, text,
    },
};

const PATH: &str = "/longlived.v1.SubscriptionService/Subscribe";
const STALL: Duration = Duration::from_millis(250);

fn disconnecting(id: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        slow_policy: SlowPolicy::Disconnect.into(),
        ..request(id, &["t"])
    }
}

async fn open(raw: &mut Raw, request: &v1::SubscribeRequest) -> RawReply {
    let body = framed(&request.encode_to_vec());
    let mut reply = raw.call(PATH, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    reply
}

/// More than the 64 KiB of a stream that takes nothing.
async fn flood(node: &Node, messages: usize) {
    let payload = "x".repeat(16 << 10);
    for _ in 0..messages {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("a slow reader holds up nobody");
    }
}

fn stalling() -> Node {
    Node::start_with(|config| config.stall_timeout = STALL)
}

/// Longer than a slow reader may go on: the stall timeout, the grace in which it may still receive its GoAway, and two
/// looks of the watch.
const DISCONNECTED_WITHIN: Duration = Duration::from_millis(250 + 1_500 + 2 * 500 + 750);

/// Whether the server resets the stream while the reader takes nothing.
async fn is_disconnected(reply: &mut RawReply) -> bool {
    let reset = tokio::time::timeout(DISCONNECTED_WITHIN, reply.reset());
    reset.await.is_ok()
}

#[tokio::test]
async fn a_stalled_reader_that_asked_for_it_is_reset() {
    let node = stalling();
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &disconnecting("s")).await;
    let (mut other, _) = node.open(disconnecting("other")).await;
    flood(&node, 20).await;
    other.events(20).await;
    assert!(is_disconnected(&mut reply).await);
    let gone = node.unsubscribe("s").await.expect_err("its place is free");
    assert_eq!(gone.code(), Code::NotFound);
    node.unsubscribe("other").await.expect("it kept up");
}

#[tokio::test]
async fn a_stalled_reader_is_parked_by_default_and_catches_up() {
    let node = Node::start_with(|config| {
        config.stall_timeout = STALL;
        config.log.tail_bytes_max = 1 << 10;
    });
    let metrics = node.metrics.expect("it tells metrics");
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &request("s", &["t"])).await;
    flood(&node, 20).await;
    let parked = States {
        parked: 1,
        ..States::default()
    };
    until_states(metrics, parked).await;
    // Several looks of the watch, and longer than the stall timeout.
    for _ in 0..4 {
        pass(STALL * 2).await;
    }
    until_states(metrics, parked).await;
    all_events(&mut reply, 1..=20).await;
}

/// Exactly these events, with any Progress between them.
async fn all_events(reply: &mut RawReply, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        loop {
            match reply.frame().await {
                Frame::Event(event) => break assert_eq!(event.sequence, sequence),
                Frame::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_quiet_reader_is_not_slow() {
    let node = stalling();
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &disconnecting("s")).await;
    assert!(!is_disconnected(&mut reply).await);
    let sequence = node.publish("t", "x").await;
    assert!(matches!(reply.frame().await, Frame::Event(event) if event.sequence == sequence));
}

#[tokio::test]
async fn a_reader_that_has_never_been_current_is_not_slow() {
    let node = stalling();
    flood(&node, 20).await;
    let from_start = v1::SubscribeRequest {
        start: Some(earliest()),
        ..disconnecting("s")
    };
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &from_start).await;
    assert!(!is_disconnected(&mut reply).await);
    all_events(&mut reply, 1..=20).await;
    assert!(matches!(reply.frame().await, Frame::Progress(progress) if progress.current));
    // Now it has been.
    flood(&node, 20).await;
    assert!(is_disconnected(&mut reply).await);
}

#[tokio::test]
async fn a_reader_whose_position_left_the_memory_tail_is_sent_away_if_it_asked_for_it() {
    let node = Node::start_with(|config| {
        config.log.tail_bytes_max = 32 << 10;
        config.stall_timeout = PATIENCE;
    });
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &disconnecting("s")).await;
    flood(&node, 20).await;
    let mut at = 0;
    let go_away = loop {
        match reply.frame().await {
            Frame::Event(event) => at = event.sequence,
            Frame::GoAway(go_away) => break go_away,
            other => panic!("{other:?}"),
        }
    };
    assert!(at < 20);
    assert_eq!(go_away.reason(), GoAwayReason::Slow);
    assert!(go_away.reconnect);
    assert_eq!(go_away.position.expect("the last sent").sequence, at);
    let (_, trailers) = reply.rest().await;
    assert_eq!(text(&trailers, "grpc-status"), Some("8"));
}

/// Returns when streams that stall together were told to go, as the first of their ids shows that is not found. One id
/// after the other is asked for, since asking ends the stream.
async fn until_told(node: &Node, ids: impl Iterator<Item = String>) {
    for id in ids {
        match node.unsubscribe(&id).await {
            Ok(_) => pass(STALL / 5).await,
            Err(status) if status.code() == Code::NotFound => return,
            Err(status) => panic!("{status:?}"),
        }
    }
    panic!("some were not told");
}

fn wait_of(go_away: &v1::GoAway) -> Duration {
    let wait = go_away.reconnect_after.expect("a wait");
    Duration::try_from(wait).expect("not negative")
}

#[tokio::test]
async fn a_stalled_reader_that_reads_again_in_time_gets_a_go_away_with_its_position() {
    const PROBES: usize = 40;
    let node = stalling();
    let mut waits = Vec::new();
    let mut readers = Vec::new();
    let mut raw = Raw::connect(node.address).await;
    for n in 0..8 {
        readers.push(open(&mut raw, &disconnecting(&format!("s-{n}"))).await);
    }
    let probe = |n| format!("probe-{n}");
    for n in 0..PROBES {
        readers.push(open(&mut raw, &disconnecting(&probe(n))).await);
    }
    flood(&node, 20).await;
    // A stream that is told to go is not found any more, although it cannot receive that yet.
    until_told(&node, (0..PROBES).map(probe)).await;
    readers.truncate(8);
    for mut reply in readers {
        let mut at = 0;
        let go_away = loop {
            match reply.frame().await {
                Frame::Event(event) => at = event.sequence,
                Frame::GoAway(go_away) => break go_away,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(go_away.reason(), GoAwayReason::Slow);
        assert!(go_away.reconnect);
        assert_eq!(go_away.position.expect("the last sent").sequence, at);
        waits.push(wait_of(&go_away));
        let (_, trailers) = reply.rest().await;
        assert_eq!(text(&trailers, "grpc-status"), Some("8"));
    }
    let bounds = Duration::from_secs(1)..=Duration::from_secs(5);
    assert!(waits.iter().all(|wait| bounds.contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 6, "not all at once: {waits:?}");
}

#[tokio::test]
async fn a_stalled_reader_whose_position_left_the_memory_tail_does_not_wait_for_the_stall_timeout()
{
    let node = Node::start_with(|config| {
        config.log.tail_bytes_max = 32 << 10;
        config.stall_timeout = PATIENCE;
    });
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, &disconnecting("s")).await;
    let (mut other, _) = node.open(request("parked", &["t"])).await;
    flood(&node, 20).await;
    assert!(is_disconnected(&mut reply).await);
    other.events(1).await;
}

#[tokio::test]
async fn a_reader_that_was_idle_longer_than_the_stall_timeout_is_not_slow_when_something_comes() {
    let node = stalling();
    let mut readers = Vec::new();
    for n in 0..20 {
        readers.push(node.open(disconnecting(&format!("s{n}"))).await.0);
    }
    // Idle for several looks of the watch, then one event after the other, so that some fall on a look.
    for _ in 0..4 {
        pass(STALL * 2).await;
    }
    for n in 1..=40 {
        let stored = node.try_publish(message("t", "x")).await;
        assert_eq!(
            stored
                .expect("stored")
                .position
                .expect("a position")
                .sequence,
            n
        );
        for reader in &mut readers {
            reader.events(1).await;
        }
        pass(Duration::from_millis(25)).await;
    }
}
