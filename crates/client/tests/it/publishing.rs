//! Messages that are sent once, messages that are sent again, and their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use longlived_api::v1;
use longlived_client::{
    BackoffOptions, Durability, Message, Position, PublishError, Published, Publisher,
};
use longlived_testkit::wait::{until_so, within};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::scripted::{Call, PATIENCE, Server, dialled};

const EPOCH: u64 = 7;

fn stored(sequence: u64) -> v1::PublishResponse {
    v1::PublishResponse {
        position: Some(v1::Position {
            epoch: EPOCH,
            sequence,
        }),
        durability: v1::Durability::Memory.into(),
        duplicate: false,
    }
}

fn plain() -> Message {
    Message::new("t", "hello")
}

fn named(id: &str) -> Message {
    plain().message_id(id)
}

async fn publish(server: &mut Server) -> (v1::PublishRequest, Call) {
    let mut call = server.call().await;
    assert_eq!(call.path, "/longlived.v1.PublishService/Publish");
    (call.message().await.unwrap(), call)
}

fn answer(mut call: Call, sequence: u64) {
    call.send(&stored(sequence));
    call.end(Code::Ok);
}

#[tokio::test]
async fn a_message_arrives_whole_and_its_answer_too() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let message = named("m1").key("k").header("a", "b").deleted();
    let (answered, ()) = tokio::join!(publisher.publish(message), async {
        let (request, mut call) = publish(&mut server).await;
        assert_eq!(
            (request.topic.as_str(), request.payload.as_ref()),
            ("t", b"hello".as_slice())
        );
        assert_eq!(
            (request.key.as_str(), request.message_id.as_str()),
            ("k", "m1")
        );
        assert_eq!(request.headers["a"], "b");
        assert!(request.deleted);
        assert!(call.headers.contains_key("grpc-timeout"));
        call.send(&v1::PublishResponse {
            durability: v1::Durability::Disk.into(),
            duplicate: true,
            ..stored(5)
        });
        call.end(Code::Ok);
    });
    assert_eq!(
        answered.unwrap(),
        Published {
            position: Position::new(EPOCH, 5),
            durability: Durability::Disk,
            duplicate: true,
        }
    );
}

#[tokio::test]
async fn a_refusal_with_a_pushback_is_waited_out_even_without_an_id() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answered, ()) = tokio::join!(publisher.publish(plain()), async {
        let (_, mut call) = publish(&mut server).await;
        let asked = Instant::now();
        call.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "200")]);
        let (_, call) = publish(&mut server).await;
        assert!(asked.elapsed() >= Duration::from_millis(200));
        answer(call, 1);
    });
    assert_eq!(answered.unwrap().position.sequence, 1);
}

#[tokio::test]
async fn without_an_id_a_lost_answer_is_said_and_nothing_is_sent_again() {
    for lose in [
        |call: &mut Call| call.kill_connection(),
        |call: &mut Call| call.end(Code::Unavailable),
        |call: &mut Call| call.end(Code::Internal),
        |call: &mut Call| call.http(502),
        |call: &mut Call| call.reset(h2::Reason::CANCEL),
    ] {
        let mut server = Server::start().await;
        let publisher = server.client().build().unwrap().publisher();
        let (answered, ()) = tokio::join!(publisher.publish(plain()), async {
            let (_, mut call) = publish(&mut server).await;
            lose(&mut call);
        });
        assert!(
            matches!(answered, Err(PublishError::Unknown { unanswered: 1, .. })),
            "{answered:?}"
        );
        assert!(server.is_left_alone().await);
    }
}

#[tokio::test]
async fn with_an_id_a_lost_answer_is_asked_for_again_under_the_same_id() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answered, ()) = tokio::join!(publisher.publish(named("m1")), async {
        let (_, call) = publish(&mut server).await;
        call.kill_connection();
        let (_, mut call) = publish(&mut server).await;
        call.http(503);
        let (request, call) = publish(&mut server).await;
        assert_eq!(request.message_id, "m1");
        answer(call, 9);
    });
    assert_eq!(answered.unwrap().position.sequence, 9);
}

