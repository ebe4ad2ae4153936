//! Requests that do not come whole: how long they are waited for, and how much of them is held.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::SendStream;
use longlived_server::Config;
use prost::Message as _;

use super::support::{Node, Raw, RawReply, framed, message, pass, request, text};

const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const BULK_PUBLISH: &str = "/longlived.v1.PublishService/BulkPublish";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const LIMIT: Duration = Duration::from_millis(200);

fn impatient(config: &mut Config) {
    Arc::make_mut(&mut config.acceptor.connection).request_timeout = LIMIT;
}

async fn refused(response: h2::client::ResponseFuture, code: &str, says: &str, about: &str) {
    let (data, trailers) = RawReply::of(response).await.rest().await;
    assert!(data.is_empty(), "{about}");
    assert_eq!(text(&trailers, "grpc-status"), Some(code), "{about}");
    let message = text(&trailers, "grpc-message").expect("a message");
    assert!(message.contains(says), "{about}: {message}");
}

fn send(stream: &mut SendStream<Bytes>, bytes: impl Into<Bytes>) {
    let sent = stream.send_data(bytes.into(), false);
    sent.expect("the stream stands");
}

#[tokio::test]
async fn a_call_that_sends_no_request_ends_and_names_the_limit() {
    let node = Node::start_with(impatient);
    for begun in [b"".as_slice(), b"\0\0", b"\0\0\0\0\x09half"] {
        let mut raw = Raw::connect(node.address).await;
        let mut calls = Vec::new();
        for path in [
            "/longlived.v1.SubscriptionService/Subscribe",
            SESSION,
            "/longlived.v1.SubscriptionService/Unsubscribe",
            PUBLISH,
            "/protos.Longlived/Subscribe",
            "/protos.Longlived/Unsubscribe",
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
        ] {
            let (response, mut stream) = raw.begin(path, &[]).await;
            send(&mut stream, begun);
            calls.push((path, response, stream));
        }
        for (path, response, _stream) in calls {
            refused(response, "4", "request_timeout", path).await;
        }
    }
}

#[tokio::test]
async fn a_message_of_a_stream_that_is_begun_and_not_ended_ends_it() {
    let node = Node::start_with(impatient);
    let (mut stored, _) = node.open(request("s", &["t"])).await;
    let mut raw = Raw::connect(node.address).await;
    let whole = framed(&message("t", "x").encode_to_vec());
    for path in [PUBLISH_STREAM, BULK_PUBLISH] {
        let (response, mut stream) = raw.begin(path, &[]).await;
        send(&mut stream, whole.clone());
        stored.event().await;
        // A stream may have nothing to say for as long as it likes.
        pass(LIMIT * 2).await;
        send(&mut stream, whole.slice(..7));
        let (_, trailers) = RawReply::of(response).await.rest().await;
        assert_eq!(text(&trailers, "grpc-status"), Some("4"), "{path}");
    }
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_publish_yet_goes_on() {
    let node = Node::start_with(impatient);
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PUBLISH_STREAM, &[]).await;
    // Answered after the node has seen the bytes before it.
    raw.call("/nothing/Nothing", &[], framed(b"")).await;
    pass(LIMIT * 3).await;
    send(&mut stream, framed(&message("t", "x").encode_to_vec()));
    let mut reply = RawReply::of(response).await;
    reply.message().await;
}

/// A publish of 20 KiB; its first half, which comes in one piece, and its second.
fn halves() -> (Bytes, Bytes) {
    let mut whole = framed(&message("t", &"x".repeat(20 << 10)).encode_to_vec());
    (whole.split_to(15 << 10), whole)
}

async fn assert_stored(raw: &mut Raw) {
    let (first, second) = halves();
    let reply = raw.call(PUBLISH, &[], [first, second].concat()).await;
    assert_eq!(reply.header("grpc-status"), None, "it is stored");
}

#[tokio::test]
async fn the_bytes_of_a_connections_incomplete_messages_are_bounded() {
    let node = Node::start_with(|config| {
        Arc::make_mut(&mut config.acceptor.connection).connection_bytes_max = 40 << 10;
    });
    let mut raw = Raw::connect(node.address).await;
    let (first, second) = halves();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
        send(&mut stream, first.clone());
        calls.push((response, stream));
    }
    let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
    send(&mut stream, first.clone());
    let reply = RawReply::of(response).await;
    assert_eq!(reply.header("grpc-status"), Some("8"));
    let says = reply.header("grpc-message").expect("a message");
    assert!(says.contains("connection_bytes_max"), "{says}");
    let wait = reply.header("grpc-retry-pushback-ms").expect("a wait");
    assert!(wait.parse::<u32>().expect("a number") <= 5_000);
    // Messages under way before are not disturbed, and release their bytes.
    for (response, mut stream) in calls {
        send(&mut stream, second.clone());
        let reply = RawReply::of(response).await;
        assert_eq!(reply.header("grpc-status"), None);
    }
    // The only one may be larger.
    let large = framed(&message("t", &"x".repeat(1_000 << 10)).encode_to_vec());
    let reply = raw.call(PUBLISH, &[], large).await;
    assert_eq!(reply.header("grpc-status"), None);
    assert_stored(&mut raw).await;
}

#[tokio::test]
async fn the_bytes_of_all_connections_incomplete_messages_are_bounded() {
    let node = Node::start_with(|config| config.acceptor.held_bytes_max = 34 << 10);
    let (first, _) = halves();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(node.address).await;
        let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
        send(&mut stream, first.clone());
        // Answered after the server has seen the bytes before it.
        raw.call("/nothing/Nothing", &[], framed(b"")).await;
        connections.push((raw, response, stream));
    }
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
    send(&mut stream, first.clone());
    refused(response, "8", "held_bytes_max", "the third").await;
    for (raw, ..) in connections {
        raw.vanish();
    }
    // Their places are free when the server has seen that they went.
    loop {
        let (first, second) = halves();
        let reply = raw.call(PUBLISH, &[], [first, second].concat()).await;
        match reply.header("grpc-status") {
            None => break,
            refused => assert_eq!(refused, Some("8")),
        }
    }
}
