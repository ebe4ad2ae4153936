//! The caps on what answers make the node hold: which subscription ends when events wait for windows that are too small for them, and
//! which ones go on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::Reason;
use longlived_api::v1;
use longlived_server::Config;
use prost::Message as _;

use super::support::{
    Frame, Node, Raw, RawReply, Windows, earliest, framed, message, request, subscription, text,
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const READ_HISTORY: &str = "/longlived.v1.TopicService/ReadHistory";
const KIB: usize = 1 << 10;
/// Welcome fits, and no event of these tests.
const WINDOW: u32 = 400;

fn connection_cap(bytes: usize) -> impl FnOnce(&mut Config) {
    move |config| Arc::make_mut(&mut config.acceptor.connection).connection_bytes_max = bytes
}

async fn connect(node: &Node) -> Raw {
    connect_with(node, WINDOW).await
}

async fn connect_with(node: &Node, stream_window: u32) -> Raw {
    let windows = Windows {
        stream_window,
        ..Windows::default()
    };
    Raw::connect_with(node.address, windows).await
}

/// A subscriber that has Welcome, and for whom the first event of the topic waits.
async fn open(raw: &mut Raw, topic: &str, number: usize) -> RawReply {
    let mut subscribe = request(&format!("{topic}-{number}"), &[topic]);
    subscribe.start = Some(earliest());
    let body = framed(&subscribe.encode_to_vec());
    let mut reply = raw.call(SUBSCRIBE, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    // Answered after the server has been at it.
    raw.call("/nothing/Nothing", &[], framed(b"")).await;
    reply
}

async fn publish(node: &Node, topic: &str, bytes: usize) {
    node.publish(topic, &"x".repeat(bytes)).await;
}

async fn assert_gets_event(mut reply: RawReply, bytes: usize) {
    match reply.frame().await {
        Frame::Event(event) => assert_eq!(event.payload.len(), bytes),
        other => panic!("{other:?}"),
    }
}

/// The code that gRPC's clients take for `RESOURCE_EXHAUSTED`.
async fn assert_cut(mut reply: RawReply) {
    assert_eq!(reply.reset_reason().await, Some(Reason::ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn of_the_subscriptions_of_a_connection_that_wait_with_most_the_newest_ends() {
    let node = Node::start_with(connection_cap(100 * KIB));
    for (topic, kib) in [("a", 40), ("b", 41), ("c", 41), ("d", 30)] {
        publish(&node, topic, kib * KIB).await;
    }
    let mut raw = connect(&node).await;
    let a = open(&mut raw, "a", 0).await;
    let b = open(&mut raw, "b", 0).await;
    let c = open(&mut raw, "c", 0).await;
    assert_cut(c).await;
    let d = open(&mut raw, "d", 0).await;
    assert_cut(b).await;
    assert_gets_event(a, 40 * KIB).await;
    assert_gets_event(d, 30 * KIB).await;
    // It comes back, and has what waited for it before.
    let c = open(&mut raw, "c", 0).await;
    assert_gets_event(c, 41 * KIB).await;
}

/// The bytes of the whole stay in memory with the rest.
#[tokio::test]
async fn an_event_of_which_little_waits_counts_whole() {
    let node = Node::start_with(connection_cap(100 * KIB));
    for topic in ["a", "b", "c"] {
        publish(&node, topic, 40 * KIB).await;
    }
    let mut raw = connect_with(&node, 39 << 10).await;
    let mut waiting = Vec::new();
    for topic in ["a", "b", "c"] {
        waiting.push(open(&mut raw, topic, 0).await);
    }
    let last = waiting.pop().expect("three");
    assert_cut(last).await;
    for reply in waiting {
        assert_gets_event(reply, 40 * KIB).await;
    }
}

/// They have a budget of their own.
#[tokio::test]
async fn pages_are_not_counted_twice() {
    let node = Node::start_with(connection_cap(100 * KIB));
    publish(&node, "t", 60 * KIB).await;
    let mut raw = connect(&node).await;
    let mut pages = Vec::new();
    for _ in 0..4 {
        pages.push(raw.call(READ_HISTORY, &[], read_history()).await);
        raw.call("/nothing/Nothing", &[], framed(b"")).await;
    }
    for mut page in pages {
        let (page, trailers) = page.rest().await;
        assert!(page.len() > 60 * KIB);
        assert_eq!(text(&trailers, "grpc-status"), Some("0"));
    }
}

fn read_history() -> Bytes {
    let read = v1::ReadHistoryRequest {
        subscriber_id: "s".to_owned(),
        subscriptions: vec![subscription("t")],
        ..v1::ReadHistoryRequest::default()
    };
    framed(&read.encode_to_vec())
}

#[tokio::test]
async fn an_event_that_waits_for_many_is_counted_once() {
    let node = Node::start_with(|config| {
        connection_cap(200 * KIB)(config);
        config.acceptor.held_bytes_max = 400 * KIB;
    });
    publish(&node, "t", 40 * KIB).await;
    let mut replies = Vec::new();
    let mut connections = Vec::new();
    for connection in 0..4 {
        let mut raw = connect(&node).await;
        for number in 0..25 {
            replies.push(open(&mut raw, "t", connection * 25 + number).await);
        }
        connections.push(raw);
    }
    for reply in replies {
        assert_gets_event(reply, 40 * KIB).await;
    }
}

#[tokio::test]
async fn the_only_event_that_waits_on_a_connection_may_be_larger_than_its_cap() {
    let node = Node::start_with(connection_cap(100 * KIB));
    publish(&node, "t", 300 * KIB).await;
    let mut raw = connect(&node).await;
    let reply = open(&mut raw, "t", 0).await;
    assert_gets_event(reply, 300 * KIB).await;
}

#[tokio::test]
async fn of_many_connections_the_one_that_waits_with_most_loses_its_largest_subscription() {
    let node = Node::start_with(|config| config.acceptor.held_bytes_max = 150 * KIB);
    for (topic, kib) in [("a", 30), ("b", 32), ("c", 48), ("d", 48)] {
        publish(&node, topic, kib * KIB).await;
    }
    let (mut two, mut one, mut last) = (
        connect(&node).await,
        connect(&node).await,
        connect(&node).await,
    );
    let a = open(&mut two, "a", 0).await;
    let b = open(&mut two, "b", 0).await;
    let c = open(&mut one, "c", 0).await;
    let d = open(&mut last, "d", 0).await;
    assert_cut(b).await;
    assert_gets_event(a, 30 * KIB).await;
    assert_gets_event(c, 48 * KIB).await;
    assert_gets_event(d, 48 * KIB).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_let_go_in_time_and_a_subscription_is_waited_for() {
    let node = Node::start_with(|config| {
        let connection = Arc::make_mut(&mut config.acceptor.connection);
        connection.answer_timeout = Duration::from_millis(300);
    });
    publish(&node, "t", 40 * KIB).await;
    let mut raw = connect(&node).await;
    let waits = open(&mut raw, "t", 0).await;
    // One entry of 40 KiB: more than the window takes.
    let mut page = raw.call(READ_HISTORY, &[], read_history()).await;
    assert_eq!(page.reset_reason().await, Some(Reason::CANCEL));
    assert_gets_event(waits, 40 * KIB).await;
}

#[tokio::test]
async fn small_events_wait_in_the_log() {
    let node = Node::start_with(connection_cap(100 * KIB));
    let messages = vec![message("t", &"x".repeat(KIB)); 200];
    node.publish_all(messages).await;
    let mut raw = connect(&node).await;
    // With a delivery of 64 KiB each, two would be too many.
    let mut replies = Vec::new();
    for number in 0..40 {
        replies.push(open(&mut raw, "t", number).await);
    }
    for mut reply in replies {
        for sequence in 1..=200 {
            match reply.frame().await {
                Frame::Event(event) => assert_eq!(event.sequence, sequence),
                other => panic!("{other:?}"),
            }
        }
    }
}
