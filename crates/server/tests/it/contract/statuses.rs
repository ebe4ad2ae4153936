//! How calls end that do not end with OK: the code, the reason that programs go by, and how it is written.

use std::time::Duration;

use http::HeaderMap;
use longlived_api::v1;
use prost::Message as _;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::support::{Node, Raw, RawReply, cause, framed, message, position, request, text};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const UNSUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Unsubscribe";
const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const BULK_PUBLISH: &str = "/longlived.v1.PublishService/BulkPublish";
const LIST_TOPICS: &str = "/longlived.v1.TopicService/ListTopics";
const READ_HISTORY: &str = "/longlived.v1.TopicService/ReadHistory";
const CHECK_POSITION: &str = "/longlived.v1.TopicService/CheckPosition";

/// Headers that are of every answer, or of HTTP/2.
const OF_ANY_ANSWER: [&str; 3] = ["content-type", "x-request-id", "date"];

/// The code and reason of a status, once it is seen to be written as it should.
fn read(trailers: &HeaderMap) -> (String, String, Status) {
    let status = Status::from_header_map(trailers).expect("a status");
    let info = cause(&status);
    let written = text(trailers, "grpc-message").expect("a text");
    assert!(!written.contains("%20"), "blanks stay blanks: {written}");
    let bytes = trailers
        .iter()
        .filter(|(name, _)| !OF_ANY_ANSWER.contains(&name.as_str()))
        .map(|(name, value)| name.as_str().len() + value.len() + 32);
    let bytes: usize = bytes.sum();
    assert!(bytes <= 1_024, "{bytes} bytes of trailers: {trailers:?}");
    (format!("{:?}", status.code()), info.reason, status)
}

