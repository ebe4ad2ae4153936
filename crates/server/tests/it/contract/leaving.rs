//! How a subscriber leaves: by Unsubscribe, by ending its stream, by losing its connection.

use std::time::Duration;

use longlived_api::v1;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;

use super::support::{
    Frame, GoAwayReason, Node, Raw, assert_says, endpoint, framed, message, request,
};

const PATH: &str = "/longlived.v1.SubscriptionService/Subscribe";

#[tokio::test]
async fn unsubscribe_ends_the_stream_with_ok_and_answers_its_last_position() {
    let node = Node::start();
    let (mut stream, welcome) = node.open(request("s", &["t"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    node.publish("t", "x").await;
    let sequence = node.publish("t", "x").await;
    assert_eq!(stream.events(2).await, [1, 2]);
    let position = node.unsubscribe("s").await.expect("it is live");
    assert_eq!((position.epoch, position.sequence), (epoch, sequence));
    let go_away = stream.go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Unsubscribed);
    assert!(!go_away.reconnect);
    assert_eq!(go_away.position, Some(position));
    assert_eq!(go_away.ends_in, None, "it is the last response");
    stream.end().await.expect("OK");
}

#[tokio::test]
async fn unsubscribe_finds_nobody_where_nobody_is() {
    let node = Node::start();
    let status = node.unsubscribe("s").await.expect_err("nobody");
    assert_says(&status, Code::NotFound, &["subscriber_id", "s"]);
    let (mut stream, _) = node.open(request("s", &["t"])).await;
    node.unsubscribe("s").await.expect("it is live");
    let status = node.unsubscribe("s").await.expect_err("it was told to end");
    assert_eq!(status.code(), Code::NotFound);
    stream.go_away().await;
    let _back = node.open(request("s", &["t"])).await;
    node.unsubscribe("s").await.expect("it came back");
}

#[tokio::test]
async fn unsubscribe_ends_every_stream_of_the_id() {
    let node = Node::start();
    let attempt = |attempt| v1::SubscribeRequest {
        instance: 7,
        attempt,
        ..request("s", &["t"])
    };
    let (mut bystander, _) = node.open(request("other", &["t"])).await;
    // The older goes on beside one that catches up and stands still.
    let (mut first, _) = node.open(attempt(1)).await;
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
        first.event().await;
    }
    let resume = v1::SubscribeRequest {
        start: Some(super::support::earliest()),
        ..attempt(2)
    };
    let mut raw = Raw::connect(node.address).await;
    let mut second = raw.call(PATH, &[], framed(&resume.encode_to_vec())).await;
    assert!(matches!(second.frame().await, Frame::Welcome(_)));
    node.unsubscribe("s").await.expect("it is live");
    assert_eq!(first.go_away().await.reason(), GoAwayReason::Unsubscribed);
    first.end().await.expect("OK");
    let (_, trailers) = second.rest().await;
    assert_eq!(super::support::text(&trailers, "grpc-status"), Some("0"));
    assert_eq!(bystander.events(20).await.len(), 20);
}

#[tokio::test]
async fn a_stream_that_is_told_to_end_and_whose_reader_is_stuck_is_reset_soon() {
    let node = without_keepalive();
    let mut raw = Raw::connect(node.address).await;
    let body = framed(&request("s", &["t"]).encode_to_vec());
    let mut reply = raw.call(PATH, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    node.unsubscribe("s").await.expect("it is live");
    super::support::within("the reset", reply.reset()).await;
}

/// A node that would not find a lost peer by a PING: only the kernel and HTTP/2 tell of it.
fn without_keepalive() -> Node {
    Node::start_with(|config| {
        let connection = std::sync::Arc::make_mut(&mut config.acceptor.connection);
        connection.keepalive_interval = Duration::from_secs(3_600);
    })
}

fn ids() -> impl Iterator<Item = String> {
    (0..45).map(|n| format!("s-{n}"))
}

#[tokio::test]
async fn a_stream_that_its_client_drops_is_removed_at_once() {
    let node = without_keepalive();
    let mut streams = Vec::new();
    for id in ids() {
        streams.push(node.open(request(&id, &["t"])).await);
    }
    drop(streams);
    node.until_live(0).await;
}

#[tokio::test]
async fn the_streams_of_a_connection_that_closes_are_removed_at_once() {
    let node = without_keepalive();
    let channel = endpoint(node.address).connect().await.expect("it listens");
    let mut client =
        v1::subscription_service_client::SubscriptionServiceClient::new(channel.clone());
    let mut streams = Vec::new();
    for id in ids() {
        let stream = client
            .subscribe(request(&id, &["t"]))
            .await
            .expect("let in")
            .into_inner();
        streams.push(stream);
    }
    drop((streams, client, channel));
    node.until_live(0).await;
}

#[tokio::test]
async fn the_streams_of_a_socket_that_closes_without_a_word_are_removed_at_once() {
    let node = without_keepalive();
    let mut raw = Raw::connect(node.address).await;
    let mut replies = Vec::new();
    for id in ids() {
        let body = framed(&request(&id, &["t"]).encode_to_vec());
        let mut reply = raw.call(PATH, &[], body).await;
        assert!(matches!(reply.frame().await, Frame::Welcome(_)));
        replies.push(reply);
    }
    // They stand still with an event pending, as a client does that hangs before it is killed.
    let payload = "x".repeat(16 << 10);
    for _ in 0..10 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    raw.vanish();
    node.until_live(0).await;
}

#[tokio::test]
async fn a_peer_that_vanished_behind_an_open_socket_is_found_by_keepalive() {
    let node = Node::start_with(|config| {
        let connection = std::sync::Arc::make_mut(&mut config.acceptor.connection);
        connection.keepalive_interval = Duration::from_millis(200);
        connection.keepalive_timeout = Duration::from_millis(200);
        // The Welcomes of all, within a tenth of a second.
        connection.keepalive_slowest_reader = 1 << 20;
    });
    let mut raw = Raw::connect(node.address).await;
    let mut replies = Vec::new();
    for id in ids() {
        let body = framed(&request(&id, &["t"]).encode_to_vec());
        let mut reply = raw.call(PATH, &[], body).await;
        assert!(matches!(reply.frame().await, Frame::Welcome(_)));
        replies.push(reply);
    }
    raw.freeze();
    let since = Instant::now();
    node.until_live(0).await;
    assert!(since.elapsed() > Duration::from_millis(100), "too early");
}

fn attempt(instance: u64, attempt: u64) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        instance,
        attempt,
        ..request("5", &["t"])
    }
}

