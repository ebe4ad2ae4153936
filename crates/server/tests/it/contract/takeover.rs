//! Several streams of one id: the one that goes on, with any order of arrival, and the ends of the others.

use longlived_api::v1;
use prost::Message as _;
use tonic::Code;

use super::support::{
    Frame, GoAwayReason, Node, Outcome, Raw, RawReply, Stream, assert_says, cause, framed, message,
    position, request,
};

const PATH: &str = "/longlived.v1.SubscriptionService/Subscribe";

fn attempt(instance: u64, attempt: u64) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        instance,
        attempt,
        ..request("s", &["t"])
    }
}

async fn assert_receives(node: &Node, stream: &mut Stream) {
    let sequence = node.publish("t", "x").await;
    loop {
        match stream.frame().await {
            Frame::Event(event) if event.sequence == sequence => return,
            Frame::Event(_) | Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn assert_replaced(stream: &mut Stream) {
    let go_away = stream.go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Replaced);
    assert!(!go_away.reconnect, "{go_away:?}");
    stream.end().await.expect("replaced streams end with OK");
}

async fn assert_taken_over(stream: &mut Stream) {
    let go_away = stream.go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::TakenOver);
    assert!(!go_away.reconnect, "{go_away:?}");
    let status = stream.ends_with(Code::Aborted).await;
    assert_eq!(cause(&status).reason, "TAKEN_OVER");
}

async fn assert_refused(node: &Node, request: v1::SubscribeRequest) {
    let status = node.subscribe(request).await.err().expect("not the newest");
    assert_says(&status, Code::Aborted, &["attempt", "newest"]);
    assert_eq!(cause(&status).reason, "ATTEMPT_NOT_NEWEST");
}

#[tokio::test]
async fn a_higher_attempt_replaces_the_older_stream_which_ends_with_ok() {
    let node = Node::start();
    let (mut first, _) = node.open(attempt(7, 1)).await;
    let sequence = node.publish("t", "x").await;
    let event = first.event().await;
    let (mut second, _) = node.open(attempt(7, 2)).await;
    let go_away = first.go_away().await;
    assert_eq!(go_away.position.expect("the last sent").sequence, sequence);
    assert_eq!(go_away.reason(), GoAwayReason::Replaced);
    assert!(!go_away.reconnect, "{go_away:?}");
    assert_eq!(event.sequence, sequence);
    first.end().await.expect("OK");
    assert_receives(&node, &mut second).await;
}

#[tokio::test]
async fn an_equal_attempt_replaces_as_well() {
    let node = Node::start();
    let (mut first, _) = node.open(attempt(7, 1)).await;
    let (mut second, _) = node.open(attempt(7, 1)).await;
    assert_replaced(&mut first).await;
    assert_receives(&node, &mut second).await;
}

#[tokio::test]
async fn an_older_attempt_that_arrives_late_is_aborted_and_disturbs_nobody() {
    let node = Node::start();
    let (mut second, _) = node.open(attempt(7, 2)).await;
    assert_refused(&node, attempt(7, 1)).await;
    assert_receives(&node, &mut second).await;
    let mut raw = Raw::connect(node.address).await;
    let reply = raw
        .call(PATH, &[], framed(&attempt(7, 0).encode_to_vec()))
        .await;
    assert!(reply.headers_only);
    assert_eq!(reply.header("grpc-status"), Some("10"));
    assert_receives(&node, &mut second).await;
}

#[tokio::test]
async fn an_older_attempt_is_aborted_even_when_the_newest_has_left() {
    let node = Node::start();
    let (second, _) = node.open(attempt(7, 2)).await;
    drop(second);
    assert_refused(&node, attempt(7, 1)).await;
    node.unsubscribe("s").await.err();
    assert_refused(&node, attempt(7, 1)).await;
    node.open(attempt(7, 3)).await;
}

#[tokio::test]
async fn another_instance_takes_the_id_over_and_the_older_stream_is_aborted() {
    let node = Node::start();
    let (mut first, _) = node.open(attempt(7, 9)).await;
    let (mut second, _) = node.open(attempt(8, 1)).await;
    assert_taken_over(&mut first).await;
    assert_receives(&node, &mut second).await;
    // And back: a new stream of the first instance is a takeover like any other.
    let (mut third, _) = node.open(attempt(7, 10)).await;
    assert_taken_over(&mut second).await;
    assert_receives(&node, &mut third).await;
}

#[tokio::test]
async fn unknown_instances_count_as_different_in_either_order_of_their_attempts() {
    let node = Node::start();
    let (mut first, _) = node.open(attempt(0, 5)).await;
    let (mut second, _) = node.open(attempt(0, 1)).await;
    assert_taken_over(&mut first).await;
    let (mut third, _) = node.open(attempt(0, 6)).await;
    assert_taken_over(&mut second).await;
    assert_receives(&node, &mut third).await;
}

#[tokio::test]
async fn an_attempt_from_before_a_takeover_by_another_instance_stays_refused() {
    let node = Node::start();
    let (mut newest, _) = node.open(attempt(7, 5)).await;
    let (mut other, _) = node.open(attempt(8, 1)).await;
    assert_taken_over(&mut newest).await;
    // Sent before attempt 5, held up on its way.
    assert_refused(&node, attempt(7, 4)).await;
    assert_receives(&node, &mut other).await;
}

#[tokio::test]
async fn the_older_stream_goes_on_until_the_new_one_is_current() {
    let node = Node::start();
    let (mut first, welcome) = node.open(attempt(7, 1)).await;
    let epoch = welcome.position.expect("a position").epoch;
    let mut second = catching_up(&node, epoch, attempt(7, 2), &mut first).await;
    assert_receives(&node, &mut first).await;
    let mut seen = 0;
    loop {
        match second.frame().await {
            Frame::Event(event) => {
                assert_eq!(event.sequence, seen + 1);
                seen = event.sequence;
            }
            Frame::Progress(progress) if progress.current => break,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_replaced(&mut first).await;
}

/// A stream that has its Welcome and stands still, with more to catch up than its window holds.
async fn catching_up(
    node: &Node,
    epoch: u64,
    request: v1::SubscribeRequest,
    live: &mut Stream,
) -> RawReply {
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
        live.event().await;
    }
    let resume = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 0)),
        ..request
    };
    let mut raw = Raw::connect(node.address).await;
    let mut reply = raw.call(PATH, &[], framed(&resume.encode_to_vec())).await;
    match reply.frame().await {
        Frame::Welcome(welcome) => assert_eq!(welcome.outcome(), Outcome::Resumed),
        other => panic!("{other:?}"),
    }
    reply.keep(raw);
    reply
}