#[tokio::test]
async fn a_message_that_never_left_is_tried_until_its_time_is_over() {
    let server = Server::start().await;
    let dialled = Arc::new(AtomicUsize::new(0));
    let dial = {
        let dialled = dialled.clone();
        move |server: Uri| {
            dialled.fetch_add(1, Ordering::SeqCst);
            TcpStream::connect(server.authority().unwrap().to_string())
        }
    };
    let client = server.client().connector(dial).build().unwrap();
    let address = server.kill().await;
    let publisher = client.publisher().timeout(Duration::from_millis(200));
    let error = publisher.publish(plain()).await.unwrap_err();
    assert!(matches!(error, PublishError::NotSent { .. }), "{error}");

    // And it gets through when the server comes back in time.
    let publisher = client.publisher();
    let before = dialled.load(Ordering::SeqCst);
    let (answered, _server) = tokio::join!(publisher.publish(plain()), async {
        let in_vain = || dialled.load(Ordering::SeqCst) > before + 1;
        until_so("it was tried in vain", in_vain).await;
        let mut server = Server::start_at(address).await;
        let (_, call) = publish(&mut server).await;
        answer(call, 1);
        server
    });
    assert_eq!(answered.unwrap().position.sequence, 1);
}

#[tokio::test]
async fn a_message_that_http2_says_was_not_processed_is_sent_again_even_without_an_id() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answered, ()) = tokio::join!(publisher.publish(plain()), async {
        let (_, mut call) = publish(&mut server).await;
        call.turn_away(h2::Reason::REFUSED_STREAM);
        let (_, call) = publish(&mut server).await;
        answer(call, 1);
    });
    assert_eq!(answered.unwrap().position.sequence, 1);

    let mut pipe = Pipe::new(&server, 8);
    pipe.send(plain()).await;
    let mut call = line(&mut server).await;
    call.turn_away(h2::Reason::REFUSED_STREAM);
    let mut call = line(&mut server).await;
    ids(&mut call, 1).await;
    call.send(&stored(2));
    assert_eq!(pipe.stored().await, 2);
}

#[tokio::test]
async fn a_message_that_is_never_processed_is_said_to_be_not_stored() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let publisher = publisher.timeout(Duration::from_millis(300));
    let refuse = async {
        loop {
            let (_, mut call) = publish(&mut server).await;
            call.turn_away(h2::Reason::REFUSED_STREAM);
        }
    };
    let error = tokio::select! {
        answer = publisher.publish(plain()) => answer.unwrap_err(),
        () = refuse => unreachable!("it refuses for ever"),
    };
    assert!(matches!(error, PublishError::NotSent { .. }), "{error}");
    assert!(error.to_string().contains("not stored"), "{error}");
}

#[tokio::test]
async fn a_wait_longer_than_the_time_that_is_left_costs_no_attempt() {
    let server = Server::start().await;
    let long = BackoffOptions {
        initial: Duration::from_secs(3_600),
        multiplier: 1.0,
        max: Duration::from_secs(3_600),
    };
    // With this seed no wait that is drawn is short.
    let client = server.client().backoff(long).seed(7).build().unwrap();
    let address = server.kill().await;
    let time = Duration::from_millis(1_500);
    let publisher = client.publisher().timeout(time);
    let began = Instant::now();
    let error = publisher.publish(plain()).await.unwrap_err();
    assert!(matches!(error, PublishError::NotSent { .. }), "{error}");
    assert!(began.elapsed() >= time * 9 / 10, "{:?}", began.elapsed());

    let mut stream = publisher.publish_stream(tokio_stream::once(plain()), 8);
    let began = Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(matches!(error, PublishError::NotSent { .. }), "{error}");
    assert!(began.elapsed() >= time * 9 / 10, "{:?}", began.elapsed());

    // A server that is back before the time is over is found.
    let (answered, _server) = tokio::join!(publisher.publish(plain()), async {
        let mut server = Server::start_at(address).await;
        let (_, call) = publish(&mut server).await;
        answer(call, 1);
        server
    });
    assert_eq!(answered.unwrap().position.sequence, 1);
}

