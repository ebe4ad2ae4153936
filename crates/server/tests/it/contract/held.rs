//! The caps on what requests make the node hold: which call ends, and which ones go on.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::select_all;
use h2::{SendStream, client::ResponseFuture};
use longlived_server::Config;
use prost::Message as _;

use super::{
    store_trouble::{Mood, Moody},
    support::{Node, Raw, RawReply, framed, message, text},
};

const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const LIST_TOPICS: &str = "/longlived.v1.TopicService/ListTopics";
const KIB: usize = 1 << 10;

fn connection_cap(bytes: usize) -> impl FnOnce(&mut Config) {
    move |config| Arc::make_mut(&mut config.acceptor.connection).connection_bytes_max = bytes
}

/// A publish of which only a part has been sent.
struct Half {
    response: ResponseFuture,
    stream: SendStream<Bytes>,
    rest: Bytes,
}

impl Half {
    /// The first `part` bytes of it are sent, and some `rest` are not.
    async fn send(raw: &mut Raw, part: usize, rest: usize) -> Self {
        let mut bytes = framed(&message("t", &"x".repeat(part + rest)).encode_to_vec());
        let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
        (stream.send_data(bytes.split_to(part), false)).expect("the stream stands");
        Self {
            response,
            stream,
            rest: bytes,
        }
    }

    /// Sends the rest. The code of the answer, and its text.
    async fn finish(mut self) -> Option<(String, String)> {
        // One that was refused takes no more.
        let _ = self.stream.send_data(self.rest, true);
        refusal(&RawReply::of(self.response).await)
    }
}

fn refusal(reply: &RawReply) -> Option<(String, String)> {
    let code = reply.header("grpc-status")?.to_owned();
    let says = reply.header("grpc-message").expect("a message").to_owned();
    let wait = reply.header("grpc-retry-pushback-ms").expect("a wait");
    assert!(wait.parse::<u32>().expect("a number") <= 5_000);
    Some((code, says))
}

#[track_caller]
fn assert_refused(refusal: Option<(String, String)>, limit: &str) {
    let (code, says) = refusal.expect("it is refused");
    assert_eq!(code, "8");
    assert!(says.contains(limit), "{says}");
}

/// Answered when the server has seen what was sent before.
async fn seen(raw: &mut Raw) {
    raw.call("/nothing/Nothing", &[], framed(b"")).await;
}

#[tokio::test]
async fn of_many_half_sent_messages_on_one_connection_the_largest_ends() {
    let node = Node::start_with(connection_cap(90 * KIB));
    let mut raw = Raw::connect(node.address).await;
    let mut calls = Vec::new();
    for part in [8, 8, 14, 8, 8, 8, 8, 8, 8, 8, 8] {
        calls.push(Half::send(&mut raw, part * KIB, 100).await);
        seen(&mut raw).await;
    }
    let largest = calls.remove(2);
    assert_refused(
        refusal(&RawReply::of(largest.response).await),
        "connection_bytes_max",
    );
    for call in calls {
        assert_eq!(call.finish().await, None, "the others are not disturbed");
    }
}

#[tokio::test]
async fn of_many_connections_the_one_that_holds_most_loses_its_largest_call() {
    let node = Node::start_with(|config| config.acceptor.held_bytes_max = 56 * KIB);
    let mut connections = Vec::new();
    for parts in [&[10, 14][..], &[15], &[15], &[15]] {
        let mut raw = Raw::connect(node.address).await;
        let mut calls = Vec::new();
        for part in parts {
            calls.push(Half::send(&mut raw, part * KIB, 100).await);
        }
        seen(&mut raw).await;
        connections.push((raw, calls));
    }
    let largest = connections[0].1.remove(1);
    assert_refused(
        refusal(&RawReply::of(largest.response).await),
        "held_bytes_max",
    );
    for (at, (_raw, calls)) in connections.into_iter().enumerate() {
        for call in calls {
            assert_eq!(call.finish().await, None, "{at} is not disturbed");
        }
    }
}

