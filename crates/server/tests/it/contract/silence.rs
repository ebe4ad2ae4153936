//! A stream with nothing to deliver says Progress within the silence that Welcome promises.

use std::time::Duration;

use longlived_api::v1;

use super::support::{Frame, Node, assert_current_at, request};

fn silent_for(seconds: i64, nanos: i32, id: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        max_silence: Some(prost_types::Duration { seconds, nanos }),
        ..request(id, &["t"])
    }
}

#[tokio::test]
async fn a_quiet_stream_says_progress_within_the_promised_silence() {
    let node = Node::start();
    let (mut stream, welcome) = node.open(silent_for(0, 50_000_000, "s")).await;
    let promised = welcome.max_silence.expect("it promises");
    assert_eq!(promised.seconds, 1, "clamped");
    node.publish("elsewhere", "moves the head").await;
    let head = node.publish("elsewhere", "moves the head").await;
    for _ in 0..2 {
        assert_current_at(&mut stream, head).await;
    }
    let (_, welcome) = node.open(silent_for(86_400, 0, "s")).await;
    assert_eq!(
        welcome.max_silence.expect("it promises").seconds,
        300,
        "clamped"
    );
}

#[tokio::test]
async fn the_servers_own_silence_holds_where_none_is_asked_for() {
    let node = Node::start_with(|config| config.max_silence = Duration::from_secs(1));
    let (mut stream, welcome) = node.open(request("s", &["t"])).await;
    assert_eq!(welcome.max_silence.expect("it promises").seconds, 1);
    // Nothing is published, so only the silence makes it speak; another subscriber asks for five minutes of it.
    let (mut patient, _) = node.open(silent_for(300, 0, "patient")).await;
    for _ in 0..3 {
        assert_current_at(&mut stream, 0).await;
    }
    node.publish("t", "x").await;
    assert!(matches!(patient.frame().await, Frame::Event(_)));
}
