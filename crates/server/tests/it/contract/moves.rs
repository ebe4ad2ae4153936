//! Streams that are told to move: at their age, and at a drain that gives them time.

use std::time::Duration;

use longlived_api::{protos, v1};
use longlived_server::GeneratorConfig;
use longlived_topic::TopicName;
use prost::Message as _;
use tonic::Code;

use super::support::{
    Frame, GoAwayReason, Node, PATIENCE, Raw, Stream, framed, message, pass, request, within,
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const AGE: Duration = Duration::from_secs(3_600);

fn ageing() -> Node {
    Node::start_with(|config| config.max_stream_age = Some(AGE))
}

fn attempt(id: &str, instance: u64, attempt: u64) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        instance,
        attempt,
        ..request(id, &["t"])
    }
}

fn duration(wire: Option<prost_types::Duration>) -> Duration {
    let wire = wire.expect("it names a time");
    wire.try_into().expect("not negative")
}

/// The next event, with Progress before it.
async fn event(stream: &mut Stream) -> u64 {
    loop {
        match stream.frame().await {
            Frame::Event(event) => return event.sequence,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The end, with Progress before it.
async fn end(stream: &mut Stream) -> Result<(), tonic::Status> {
    loop {
        match stream.next().await {
            Ok(Frame::Progress(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(end) => return end,
        }
    }
}

/// A node that drains with time to move, which publishes by itself: its clients may not meanwhile.
fn overlapping(overlap: Duration) -> Node {
    Node::start_with(|config| {
        config.drain_timeout = 24 * PATIENCE;
        config.drain_overlap = overlap;
        config.generator = Some(GeneratorConfig {
            every: Duration::from_millis(20),
            topic: Some(TopicName::parse("t").expect("a topic")),
        });
    })
}

#[tokio::test]
async fn a_stream_of_its_age_goes_on_until_a_higher_attempt_is_current() {
    let node = ageing();
    let (mut old, welcome) = node.open(attempt("s", 7, 1)).await;
    assert_eq!(duration(welcome.max_stream_age), AGE);
    let first = node.publish("t", "x").await;
    assert_eq!(event(&mut old).await, first);
    pass(AGE).await;
    let go_away = old.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::StreamAge);
    assert!(go_away.reconnect);
    assert_eq!(go_away.position.expect("the last sent").sequence, first);
    let (turn, ends_in) = (duration(go_away.reconnect_after), duration(go_away.ends_in));
    assert!(turn < Duration::from_millis(1_100), "{turn:?}");
    assert!(ends_in > turn + Duration::from_secs(25), "{ends_in:?}");
    assert!(ends_in < Duration::from_secs(40), "{ends_in:?}");

    let second = node.publish("t", "x").await;
    assert_eq!(event(&mut old).await, second, "it delivers as before");
    let (mut new, _) = node
        .open(v1::SubscribeRequest {
            resume_after: go_away.position,
            ..attempt("s", 7, 2)
        })
        .await;
    assert_eq!(event(&mut new).await, second);
    assert!(new.progress().await.current);
    let go_away = old.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Replaced);
    end(&mut old).await.expect("OK");
    let third = node.publish("t", "x").await;
    assert_eq!(event(&mut new).await, third, "it is young");
}

#[tokio::test]
async fn a_client_that_ignores_its_age_is_ended_with_ok_and_no_further_word() {
    let node = ageing();
    let (mut stream, _) = node.open(attempt("s", 7, 1)).await;
    pass(AGE).await;
    let go_away = stream.until_go_away().await;
    let ends_in = duration(go_away.ends_in);
    pass(ends_in / 2).await;
    let sequence = node.publish("t", "x").await;
    assert_eq!(event(&mut stream).await, sequence);
    pass(ends_in / 2 + Duration::from_secs(1)).await;
    end(&mut stream).await.expect("OK");
}

#[tokio::test]
async fn a_client_without_an_instance_is_sent_away_at_its_age() {
    let node = ageing();
    let (mut stream, _) = node.open(attempt("s", 0, 1)).await;
    pass(AGE).await;
    let go_away = stream.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::StreamAge);
    assert!(
        go_away.reconnect && go_away.ends_in.is_none(),
        "{go_away:?}"
    );
    let turn = duration(go_away.reconnect_after);
    assert!(turn < Duration::from_millis(1_100), "{turn:?}");
    stream.end().await.expect("OK");
}

#[tokio::test]
async fn a_program_of_the_frozen_contract_ends_unavailable_at_its_age() {
    let node = ageing();
    let mut client = node.legacy();
    let answer = client.subscribe(protos::Request { id: 1 });
    let answer = within("headers of Subscribe", answer).await;
    let mut stream = answer.expect("let in").into_inner();
    pass(AGE).await;
    let end = within("the end", stream.message()).await;
    assert_eq!(end.expect_err("it is old").code(), Code::Unavailable);
}

#[tokio::test]
async fn a_reader_of_its_age_that_takes_nothing_is_reset_when_its_time_to_move_is_over() {
    let node = ageing();
    let mut raw = Raw::connect(node.address).await;
    let mut reply = raw
        .call(SUBSCRIBE, &[], framed(&attempt("s", 7, 1).encode_to_vec()))
        .await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    pass(AGE).await;
    pass(Duration::from_secs(40)).await;
    within("the reset", reply.reset()).await;
}

#[tokio::test]
async fn a_session_is_told_too_and_its_requests_are_answered_while_it_moves() {
    let node = ageing();
    let (say, said) = tokio::sync::mpsc::channel(4);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let ask = async |request| {
        let request = v1::SessionRequest {
            request: Some(request),
        };
        say.send(request).await.expect("it stands");
    };
    ask(v1::session_request::Request::Open(attempt("s", 7, 1))).await;
    let mut client = node.subscriptions();
    let answer = within("headers", client.session(said)).await;
    let mut stream = Stream::new(answer.expect("let in").into_inner());
    stream.welcome().await;
    pass(AGE).await;
    let go_away = stream.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::StreamAge);
    assert!(go_away.ends_in.is_some());
    ask(v1::session_request::Request::Progress(true)).await;
    assert!(stream.progress().await.current);
}

#[tokio::test]
async fn a_drain_with_an_overlap_ends_when_all_have_moved_and_refuses_new_calls_meanwhile() {
    // Longer than the patience with which the end is waited for.
    let overlap = 12 * PATIENCE;
    let mut node = overlapping(overlap);
    let (mut moving, _) = node.open(attempt("s", 7, 1)).await;
    let (mut alone, _) = node.open(attempt("alone", 0, 1)).await;
    let mut client = node.legacy();
    let frozen = within("headers", client.subscribe(protos::Request { id: 1 })).await;
    let mut frozen = frozen.expect("let in").into_inner();
    node.drain();

    let go_away = moving.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Draining);
    assert!(go_away.reconnect);
    let ends_in = duration(go_away.ends_in);
    assert!(ends_in <= overlap && ends_in > overlap / 2, "{ends_in:?}");
    assert!(duration(go_away.reconnect_after) < Duration::from_secs(2));
    let go_away = alone.until_go_away().await;
    assert_eq!(go_away.reason(), GoAwayReason::Draining);
    assert_eq!(go_away.ends_in, None);
    alone.end().await.expect("OK");
    let ended = loop {
        match within("the end", frozen.message()).await {
            Ok(next) => next.map(drop).expect("a status of its own"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);

    let last = go_away.position.expect("the last sent").sequence;
    while event(&mut moving).await <= last {}
    let refused = node.subscribe(attempt("s", 7, 2)).await;
    assert_eq!(refused.err().expect("it drains").code(), Code::Unavailable);
    // Its client has another stream elsewhere, and leaves this one.
    drop(moving);
    node.ended().await;
}

#[tokio::test]
async fn a_drain_with_an_overlap_ends_those_that_stay_with_ok_when_it_is_over() {
    let overlap = Duration::from_secs(3);
    let mut node = overlapping(overlap);
    let (mut stays, _) = node.open(attempt("s", 7, 1)).await;
    node.drain();
    let go_away = stays.until_go_away().await;
    let ends_in = duration(go_away.ends_in);
    assert!(ends_in <= overlap, "{ends_in:?}");
    let turn = duration(go_away.reconnect_after);
    assert!(
        turn < overlap / 2,
        "half of the time is for the move: {turn:?}"
    );
    pass(overlap).await;
    loop {
        match stays.next().await {
            Ok(Frame::Event(_) | Frame::Progress(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(end) => break end.expect("OK"),
        }
    }
    node.ended().await;
}