#[tokio::test]
async fn a_replacement_that_leaves_before_it_was_current_can_be_replaced_itself() {
    let node = Node::start();
    let (mut first, welcome) = node.open(attempt(7, 1)).await;
    let epoch = welcome.position.expect("a position").epoch;
    let second = catching_up(&node, epoch, attempt(7, 2), &mut first).await;
    drop(second);
    assert_receives(&node, &mut first).await;
    let (mut third, _) = node.open(attempt(7, 3)).await;
    assert_replaced(&mut first).await;
    assert_receives(&node, &mut third).await;
}

#[tokio::test]
async fn another_instance_aborts_all_streams_of_the_older_one() {
    let node = Node::start();
    let (mut first, welcome) = node.open(attempt(7, 1)).await;
    let epoch = welcome.position.expect("a position").epoch;
    let mut second = catching_up(&node, epoch, attempt(7, 2), &mut first).await;
    let (mut other, _) = node.open(attempt(8, 1)).await;
    assert_taken_over(&mut first).await;
    loop {
        match second.frame().await {
            Frame::Event(_) => {}
            Frame::GoAway(go_away) => break assert!(!go_away.reconnect),
            other => panic!("{other:?}"),
        }
    }
    assert_receives(&node, &mut other).await;
}

#[tokio::test]
async fn another_instance_aborts_an_older_stream_whose_replacement_has_left() {
    let node = Node::start();
    let (mut first, welcome) = node.open(attempt(7, 1)).await;
    let epoch = welcome.position.expect("a position").epoch;
    let mut second = catching_up(&node, epoch, attempt(7, 2), &mut first).await;
    second.vanish();
    node.until_live(1).await;
    let (mut other, _) = node.open(attempt(8, 1)).await;
    assert_taken_over(&mut first).await;
    assert_receives(&node, &mut other).await;
}

#[tokio::test]
async fn a_stream_that_ends_late_never_removes_its_successor() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let mut first = raw
        .call(PATH, &[], framed(&attempt(7, 1).encode_to_vec()))
        .await;
    assert!(matches!(first.frame().await, Frame::Welcome(_)));
    let payload = "x".repeat(16 << 10);
    for _ in 0..10 {
        // Its reader stands still, so that it cannot end before its connection does.
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    let (mut second, _) = node.open(attempt(7, 2)).await;
    assert_receives(&node, &mut second).await;
    raw.vanish();
    node.until_live(1).await;
    assert_receives(&node, &mut second).await;
    node.unsubscribe("s").await.expect("the successor is there");
    assert_eq!(second.go_away().await.reason(), GoAwayReason::Unsubscribed);
}

#[tokio::test]
async fn many_attempts_in_any_order_leave_exactly_the_newest() {
    let node = Node::start();
    let mut streams = Vec::new();
    for number in [3, 1, 7, 2, 5, 9, 8, 4, 6] {
        if let Ok(mut stream) = node.subscribe(attempt(7, number)).await {
            stream.welcome().await;
            streams.push((number, stream));
        }
    }
    let (newest, mut last) = streams.pop().expect("some were let in");
    assert_eq!(newest, 9);
    for (_, stream) in &mut streams {
        assert_replaced(stream).await;
    }
    assert_receives(&node, &mut last).await;
}

#[tokio::test]
async fn streams_that_arrive_together_leave_exactly_one() {
    let node = std::sync::Arc::new(Node::start());
    let opening = (0..20).map(|n| {
        let node = node.clone();
        super::support::spawn(async move { node.subscribe(attempt(n + 1, 1)).await })
    });
    let mut live = 0;
    let mut streams = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        let stream = opened.await.expect("no panic");
        let mut stream = stream.expect("every instance is let in");
        stream.welcome().await;
        streams.push(stream);
    }
    node.publish("t", "x").await;
    for stream in &mut streams {
        match stream.frame().await {
            Frame::Event(_) => live += 1,
            Frame::GoAway(go_away) => {
                assert!(!go_away.reconnect);
                stream.ends_with(Code::Aborted).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(live, 1);
}