#[tokio::test]
async fn a_final_refusal_is_final() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let (answered, ()) = tokio::join!(publisher.publish(named("m1")), async {
        let (_, mut call) = publish(&mut server).await;
        call.refuse(Code::InvalidArgument, &[]);
    });
    assert!(
        matches!(answered, Err(PublishError::Refused(ref refusal)) if refusal.code == Code::InvalidArgument)
    );
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_a_message_its_time() {
    let mut server = Server::start().await;
    let publisher = server
        .client()
        .build()
        .unwrap()
        .publisher()
        .timeout(Duration::from_millis(200));
    let (answered, _call) = tokio::join!(publisher.publish(plain()), publish(&mut server));
    assert!(
        matches!(answered, Err(PublishError::Unknown { .. })),
        "{answered:?}"
    );
}

#[tokio::test]
async fn a_publish_stream_that_has_ended_may_be_read_again() {
    let mut server = Server::start().await;
    let publisher = server.client().build().unwrap().publisher();
    let mut nothing = publisher.publish_stream(tokio_stream::empty(), 8);
    assert!(nothing.next().await.is_none());
    assert!(nothing.next().await.is_none());

    let mut refused = publisher.publish_stream(tokio_stream::once(plain()), 8);
    let (answer, ()) = tokio::join!(refused.next(), async {
        line(&mut server).await.refuse(Code::InvalidArgument, &[]);
    });
    assert!(matches!(answer, Some(Err(PublishError::Refused(_)))));
    assert!(refused.next().await.is_none());
    assert!(refused.next().await.is_none());
}

/// A publish stream that is read all the time, and the messages to feed it.
struct Pipe {
    messages: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Result<Published, PublishError>>,
    _task: JoinSet<()>,
}

impl Pipe {
    fn new(server: &Server, in_flight: usize) -> Self {
        Self::of(server.client().build().unwrap().publisher(), in_flight)
    }

    fn of(publisher: Publisher, in_flight: usize) -> Self {
        let (messages, source) = mpsc::channel(64);
        let (queue, answers) = mpsc::channel(64);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut stream = publisher.publish_stream(ReceiverStream::new(source), in_flight);
            while let Some(answer) = stream.next().await {
                queue.send(answer).await.unwrap();
            }
        });
        Self {
            messages,
            answers,
            _task: task,
        }
    }

    async fn send(&self, message: Message) {
        self.messages.send(message).await.unwrap();
    }

    async fn answer(&mut self) -> Option<Result<Published, PublishError>> {
        timeout(PATIENCE, self.answers.recv()).await.unwrap()
    }

    async fn stored(&mut self) -> u64 {
        self.answer().await.unwrap().unwrap().position.sequence
    }
}

async fn line(server: &mut Server) -> Call {
    let call = server.call().await;
    assert_eq!(call.path, "/longlived.v1.PublishService/PublishStream");
    call
}

async fn ids(call: &mut Call, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(
            call.message::<v1::PublishRequest>()
                .await
                .unwrap()
                .message_id,
        );
    }
    ids
}

async fn topics(call: &mut Call, count: usize) -> Vec<String> {
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(call.message::<v1::PublishRequest>().await.unwrap().topic);
    }
    topics
}

#[tokio::test]
async fn a_stream_keeps_its_limit_in_flight_and_answers_in_order() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 2);
    for id in ["a", "b", "c"] {
        pipe.send(named(id)).await;
    }
    let mut call = line(&mut server).await;
    call.open();
    assert_eq!(ids(&mut call, 2).await, ["a", "b"]);
    let third = timeout(
        Duration::from_millis(200),
        call.message::<v1::PublishRequest>(),
    );
    assert!(third.await.is_err(), "two are unanswered");
    call.send(&stored(1));
    assert_eq!(pipe.stored().await, 1);
    assert_eq!(ids(&mut call, 1).await, ["c"]);
    call.send(&stored(2));
    call.send(&stored(3));
    assert_eq!((pipe.stored().await, pipe.stored().await), (2, 3));
    drop(pipe.messages);
    // The client says that nothing more comes, and sees the OK.
    assert!(call.message::<v1::PublishRequest>().await.is_none());
    assert!(
        timeout(Duration::from_millis(100), pipe.answers.recv())
            .await
            .is_err(),
        "it waits for the status"
    );
    call.end(Code::Ok);
    let end = timeout(PATIENCE, pipe.answers.recv()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
}