#[tokio::test]
async fn one_stalled_publisher_stops_no_other_stream() {
    let store = Moody::new();
    let node = Node::start_with_store(store.clone(), |config| {
        config.log.publish_queue_bytes_max = config.event_bytes_max;
    });
    store.set(Mood::Waits);
    let mut raw = Raw::connect(node.address).await;
    let whole = framed(&message("t", &"x".repeat(100 * KIB)).encode_to_vec());
    let (response, mut stream) = raw.begin(PUBLISH_STREAM, &[]).await;
    for _ in 0..30 {
        (stream.send_data(whole.clone(), false)).expect("the stream stands");
    }
    stream.send_data(Bytes::new(), true).expect("it stands");
    store.given().await;
    for _ in 0..50 {
        // More than the connection's window, if it got nothing back.
        let large = vec![0; 100 * KIB];
        let reply = raw.call("/nothing/Nothing", &[], large).await;
        assert_eq!(reply.header("grpc-status"), Some("12"));
    }
    store.set(Mood::Takes);
    assert_all_stored(RawReply::of(response).await, 30).await;
}

#[tokio::test]
async fn whole_messages_that_wait_for_the_store_are_waited_for() {
    let store = Moody::new();
    let node = Node::start_with_store(store.clone(), |config| {
        config.log.publish_queue_bytes_max = config.event_bytes_max;
        connection_cap(2 << 20)(config);
    });
    store.set(Mood::Waits);
    let mut raw = Raw::connect(node.address).await;
    let whole = framed(&message("t", &"x".repeat(20 * KIB)).encode_to_vec());
    let mut calls = Vec::new();
    // Each stream may have a quarter of a MiB on its way.
    for _ in 0..16 {
        let (response, mut stream) = raw.begin(PUBLISH_STREAM, &[]).await;
        for _ in 0..50 {
            (stream.send_data(whole.clone(), false)).expect("the stream stands");
        }
        stream.send_data(Bytes::new(), true).expect("it stands");
        calls.push(response);
    }
    store.given().await;
    // Another connection is served meanwhile.
    let mut other = Raw::connect(node.address).await;
    let reply = other.call(LIST_TOPICS, &[], framed(b"")).await;
    assert_eq!(reply.header("grpc-status"), None);
    store.set(Mood::Takes);
    for response in calls {
        assert_all_stored(RawReply::of(response).await, 50).await;
    }
}

async fn assert_all_stored(mut reply: RawReply, count: usize) {
    for _ in 0..count {
        reply.message().await;
    }
    let (rest, trailers) = reply.rest().await;
    assert!(rest.is_empty());
    assert_eq!(text(&trailers, "grpc-status"), Some("0"));
}

#[tokio::test]
async fn when_only_half_sent_messages_are_left_the_largest_makes_room_for_the_others() {
    let node = Node::start_with(connection_cap(2 << 20));
    let mut raw = Raw::connect(node.address).await;
    let mut calls = Vec::new();
    // The last is the largest, and together they need more than there is credit for.
    for part in [400, 400, 400, 400, 400, 400, 600] {
        calls.push(Half::send(&mut raw, part * KIB, 300 * KIB).await);
    }
    let (first, at, _) = select_all(calls.iter_mut().map(|call| &mut call.response)).await;
    let first = first.expect("an answer").into_parts().0.headers;
    assert_eq!(text(&first, "grpc-status"), Some("8"));
    assert!(
        text(&first, "grpc-message")
            .expect("a message")
            .contains("connection_bytes_max")
    );
    calls.remove(at);
    let mut outcomes = HashSet::new();
    for call in calls {
        let refusal = call.finish().await;
        outcomes.insert(refusal.is_none());
        if refusal.is_some() {
            assert_refused(refusal, "connection_bytes_max");
        }
    }
    assert!(outcomes.contains(&true), "some come whole");
    // The connection has all its credit again: the only one under way may be as large as any.
    for _ in 0..4 {
        let large = framed(&message("t", &"x".repeat(1_000 * KIB)).encode_to_vec());
        let reply = raw.call(PUBLISH, &[], large).await;
        assert_eq!(reply.header("grpc-status"), None);
    }
}
