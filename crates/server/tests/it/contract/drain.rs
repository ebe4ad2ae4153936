//! How a node goes away, as its clients see it.

use std::time::Duration;

use longlived_api::v1;
use longlived_server::SERVICES;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::support::{
    Frame, GoAwayReason, Node, PATIENCE, Raw, RawReply, endpoint, framed, message, request, text,
    within,
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";

fn draining_within(timeout: Duration) -> Node {
    Node::start_with(|config| config.drain_timeout = timeout)
}

/// A node whose drain timeout no test waits for: its streams end by themselves.
fn patient() -> Node {
    draining_within(24 * PATIENCE)
}

/// A subscriber that stands still with more events pending than it can be sent, so that the drain has to wait.
async fn stuck(node: &Node) -> (Raw, RawReply) {
    let mut raw = Raw::connect(node.address).await;
    let body = framed(&request("stuck", &["stuck"]).encode_to_vec());
    let mut reply = raw.call(SUBSCRIBE, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("stuck", &payload)).await;
        stored.expect("it is stored");
    }
    (raw, reply)
}

#[tokio::test]
async fn every_live_stream_is_sent_away_with_a_turn_of_its_own_and_ends_with_ok() {
    let mut node = Node::start();
    let mut streams = Vec::new();
    for n in 0..40 {
        streams.push(node.open(request(&format!("s-{n}"), &["t"])).await.0);
    }
    let sequence = node.publish("t", "x").await;
    for stream in &mut streams {
        stream.event().await;
    }
    node.drain();
    let mut turns = Vec::new();
    for mut stream in streams {
        let go_away = stream.go_away().await;
        assert_eq!(go_away.reason(), GoAwayReason::Draining);
        assert!(go_away.reconnect);
        assert_eq!(go_away.position.expect("the last sent").sequence, sequence);
        let turn = go_away.reconnect_after.expect("a turn");
        turns.push(Duration::try_from(turn).expect("not negative"));
        stream.end().await.expect("OK");
    }
    node.ended().await;
    turns.sort_unstable();
    turns.dedup();
    assert!(turns.len() > 30, "spread, not all the same: {turns:?}");
    let spread = turns[turns.len() - 1].saturating_sub(turns[0]);
    assert!(spread > Duration::from_millis(300), "{spread:?}");
    assert!(turns[turns.len() - 1] < Duration::from_secs(2), "{turns:?}");
}

#[tokio::test]
async fn new_calls_are_refused_with_a_pushback_in_trailers_only_while_health_answers() {
    let mut node = draining_within(Duration::from_millis(1_500));
    let _stuck = stuck(&node).await;
    let mut raw = Raw::connect(node.address).await;
    let mut health = HealthClient::new(endpoint(node.address).connect().await.expect("it listens"));
    let asking = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut watches = Vec::new();
    for service in SERVICES.into_iter().chain([""]) {
        let watch = health.watch(asking(service)).await.expect("known");
        let mut watch = watch.into_inner();
        let first = within("a status", watch.message()).await.expect("no error");
        assert_eq!(first.expect("at once").status(), ServingStatus::Serving);
        watches.push(watch);
    }
    node.drain();
    for watch in &mut watches {
        let news = within("the news", watch.message()).await.expect("no error");
        assert_eq!(news.expect("news").status(), ServingStatus::NotServing);
    }
    for service in SERVICES.into_iter().chain([""]) {
        let answer = health.check(asking(service)).await.expect("it answers");
        assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
    }
    for path in [
        SUBSCRIBE,
        SESSION,
        "/longlived.v1.PublishService/Publish",
        "/longlived.v1.SubscriptionService/Unsubscribe",
        "/protos.Longlived/Subscribe",
    ] {
        let reply = raw.call(path, &[], framed(b"")).await;
        assert!(reply.headers_only, "{path}");
        assert_eq!(reply.header("grpc-status"), Some("14"), "{path}");
        let wait = reply.header("grpc-retry-pushback-ms").expect("a wait");
        assert!(wait.parse::<u32>().expect("a number") <= 60_000);
    }
    // A connection that comes now gets an answer too.
    let mut late = Raw::connect(node.address).await;
    let reply = late.call(SUBSCRIBE, &[], framed(b"")).await;
    assert_eq!(reply.header("grpc-status"), Some("14"));
    node.ended().await;
}

#[tokio::test]
async fn stuck_silent_and_half_open_peers_do_not_hold_up_the_end() {
    let mut node = draining_within(Duration::from_secs(1));
    let (stuck_raw, _stuck) = stuck(&node).await;
    let _silent = TcpStream::connect(node.address).await.expect("it listens");
    let half_open = Raw::connect(node.address).await;
    half_open.freeze();
    stuck_raw.freeze();
    node.drain();
    node.ended().await;
}