async fn end_of(raw: &mut Raw, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> HeaderMap {
    let mut reply = raw.call(path, headers, body).await;
    reply.rest().await.1
}

fn subscribe(change: impl FnOnce(&mut v1::SubscribeRequest)) -> Vec<u8> {
    let mut request = request("s", &["t"]);
    change(&mut request);
    framed(&request.encode_to_vec()).to_vec()
}

fn publish(change: impl FnOnce(&mut v1::PublishRequest)) -> Vec<u8> {
    let mut request = message("t", "x");
    change(&mut request);
    framed(&request.encode_to_vec()).to_vec()
}

type Case = (&'static str, &'static str, Vec<u8>);

/// Longer than any status may quote.
fn long() -> String {
    "\u{e4} long ".repeat(1_000)
}

fn malformed() -> Vec<u8> {
    framed(b"\xff\xff\xff").to_vec()
}

fn bad_subscriptions() -> Vec<Case> {
    vec![
        (
            SUBSCRIBE,
            "FIELD_INVALID",
            subscribe(|it| it.subscriber_id = long()),
        ),
        (
            SUBSCRIBE,
            "FIELD_INVALID",
            subscribe(|it| it.subscriptions[0].topic_filter = long()),
        ),
        (
            SUBSCRIBE,
            "FIELD_INVALID",
            subscribe(|it| it.gap_policy = 77),
        ),
        (
            SUBSCRIBE,
            "INBOX_FOREIGN",
            subscribe(|it| it.subscriptions[0].topic_filter = "inbox.other".into()),
        ),
        (SUBSCRIBE, "REQUEST_MALFORMED", malformed()),
        (SUBSCRIBE, "REQUEST_MISSING", Vec::new()),
        (
            SUBSCRIBE,
            "REQUEST_TOO_LARGE",
            subscribe(|it| it.subscriber_id = "x".repeat(200_000)),
        ),
        (
            SUBSCRIBE,
            "POSITION_OUT_OF_RANGE",
            subscribe(|it| {
                it.resume_after = Some(position(1, 1));
                it.gap_policy = v1::GapPolicy::Fail.into();
            }),
        ),
        (SESSION, "REQUEST_MALFORMED", malformed()),
        (SESSION, "REQUEST_MISSING", Vec::new()),
        (SESSION, "FIELD_INVALID", framed(b"").to_vec()),
        (
            UNSUBSCRIBE,
            "SUBSCRIBER_NOT_FOUND",
            framed(
                &v1::UnsubscribeRequest {
                    subscriber_id: "x".repeat(128),
                    ..v1::UnsubscribeRequest::default()
                }
                .encode_to_vec(),
            )
            .to_vec(),
        ),
    ]
}

fn bad_requests() -> Vec<Case> {
    let large = publish(|it| it.payload = vec![0; 20_000].into());
    vec![
        (PUBLISH, "FIELD_INVALID", publish(|it| it.topic = long())),
        (PUBLISH, "FIELD_INVALID", publish(|it| it.deleted = true)),
        (
            PUBLISH,
            "TOPIC_RESERVED",
            publish(|it| it.topic = "$sys.x".into()),
        ),
        (
            PUBLISH,
            "EVENT_TOO_LARGE",
            publish(|it| it.payload = vec![0; 10_000].into()),
        ),
        (PUBLISH, "REQUEST_TOO_LARGE", large.clone()),
        (PUBLISH_STREAM, "REQUEST_TOO_LARGE", large.clone()),
        (
            PUBLISH_STREAM,
            "REQUEST_MALFORMED",
            b"\x02\x00\x00\x00\x00".to_vec(),
        ),
        (
            PUBLISH_STREAM,
            "REQUEST_MALFORMED",
            publish(|_| {})[..7].to_vec(),
        ),
        (
            BULK_PUBLISH,
            "EVENT_TOO_LARGE",
            [
                publish(|_| {}),
                publish(|it| it.payload = vec![0; 10_000].into()),
            ]
            .concat(),
        ),
        (
            LIST_TOPICS,
            "FIELD_INVALID",
            framed(
                &v1::ListTopicsRequest {
                    page_size: 1_001,
                    ..Default::default()
                }
                .encode_to_vec(),
            )
            .to_vec(),
        ),
        (READ_HISTORY, "FIELD_INVALID", framed(b"").to_vec()),
        (CHECK_POSITION, "REQUEST_MALFORMED", malformed()),
        (
            "/longlived.v1.SubscriptionService/Nothing",
            "METHOD_UNKNOWN",
            Vec::new(),
        ),
    ]
}

#[tokio::test]
async fn every_status_gives_a_reason_and_stays_small_with_any_quoted_text() {
    let node = Node::start_with(|config| config.event_bytes_max = 10_000);
    let mut raw = Raw::connect(node.address).await;
    node.publish("t", "x").await;
    for (path, reason, body) in bad_subscriptions().into_iter().chain(bad_requests()) {
        let trailers = end_of(&mut raw, path, &[], body).await;
        let (_, told, status) = read(&trailers);
        assert_eq!(told, reason, "{path}: {status:?}");
        if reason == "FIELD_INVALID" {
            assert!(cause(&status).metadata.contains_key("field"), "{status:?}");
        }
    }
    let long_path = format!("/{}", "a".repeat(3_000));
    let trailers = end_of(&mut raw, &long_path, &[], Vec::new()).await;
    assert_eq!(read(&trailers).1, "METHOD_UNKNOWN");
    let long_name = "b".repeat(3_000);
    for (headers, reason) in [
        (("grpc-timeout", "soon"), "TIMEOUT_MALFORMED"),
        (("grpc-timeout", "1n"), "DEADLINE_PASSED"),
        (("grpc-encoding", "br"), "ENCODING_UNKNOWN"),
        (("grpc-encoding", long_name.as_str()), "ENCODING_UNKNOWN"),
    ] {
        let trailers = end_of(&mut raw, SUBSCRIBE, &[headers], subscribe(|_| {})).await;
        let (_, told, status) = read(&trailers);
        assert_eq!(told, reason, "{status:?}");
    }
}

#[tokio::test]
async fn a_second_request_of_a_method_that_takes_one_is_internal() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let twice = |one: Vec<u8>| [one.clone(), one].concat();
    for (path, body) in [
        (SUBSCRIBE, twice(subscribe(|_| {}))),
        (
            UNSUBSCRIBE,
            twice(
                framed(
                    &v1::UnsubscribeRequest {
                        subscriber_id: "s".to_owned(),
                        ..v1::UnsubscribeRequest::default()
                    }
                    .encode_to_vec(),
                )
                .to_vec(),
            ),
        ),
        (PUBLISH, twice(publish(|_| {}))),
        (LIST_TOPICS, twice(framed(b"").to_vec())),
        (READ_HISTORY, twice(framed(b"").to_vec())),
        (CHECK_POSITION, twice(framed(b"").to_vec())),
    ] {
        let trailers = end_of(&mut raw, path, &[], body).await;
        let (code, reason, _) = read(&trailers);
        assert_eq!(
            (code.as_str(), reason.as_str()),
            ("Internal", "REQUEST_REPEATED"),
            "{path}"
        );
    }
    for path in [
        "/protos.Longlived/Subscribe",
        "/protos.Longlived/Unsubscribe",
    ] {
        let trailers = end_of(&mut raw, path, &[], twice(framed(b"\x08\x01").to_vec())).await;
        assert_eq!(text(&trailers, "grpc-status"), Some("13"), "{path}");
    }
    let topics = node.publish("after", "x").await;
    assert_eq!(topics, 1, "nothing of it was stored");
}

