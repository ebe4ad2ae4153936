//! Programs that take one id from each other again and again, although they were told not to come back.

use std::{io::Write, sync::Arc, time::Duration};

use longlived_api::v1;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{Frame, GoAwayReason, Node, Stream, assert_says, cause, request};

fn instance(instance: u64) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        instance,
        attempt: 1,
        ..request("wanted", &["t"])
    }
}

/// Takes the id over until that is refused. Returns how often it went through, the stream that has it now, and the
/// refusal.
async fn fight(node: &Node) -> (u64, Stream, Status) {
    let (mut last, _) = node.open(instance(1)).await;
    for number in 2..1_000 {
        match node.subscribe(instance(number)).await {
            Ok(mut next) => {
                next.welcome().await;
                assert_eq!(last.go_away().await.reason(), GoAwayReason::TakenOver);
                last.ends_with(Code::Aborted).await;
                last = next;
            }
            Err(refused) => return (number - 2, last, refused),
        }
    }
    panic!("nobody was refused");
}

fn wait(refused: &Status) -> Duration {
    assert_says(refused, Code::Unavailable, &["wanted", "too often"]);
    assert_eq!(cause(refused).reason, "TAKEOVER_TOO_OFTEN");
    let told = refused.get_details_retry_info().expect("a wait");
    told.retry_delay.expect("a wait")
}

#[tokio::test]
async fn a_fight_is_refused_with_waits_that_grow_and_the_holder_of_the_id_keeps_it() {
    let node = Node::start();
    let (mut bystander, _) = node.open(request("other", &["t"])).await;
    let (through, mut last, refused) = fight(&node).await;
    assert!(through >= 20, "a few are usual: {through}");
    let mut waits = vec![wait(&refused)];
    for number in 2_000..2_008 {
        let refused = node.subscribe(instance(number)).await;
        waits.push(wait(&refused.err().expect("it goes on")));
    }
    assert!(waits.is_sorted() && waits[1] > waits[0], "{waits:?}");
    assert!(waits[8] <= Duration::from_secs(60), "{waits:?}");
    let sequence = node.publish("t", "x").await;
    for stream in [&mut last, &mut bystander] {
        assert!(matches!(stream.frame().await, Frame::Event(event) if event.sequence == sequence));
    }
    // A newer attempt of the id's holder is no takeover, and other ids are not concerned.
    let newer = v1::SubscribeRequest {
        attempt: 2,
        ..instance(through + 1)
    };
    node.open(newer).await;
    node.open(request("another", &["t"])).await;
    // The id is free again when no stream has it.
    assert_eq!(
        node.unsubscribe("wanted")
            .await
            .expect("it is live")
            .sequence,
        sequence
    );
}

/// The log of this thread at info and above; a test's tasks run there.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_fight_has_one_line_a_second() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let node = Node::start();
    let since = Instant::now();
    let (_, _last, _) = fight(&node).await;
    for number in 2_000..2_500 {
        node.subscribe(instance(number))
            .await
            .err()
            .expect("it goes on");
    }
    let seconds = usize::try_from(since.elapsed().as_secs()).expect("some seconds");
    let text = String::from_utf8(log.0.lock().clone()).expect("text");
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("wanted"))
        .collect();
    let words = lines
        .iter()
        .filter(|line| line.contains("keep taking over"))
        .count();
    assert!((1..=seconds + 1).contains(&words), "{words} in {seconds} s");
    // Two takeovers look like any other: a begin, and an end.
    assert!(lines.len() <= words + 6, "{lines:#?}");
}