/// A subscriber whose connection is gone, which the server has seen, and its last response.
async fn away(node: &Node, request: v1::SubscribeRequest) -> u64 {
    let before = node.live().await;
    let mut raw = Raw::connect(node.address).await;
    let mut stream = raw.call(PATH, &[], framed(&request.encode_to_vec())).await;
    assert!(matches!(stream.frame().await, Frame::Welcome(_)));
    let sequence = node.publish("t", "x").await;
    assert!(matches!(stream.frame().await, Frame::Event(event) if event.sequence == sequence));
    raw.vanish();
    node.until_live(before).await;
    sequence
}

/// Welcome is first, as always; then it is told.
async fn assert_is_told(node: &Node, request: v1::SubscribeRequest) {
    let (mut stream, _) = node.open(request).await;
    let go_away = stream.go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Unsubscribed);
    assert!(!go_away.reconnect);
    stream.end().await.expect("OK");
}

async fn assert_goes_on(node: &Node, request: v1::SubscribeRequest) {
    let (mut stream, _) = node.open(request).await;
    let sequence = node.publish("t", "x").await;
    assert!(matches!(stream.frame().await, Frame::Event(event) if event.sequence == sequence));
}

#[tokio::test]
async fn a_subscriber_that_is_away_is_unsubscribed_when_it_comes_back() {
    let node = Node::start();
    let sequence = away(&node, attempt(7, 1)).await;
    // The frozen contract promises that nobody is found.
    let mut legacy = node.legacy();
    let frozen = legacy.unsubscribe(longlived_api::protos::Request { id: 5 });
    assert_eq!(frozen.await.expect_err("nobody").code(), Code::NotFound);
    for _ in 0..2 {
        let position = node.unsubscribe("5").await.expect("it is expected back");
        assert_eq!(position.sequence, sequence);
    }
    assert_is_told(&node, attempt(7, 2)).await;
    // It has heard: a call that subscribes from now on concerns it.
    let nobody = node.unsubscribe("5").await.expect_err("nobody is expected");
    assert_eq!(nobody.code(), Code::NotFound);
    assert_goes_on(&node, attempt(7, 3)).await;
}

#[tokio::test]
async fn an_unsubscribe_while_away_does_not_concern_the_next_holder_of_the_id() {
    for other in [8, 0] {
        let node = Node::start();
        away(&node, attempt(7, 1)).await;
        node.unsubscribe("5").await.expect("it is expected back");
        assert_goes_on(&node, attempt(other, 1)).await;
        assert_goes_on(&node, attempt(7, 2)).await;
    }
}

#[tokio::test]
async fn nobody_is_expected_back_without_an_instance_or_after_it_was_sent_away_for_good() {
    let node = Node::start();
    away(&node, attempt(0, 1)).await;
    let nobody = node.unsubscribe("5").await.expect_err("it cannot be told");
    assert_eq!(nobody.code(), Code::NotFound);

    let (mut stream, _) = node.open(attempt(7, 1)).await;
    node.unsubscribe("5").await.expect("it is live");
    stream.go_away().await;
    stream.end().await.expect("OK");
    let nobody = node.unsubscribe("5").await.expect_err("it has heard");
    assert_eq!(nobody.code(), Code::NotFound);
    assert_goes_on(&node, attempt(7, 2)).await;
}

#[tokio::test]
async fn a_subscriber_that_could_not_hear_that_it_was_unsubscribed_is_told_when_it_comes_back() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let mut stream = raw
        .call(PATH, &[], framed(&attempt(7, 1).encode_to_vec()))
        .await;
    assert!(matches!(stream.frame().await, Frame::Welcome(_)));
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        // Its reader takes nothing any more.
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    node.unsubscribe("5").await.expect("it is live");
    // Before the server has given the old stream up, and after.
    assert_is_told(&node, attempt(7, 2)).await;
    let (mut other, _) = node.open(request("other", &["t"])).await;
    super::support::within("the reset", stream.reset()).await;
    node.publish("t", "x").await;
    other.event().await;
    assert_goes_on(&node, attempt(7, 3)).await;
}