#[tokio::test]
async fn a_node_with_nothing_but_idle_connections_ends_at_once() {
    let mut node = patient();
    let idle = endpoint(node.address).connect().await.expect("it listens");
    let _silent = TcpStream::connect(node.address).await.expect("it listens");
    node.drain();
    node.ended().await;
    drop(idle);
}

#[tokio::test]
async fn an_idle_peer_that_ignores_goaway_does_not_hold_the_end_up_for_the_drain_timeout() {
    let mut node = patient();
    let mut raw = Raw::connect(node.address).await;
    raw.call("/nothing/Nothing", &[], framed(b"")).await;
    raw.freeze();
    node.drain();
    node.ended().await;
}

#[tokio::test]
async fn a_stuck_reader_holds_the_end_up_until_it_is_reset() {
    let mut node = patient();
    let (raw, mut reply) = stuck(&node).await;
    node.drain();
    within("the reset", reply.reset()).await;
    node.ended().await;
    drop(raw);
}

#[tokio::test]
async fn an_open_reflection_stream_does_not_hold_the_end_up() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let mut node = patient();
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut client = ServerReflectionClient::new(node.channel());
    let answers = client.server_reflection_info(asked).await;
    let mut answers = answers.expect("it answers").into_inner();
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    ask.send(list).await.expect("the call stands");
    let answer = within("an answer", answers.message()).await;
    answer.expect("no error").expect("an answer");
    node.drain();
    node.ended().await;
    let end = within("the end of the stream", answers.message()).await;
    assert_eq!(end.expect_err("it drains").code(), Code::Unavailable);
    drop(ask);
}

#[tokio::test]
async fn calls_whose_request_has_not_come_are_refused_by_the_drain_and_do_not_hold_it_up() {
    let mut node = patient();
    let mut raw = Raw::connect(node.address).await;
    let mut waiting = Vec::new();
    for path in [
        SUBSCRIBE,
        SESSION,
        "/longlived.v1.SubscriptionService/Unsubscribe",
        "/longlived.v1.PublishService/Publish",
        "/protos.Longlived/Subscribe",
        "/protos.Longlived/Unsubscribe",
    ] {
        waiting.push(raw.begin(path, &[]).await);
    }
    // Answered after the server has seen the calls above.
    raw.call("/nothing/Nothing", &[], framed(b"")).await;
    node.drain();
    for (response, _request) in waiting {
        let mut reply = RawReply::of(response).await;
        let (data, trailers) = reply.rest().await;
        assert!(data.is_empty());
        assert_eq!(text(&trailers, "grpc-status"), Some("14"));
        let wait = text(&trailers, "grpc-retry-pushback-ms").expect("a wait");
        assert!(wait.parse::<u32>().expect("a number") <= 60_000);
    }
    node.ended().await;
}

#[tokio::test]
async fn publishing_streams_end_unavailable_and_answered_messages_are_stored() {
    let mut node = Node::start();
    let (say, said) = tokio::sync::mpsc::channel(1);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut client = node.publishing();
    let answers = client.publish_stream(said).await.expect("it answers");
    let mut answers = answers.into_inner();
    for _ in 0..3 {
        say.send(message("t", "x")).await.expect("the call stands");
        let answer = within("an answer", answers.message()).await;
        answer.expect("no refusal").expect("an answer");
    }
    let mut raw = Raw::connect(node.address).await;
    let path = "/longlived.v1.PublishService/BulkPublish";
    let (response, mut stream) = raw.begin(path, &[]).await;
    for _ in 0..3 {
        let message = framed(&message("t", "x").encode_to_vec());
        stream.send_data(message, false).expect("the stream stands");
    }
    // Its messages are in the log before the drain begins.
    let (mut reader, _) = node
        .open(v1::SubscribeRequest {
            start: Some(super::support::earliest()),
            ..request("reader", &["t"])
        })
        .await;
    let mut seen = 0;
    while seen < 6 {
        match reader.frame().await {
            Frame::Event(event) => seen = event.sequence,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    node.drain();
    let status = within("the end", answers.message())
        .await
        .expect_err("it drains");
    assert_eq!(status.code(), Code::Unavailable);
    let wait = status.metadata().get("grpc-retry-pushback-ms");
    assert!(wait.is_some(), "nothing after the last answer is stored");
    let (_, trailers) = RawReply::of(response).await.rest().await;
    assert_eq!(text(&trailers, "grpc-status"), Some("14"));
    assert_eq!(text(&trailers, "longlived-published"), Some("3"));
    assert!(text(&trailers, "grpc-retry-pushback-ms").is_some());
    loop {
        match reader.frame().await {
            Frame::GoAway(_) => break,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    reader.end().await.expect("OK");
    node.ended().await;
}