#[tokio::test]
async fn a_second_request_in_a_frame_of_its_own_is_seen_as_well() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let (response, mut stream) = raw.begin(PUBLISH, &[]).await;
    stream
        .send_data(publish(|_| {}).into(), false)
        .expect("the stream stands");
    stream
        .send_data(publish(|_| {}).into(), true)
        .expect("the stream stands");
    let mut reply = RawReply::of(response).await;
    assert_eq!(read(&reply.rest().await.1).1, "REQUEST_REPEATED");
}

#[tokio::test]
async fn the_frozen_contract_gives_no_details() {
    let mut node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let mut stream = raw
        .call("/protos.Longlived/Subscribe", &[], framed(b"\x08\x01"))
        .await;
    let mut ends = vec![
        end_of(
            &mut raw,
            "/protos.Longlived/Unsubscribe",
            &[],
            framed(b"\x08\x07").to_vec(),
        )
        .await,
        end_of(
            &mut raw,
            "/protos.Longlived/Unsubscribe",
            &[],
            framed(b"\xff").to_vec(),
        )
        .await,
        end_of(
            &mut raw,
            "/protos.Longlived/Subscribe",
            &[("grpc-timeout", "1n")],
            framed(b"\x08\x02").to_vec(),
        )
        .await,
        end_of(
            &mut raw,
            "/protos.Longlived/Subscribe",
            &[("grpc-timeout", "?")],
            framed(b"\x08\x02").to_vec(),
        )
        .await,
        end_of(&mut raw, "/protos.Longlived/Nothing", &[], Vec::new()).await,
    ];
    node.drain();
    ends.push(stream.rest().await.1);
    for end in ends {
        assert_ne!(text(&end, "grpc-status"), Some("0"));
        assert_eq!(text(&end, "grpc-status-details-bin"), None, "{end:?}");
        let written = text(&end, "grpc-message").expect("a text");
        assert!(written.contains(' '), "{written}");
    }
    node.ended().await;
}

#[tokio::test]
async fn a_client_that_is_to_come_back_is_told_when_in_both_ways() {
    let mut node = Node::start_with(|config| {
        config.subscribers_max = 1;
        config.drain_timeout = Duration::from_secs(5);
    });
    let (_stays, _) = node.open(request("s", &["t"])).await;
    let full = node
        .subscribe(request("other", &["t"]))
        .await
        .err()
        .expect("it is full");
    assert_eq!(cause(&full).reason, "SUBSCRIBERS_EXHAUSTED");
    assert_eq!(cause(&full).metadata["limit"], "1");
    assert!(full.get_details_retry_info().is_some());

    let mut raw = Raw::connect(node.address).await;
    // A call that is begun holds the connection until it ends.
    let (response, _stream) = raw.begin(SESSION, &[]).await;
    let mut session = RawReply::of(response).await;
    node.drain();
    let (_, reason, status) = read(&session.rest().await.1);
    assert_eq!(reason, "DRAINING");
    assert!(status.get_details_retry_info().is_some());
    node.ended().await;
}

#[tokio::test]
async fn the_missed_events_of_a_position_out_of_range_can_be_read_without_its_text() {
    let node = Node::start();
    let (_, welcome) = node.open(request("w", &["t"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    for _ in 0..10 {
        node.publish("t", "x").await;
    }
    let fail = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 99)),
        gap_policy: v1::GapPolicy::Fail.into(),
        ..request("s", &["t"])
    };
    let status = node
        .subscribe(fail)
        .await
        .err()
        .expect("it was never written");
    let info = cause(&status);
    assert_eq!(info.reason, "POSITION_OUT_OF_RANGE");
    assert_eq!(info.metadata["epoch"], epoch.to_string());
    assert_eq!(info.metadata["last"], "10");
    assert_eq!(info.metadata["first"], "1");

    let nothing_matches = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 99)),
        gap_policy: v1::GapPolicy::Fail.into(),
        ..request("s", &["u"])
    };
    let status = node.subscribe(nothing_matches).await;
    let info = cause(&status.err().expect("it was never written"));
    assert!(!info.metadata.contains_key("first"), "{info:?}");
    assert_eq!(info.metadata["looked_through"], "10");

    let of_another_epoch = v1::SubscribeRequest {
        resume_after: Some(position(epoch ^ 1, 3)),
        gap_policy: v1::GapPolicy::Fail.into(),
        ..request("s", &["t"])
    };
    let status = node.subscribe(of_another_epoch).await;
    let info = cause(&status.err().expect("its history is gone"));
    assert_eq!(info.reason, "POSITION_OUT_OF_RANGE");
    assert_eq!(info.metadata["first"], "1");
    assert_eq!(info.metadata["last"], "10");
}
