//! Requests of a `Session` whose response nobody takes: its body is polled as a connection does that has no window.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{future::poll_fn, pin::pin};

use bytes::BytesMut;
use futures_util::{Stream as Requests, stream};
use http_body::Body as _;
use http_body_util::StreamBody;
use longlived_api::v1::{SlowPolicy, session_request::Request as Said};
use longlived_testkit::grpc::{Messages, framed};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{contract::CloseReason, limits::SESSION_ANSWERS_BYTES_MAX, registry::Session};

const PATH: &str = "/longlived.v1.SubscriptionService/Session";

/// The response to a client that sends these requests.
async fn session<R>(door: &Door, requests: R) -> impl ResponseBody<Error = Status> + use<R>
where
    R: Requests<Item = Said> + Send + 'static,
{
    let frames = requests.map(|request| {
        let request = Some(request);
        let bytes = framed(&v1::SessionRequest { request }.encode_to_vec());
        Ok::<_, Infallible>(Frame::data(bytes))
    });
    let request = Request::post(PATH)
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(frames)))
        .expect("a request");
    let answered = within("the headers", door.0.clone().call(request)).await;
    answered.expect("never").into_body()
}

/// Polls a body as long as its reader takes nothing, until something has come of it.
async fn blocked(body: &mut impl ResponseBody, mut until: impl FnMut() -> bool) {
    let polled = poll_fn(|cx| {
        let _ = body.poll_while_blocked(cx);
        if until() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    within("something comes of it", polled).await;
}

/// The responses in the next piece of a body.
async fn taken(body: &mut impl ResponseBody<Error = Status>) -> Vec<Told> {
    let next = poll_fn(|cx| pin!(&mut *body).poll_frame(cx));
    let frame = within("a piece", next).await.expect("it goes on");
    let piece = frame.expect("no error").into_data().expect("not the end");
    let mut piece = BytesMut::from(piece);
    let mut responses = Vec::new();
    while let Some(message) = Messages::take_first(&mut piece) {
        let response = v1::SubscribeResponse::decode(message).expect("a response");
        responses.push(response.frame.expect("it says something"));
    }
    assert!(piece.is_empty(), "whole messages");
    responses
}

impl World {
    /// The one that is there.
    fn session(&self, id: &str) -> Arc<Session> {
        let key = self.node.callers.unknown().subscriber(&id.into());
        let sessions = self.node.registry.sessions_of(&key);
        sessions.into_iter().next().expect("it is there")
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_in_bytes() {
    const REQUESTS: usize = 10_000;
    let world = World::new().await;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let asks = (0..REQUESTS).map(|n| Said::RemoveTopicFilter(format!("never.followed.{n}")));
    let says = [Said::Open(request("s", &["news"]))]
        .into_iter()
        .chain(asks);
    let says = stream::iter(says).inspect(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut body = session(&world.door(None), says).await;
    blocked(&mut body, || world.node.registry.live() == 1).await;
    let answered = read.load(Ordering::Relaxed) - 1;
    assert!(answered > 100, "{answered}");
    for _ in 0..3 {
        blocked(&mut body, || true).await;
    }
    assert_eq!(read.load(Ordering::Relaxed) - 1, answered);

    let first = taken(&mut body).await;
    assert!(matches!(first[0], Told::Welcome(_)));
    assert_eq!(first.len(), 1 + answered);
    let answer = |told: &Told| match told {
        Told::SubscriptionChange(change) => change.encoded_len(),
        other => panic!("{other:?}"),
    };
    let sizes: Vec<_> = first[1..].iter().map(answer).collect();
    let before_the_last: usize = sizes[..answered - 1].iter().sum();
    assert!(before_the_last < SESSION_ANSWERS_BYTES_MAX);
    // The others are answered as the reader takes something.
    let mut all = answered;
    while all < REQUESTS {
        all += taken(&mut body).await.len();
    }
}

#[tokio::test]
async fn an_answer_repeats_no_more_of_a_request_than_a_topic_filter_can_have() {
    let world = World::new().await;
    let long = "\u{e4}".repeat(60_000);
    let add = v1::Subscription {
        topic_filter: long.clone(),
    };
    let says = [
        Said::Open(request("s", &["news"])),
        Said::RemoveTopicFilter(long.clone()),
        Said::Add(add),
    ];
    let says = stream::iter(says).chain(stream::pending());
    let mut body = session(&world.door(None), says).await;
    blocked(&mut body, || world.node.registry.live() == 1).await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.extend(taken(&mut body).await);
    }
    for told in &answers[1..] {
        let Told::SubscriptionChange(change) = told else {
            panic!("{told:?}");
        };
        assert_eq!(change.state(), v1::subscription_change::State::Refused);
        assert_eq!(change.topic_filter.len(), 1_038, "whole characters");
        assert!(long.starts_with(&change.topic_filter));
        assert!(change.encoded_len() < 2_000, "{}", change.encoded_len());
    }
}

#[tokio::test]
async fn a_session_that_cannot_begin_says_so_when_its_client_takes_something() {
    let world = World::new().await;
    let first = stream::iter([Said::Progress(true)]).chain(stream::pending());
    let mut body = session(&world.door(None), first).await;
    blocked(&mut body, || true).await;
    let end = poll_fn(|cx| pin!(&mut body).poll_frame(cx));
    let end = within("the end", end).await.expect("a frame");
    let trailers = end.expect("no error").into_trailers().expect("the end");
    assert_eq!(trailers["grpc-status"], "3");
    assert!(body.is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_not_slow_because_it_has_added_a_topic_filter() {
    let world = World::new().await;
    let door = world.door(None);
    let (say, said) = tokio::sync::mpsc::channel(4);
    let open = v1::SubscribeRequest {
        slow_policy: SlowPolicy::Disconnect.into(),
        ..request("s", &["news"])
    };
    say.send(Said::Open(open)).await.expect("it is read");
    let mut body = session(&door, ReceiverStream::new(said)).await;
    assert!(matches!(taken(&mut body).await[..], [Told::Welcome(_)]));
    let session = world.session("s");
    // From here on it takes nothing. Its position is before that of the new channel.
    door.publish(message("news", "x")).await;
    let add = Said::Add(subscription("added"));
    say.send(add).await.expect("it is read");
    let added = || world.node.log.live_tails() == 2;
    blocked(&mut body, added).await;
    blocked(&mut body, || true).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(session.closing(), None);

    assert!(matches!(
        taken(&mut body).await[..],
        [Told::SubscriptionChange(_)]
    ));
    assert!(matches!(taken(&mut body).await[..], [Told::Event(_)]));
    assert!(matches!(&taken(&mut body).await[..], [Told::Progress(progress)] if progress.current));
    // It keeps up again; so it is slow when it does not.
    door.publish(message("news", "x")).await;
    tokio::time::sleep(world.node.config.stall_timeout * 2).await;
    let slow = session.closing().expect("it is told to go");
    assert!(matches!(slow, CloseReason::Slow { .. }), "{slow:?}");
}
