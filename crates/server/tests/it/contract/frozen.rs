//! `protos.Longlived`, as programs generated from it years ago see it.

use std::time::Duration;

use bytes::Bytes;
use longlived_api::{protos, v1};
use longlived_server::{GeneratorConfig, legacy_topic};
use prost::Message as _;
use tonic::{Code, Streaming};

use super::support::{Node, Raw, assert_says, message, text, within};

/// `Request{id: 1}` as it goes over the wire.
const REQUEST_1: &[u8] = b"\x00\x00\x00\x00\x02\x08\x01";
/// `Response{data: "data mock for: 1"}` as it goes over the wire.
const RESPONSE_1: &[u8] = b"\x00\x00\x00\x00\x12\x0a\x10data mock for: 1";
/// `Response{}`, the answer of Unsubscribe.
const RESPONSE_EMPTY: &[u8] = b"\x00\x00\x00\x00\x00";

fn generating() -> Node {
    Node::start_with(|config| {
        config.generator = Some(GeneratorConfig {
            every: Duration::from_millis(40),
            topic: None,
        });
    })
}

async fn subscribe(node: &Node, id: i32) -> Result<Streaming<protos::Response>, tonic::Status> {
    let mut client = node.legacy();
    let answer = within(
        "headers of Subscribe",
        client.subscribe(protos::Request { id }),
    );
    Ok(answer.await?.into_inner())
}

async fn next(stream: &mut Streaming<protos::Response>) -> String {
    let next = within("a response", stream.message()).await;
    next.expect("no error").expect("the stream goes on").data
}

async fn end(mut stream: Streaming<protos::Response>) -> Result<(), tonic::Status> {
    while within("a response or the end", stream.message())
        .await?
        .is_some()
    {}
    Ok(())
}

#[test]
fn the_generated_messages_have_the_bytes_of_the_frozen_contract() {
    assert_eq!(protos::Request { id: 1 }.encode_to_vec(), REQUEST_1[5..]);
    let response = protos::Response {
        data: "data mock for: 1".to_owned(),
    };
    assert_eq!(response.encode_to_vec(), RESPONSE_1[5..]);
}

#[tokio::test]
async fn each_tick_is_sent_in_exactly_the_bytes_of_the_frozen_contract() {
    let node = generating();
    let mut raw = Raw::connect(node.address).await;
    let mut reply = raw
        .call("/protos.Longlived/Subscribe", &[], REQUEST_1)
        .await;
    assert_eq!(reply.http_status, 200);
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    for _ in 0..3 {
        assert_eq!(reply.bytes(RESPONSE_1.len()).await, RESPONSE_1);
    }
}

#[tokio::test]
async fn unsubscribe_answers_an_empty_response_and_ends_the_stream_with_ok() {
    let node = generating();
    let mut raw = Raw::connect(node.address).await;
    let mut stream = raw
        .call("/protos.Longlived/Subscribe", &[], REQUEST_1)
        .await;
    stream.bytes(RESPONSE_1.len()).await;

    let mut answer = raw
        .call("/protos.Longlived/Unsubscribe", &[], REQUEST_1)
        .await;
    let (data, trailers) = answer.rest().await;
    assert_eq!(data, RESPONSE_EMPTY);
    assert_eq!(text(&trailers, "grpc-status"), Some("0"));

    let (_, trailers) = stream.rest().await;
    assert_eq!(text(&trailers, "grpc-status"), Some("0"));
}

#[tokio::test]
async fn unsubscribe_of_an_unknown_id_is_not_found() {
    let node = Node::start();
    let status = node.legacy().unsubscribe(protos::Request { id: 77 }).await;
    assert_says(
        &status.expect_err("nobody is there"),
        Code::NotFound,
        &["77"],
    );
}

#[tokio::test]
async fn zero_and_negative_ids_are_subscribers_like_any_other() {
    let node = generating();
    for id in [0, -1, i32::MIN] {
        let mut stream = subscribe(&node, id).await.expect("it is let in");
        assert_eq!(next(&mut stream).await, format!("data mock for: {id}"));
    }
}

#[tokio::test]
async fn only_the_subscriber_of_an_inbox_receives_its_ticks() {
    let node = generating();
    let mut one = subscribe(&node, 1).await.expect("it is let in");
    let mut two = subscribe(&node, 2).await.expect("it is let in");
    for _ in 0..3 {
        assert_eq!(next(&mut one).await, "data mock for: 1");
        assert_eq!(next(&mut two).await, "data mock for: 2");
    }
}

#[tokio::test]
async fn a_takeover_ends_the_older_stream_unavailable_and_the_third_within_a_minute_is_refused() {
    let node = generating();
    let first = subscribe(&node, 1).await.expect("it is let in");
    let second = subscribe(&node, 1).await.expect("the first takeover");
    let status = end(first).await.expect_err("it was taken over");
    assert_eq!(status.code(), Code::Unavailable);
    let mut third = subscribe(&node, 1).await.expect("the second takeover");
    let status = end(second).await.expect_err("it was taken over");
    assert_eq!(status.code(), Code::Unavailable);

    let mut raw = Raw::connect(node.address).await;
    let refused = raw
        .call("/protos.Longlived/Subscribe", &[], REQUEST_1)
        .await;
    assert!(refused.headers_only, "a refusal is trailers only");
    assert_eq!(refused.header("grpc-status"), Some("14"));
    let wait = refused.header("grpc-retry-pushback-ms").expect("a wait");
    assert!(wait.parse::<u32>().expect("a number") > 0);
    assert_eq!(
        next(&mut third).await,
        "data mock for: 1",
        "the last stream stays"
    );
    subscribe(&node, 2).await.expect("another id is not meant");
}

#[tokio::test]
async fn legacy_topics_are_delivered_beside_the_inbox_as_lossy_text() {
    let node = Node::start_with(|config| {
        config.legacy_topics = vec![
            legacy_topic("news.>").expect("a filter"),
            legacy_topic("prices.*").expect("a filter"),
        ];
    });
    let mut stream = subscribe(&node, 9).await.expect("it is let in");
    node.publish("news.sport.today", "goal").await;
    node.publish("elsewhere", "not for it").await;
    node.publish("inbox.9", "for you").await;
    node.publish("inbox.8", "not for it").await;
    let raw = v1::PublishRequest {
        payload: Bytes::from_static(b"\xffa"),
        ..message("prices.gold", "")
    };
    node.try_publish(raw).await.expect("it is stored");
    assert_eq!(next(&mut stream).await, "goal");
    assert_eq!(next(&mut stream).await, "for you");
    assert_eq!(next(&mut stream).await, "\u{fffd}a");
}

#[tokio::test]
async fn a_drain_ends_legacy_streams_unavailable() {
    let mut node = generating();
    let mut stream = subscribe(&node, 1).await.expect("it is let in");
    next(&mut stream).await;
    node.drain();
    let status = end(stream).await.expect_err("so that such programs return");
    assert_eq!(status.code(), Code::Unavailable);
    node.ended().await;
}

#[tokio::test]
async fn both_contracts_share_ids_and_topics() {
    let node = Node::start();
    let stream = subscribe(&node, 5).await.expect("it is let in");
    node.unsubscribe("5").await.expect("it is live");
    end(stream).await.expect("Unsubscribe ends it with OK");
}