#[tokio::test]
async fn a_lost_stream_of_messages_with_ids_sends_the_unanswered_again() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 8);
    for id in ["a", "b", "c"] {
        pipe.send(named(id)).await;
    }
    let mut call = line(&mut server).await;
    assert_eq!(ids(&mut call, 1).await, ["a"]);
    call.send(&stored(1));
    assert_eq!(pipe.stored().await, 1);
    call.kill_connection();
    let mut call = line(&mut server).await;
    assert_eq!(ids(&mut call, 1).await, ["b"]);
    call.send(&stored(2));
    assert_eq!(ids(&mut call, 1).await, ["c"]);
    call.send(&stored(3));
    assert_eq!((pipe.stored().await, pipe.stored().await), (2, 3));
}

#[tokio::test]
async fn a_lost_stream_of_messages_without_ids_says_how_many_are_unknown() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 8);
    for message in [named("a"), plain(), plain()] {
        pipe.send(message).await;
    }
    let mut call = line(&mut server).await;
    call.open();
    ids(&mut call, 3).await;
    call.send(&stored(1));
    assert_eq!(pipe.stored().await, 1);
    call.kill_connection();
    let error = pipe.answer().await.unwrap().unwrap_err();
    assert!(
        matches!(error, PublishError::Unknown { unanswered: 2, .. }),
        "{error}"
    );
    assert!(pipe.answer().await.is_none());
    assert!(server.is_left_alone().await);
}

#[tokio::test]
async fn a_stream_that_is_pushed_back_waits_and_goes_on_even_without_ids() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 8);
    pipe.send(plain()).await;
    let mut call = line(&mut server).await;
    let asked = Instant::now();
    call.refuse(Code::Unavailable, &[("grpc-retry-pushback-ms", "150")]);
    let mut call = line(&mut server).await;
    assert!(asked.elapsed() >= Duration::from_millis(150));
    ids(&mut call, 1).await;
    call.send(&stored(1));
    assert_eq!(pipe.stored().await, 1);
}

#[tokio::test]
async fn a_stream_that_is_ended_with_a_pushback_sends_unanswered_messages_again() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 8);
    for topic in ["one", "two", "three"] {
        pipe.send(Message::new(topic, "hello")).await;
    }
    let mut call = line(&mut server).await;
    call.open();
    assert_eq!(topics(&mut call, 3).await, ["one", "two", "three"]);
    call.send(&stored(1));
    let asked = Instant::now();
    call.end_with(Code::Unavailable, &[("grpc-retry-pushback-ms", "150")]);
    let mut call = line(&mut server).await;
    assert!(asked.elapsed() >= Duration::from_millis(150));
    assert_eq!(topics(&mut call, 2).await, ["two", "three"]);
    call.send(&stored(2));
    call.send(&stored(3));
    for sequence in 1..=3 {
        assert_eq!(pipe.stored().await, sequence);
    }
}

#[tokio::test]
async fn a_refused_message_ends_its_stream() {
    let mut server = Server::start().await;
    let mut pipe = Pipe::new(&server, 8);
    pipe.send(plain()).await;
    let mut call = line(&mut server).await;
    call.open();
    ids(&mut call, 1).await;
    call.end(Code::InvalidArgument);
    assert!(matches!(
        pipe.answer().await,
        Some(Err(PublishError::Refused(_)))
    ));
    assert!(pipe.answer().await.is_none());
}

#[tokio::test]
async fn a_stream_that_dies_while_nothing_is_unanswered_goes_on_with_the_next_message() {
    let mut server = Server::start().await;
    let (forgotten, mut connections_forgotten) = mpsc::channel(8);
    let dial = move |server: Uri| dialled(server, forgotten.clone());
    let client = server.client().connector(dial).build().unwrap();
    let mut pipe = Pipe::of(client.publisher(), 8);
    pipe.send(plain()).await;
    let mut call = line(&mut server).await;
    ids(&mut call, 1).await;
    call.send(&stored(1));
    assert_eq!(pipe.stored().await, 1);
    call.kill_connection();
    let forgotten = within("the client forgets it", connections_forgotten.recv());
    forgotten.await.unwrap();
    pipe.send(plain()).await;
    let mut call = line(&mut server).await;
    ids(&mut call, 1).await;
    call.send(&stored(2));
    assert_eq!(pipe.stored().await, 2);
}
