//! Streams that follow one reader, seen by a peer whose windows change under them.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use longlived_api::v1;
use longlived_broker::{
    Begin, Cursor, Delivery, Log, LogConfig, Message, PublishOptions, PublishReply, Sequence,
    storage::{MemoryStore, RetentionConfig},
};
use longlived_server::testkit::connection::{ConnectionEnd, ConnectionSettings};
use longlived_topic::{TopicFilter, TopicName};
use prost::Message as _;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use self::{
    bodies::{Call, Calls, OPTIONS, answer, environment},
    peer::{Peer, Shape},
};
use super::{piped::over_pipe, support::spawn};
use longlived_testkit::frames::WINDOW_MAX;

mod bodies;
mod hostile;
mod peer;

/// A log, one connection to it, and its peer.
struct World {
    log: Log,
    calls: Calls,
    peer: Peer,
    served: JoinHandle<ConnectionEnd>,
    // In the order of their sequences, which begin with 1.
    published: Vec<(&'static str, Bytes)>,
    answers: Vec<oneshot::Receiver<PublishReply>>,
}

/// Runs a test on one thread, with a clock that goes on only when nothing else can: the same at each run.
fn with_world<T, F>(
    initial: u32,
    pipe_bytes: usize,
    tail_bytes_max: usize,
    test: impl FnOnce(World) -> F,
) -> T
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let retention = RetentionConfig::new(Vec::new());
        let store = MemoryStore::new(environment(), retention, 1_000);
        let config = LogConfig {
            tail_bytes_max,
            ..LogConfig::default()
        };
        let (log, sequencer) = Log::new(Arc::new(store), config);
        spawn(sequencer.run(CancellationToken::new()));
        let calls = Calls::default();
        let service = {
            let (log, calls) = (log.clone(), calls.clone());
            service_fn(move |request: Request<tonic::body::Body>| {
                Box::pin(answer(log.clone(), calls.clone(), request))
            })
        };
        let settings = ConnectionSettings {
            keepalive_interval: Duration::from_secs(3_600),
            // Peers of these tests say little at a time, each millisecond.
            header_block_timeout: Duration::from_secs(3_600),
            ..ConnectionSettings::default()
        };
        let (near, served) = over_pipe(pipe_bytes, settings, service);
        let mut world = World {
            log,
            calls,
            peer: Peer::new(near, initial),
            served: spawn(served),
            published: Vec::new(),
            answers: Vec::new(),
        };
        world.exchange().await;
        test(world).await
    })
}

/// All other tasks are idle: a paused clock goes on only then.
async fn all_idle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl World {
    /// Calls for later messages, or for `all` that were ever published.
    fn call(&mut self, topic: &str, begin: &str, shape: &Shape) -> u32 {
        let path = format!("/{topic}/{begin}/{}", self.peer.next_stream());
        self.peer.call(&path, shape)
    }

    fn called(&self, stream: u32) -> Call {
        self.calls.lock()[&stream].clone()
    }

    /// Hands messages to the sequencer, which has its turn later.
    async fn submit(&mut self, topic: &'static str, sizes: &[usize]) {
        let first = self.published.len();
        let payload = |(index, bytes): (usize, &usize)| {
            // No two of them are alike, and no part of one is like another part.
            let number = (first + index) as u32;
            let words = (0..).flat_map(|word: u32| (word ^ number << 20).to_be_bytes());
            (topic, words.take(*bytes).collect())
        };
        let payloads = sizes.iter().enumerate().map(payload);
        self.published.extend(payloads);
        let name = TopicName::parse(topic).expect("a topic");
        let messages = self.published[first..].iter();
        let messages = messages.map(|(_, payload)| Message::new(name.clone(), payload.clone()));
        let submitted = self
            .log
            .submit(messages.collect(), PublishOptions::default());
        self.answers.push(submitted.await.expect("there is room"));
    }

    /// Publishes a message, and waits until every task is idle.
    async fn publish(&mut self, topic: &'static str, bytes: usize) {
        self.submit(topic, &[bytes]).await;
        all_idle().await;
    }

    /// Writes and reads until neither end has anything more to say.
    async fn exchange(&mut self) {
        loop {
            let written = self.peer.write(usize::MAX);
            all_idle().await;
            let read = self.peer.read(usize::MAX);
            assert!(!self.served.is_finished(), "the connection has ended");
            if written + read == 0 {
                return;
            }
        }
    }

    /// The frames of all events of a topic with their sequences, read by a cursor of its own and compared with the
    /// published ones.
    async fn truth(&mut self, topic: &str) -> Vec<(Sequence, Bytes)> {
        for answer in self.answers.drain(..) {
            let reply = answer.await.expect("the sequencer answers");
            assert_eq!(reply.refused, None);
        }
        let filter = TopicFilter::parse(topic).expect("a filter");
        let opened = Cursor::open_history(&self.log, &[filter], Begin::Earliest, OPTIONS).await;
        let mut cursor = opened.unwrap_or_else(|error| panic!("{error}")).cursor;
        let mut frames = Vec::new();
        loop {
            let delivery = std::future::poll_fn(|cx| cursor.poll_next(cx)).await;
            let mut bytes = match delivery {
                Ok(Delivery::Events { bytes, .. }) => bytes,
                Ok(Delivery::Scanned) => continue,
                Ok(Delivery::Current) => break,
                other => panic!("history keeps everything: {other:?}"),
            };
            while !bytes.is_empty() {
                let head = bytes[1..5].try_into().map(u32::from_be_bytes);
                let frame = bytes.split_to(5 + head.expect("four bytes") as usize);
                let response = v1::SubscribeResponse::decode(&frame[5..]).expect("a response");
                let Some(v1::subscribe_response::Frame::Event(event)) = response.frame else {
                    panic!("not an event: {response:?}");
                };
                let (published, payload) = &self.published[event.sequence as usize - 1];
                assert_eq!((&*event.topic, *published), (topic, topic));
                assert_eq!(event.payload, payload, "of {}", event.sequence);
                frames.push((event.sequence, frame));
            }
        }
        let published = self.published.iter().filter(|(name, _)| *name == topic);
        assert_eq!(frames.len(), published.count());
        frames
    }

    /// The final bytes of each answered stream; without those whose call was dropped before.
    async fn expected(&mut self) -> BTreeMap<u32, Vec<Bytes>> {
        let calls = self.calls.lock().clone();
        let mut expected = BTreeMap::new();
        for (stream, call) in calls {
            let truth = self.truth(&call.topic).await.into_iter();
            let missed = truth.filter(|(sequence, _)| *sequence > call.after);
            expected.insert(stream, missed.map(|(_, frame)| frame).collect());
        }
        expected
    }
}

const PLENTY: u32 = 1 << 30;
const TAIL_BYTES_MAX: usize = 64 << 20;

#[test]
fn a_stream_that_follows_is_not_asked_for_frames() {
    with_world(
        PLENTY,
        64 << 10,
        TAIL_BYTES_MAX,
        async |mut world: World| {
            world.peer.give(0, PLENTY);
            let streams: Vec<_> = (0..3)
                .map(|_| world.call("a", "next", &Shape::default()))
                .collect();
            world.exchange().await;
            let polls = |world: &World| -> Vec<_> {
                let polls = |stream: &u32| world.called(*stream).polls();
                streams.iter().map(polls).collect()
            };
            let before = polls(&world);
            for bytes in [0, 1, 100, 20_000, 100_000, 100] {
                world.publish("a", bytes).await;
                world.exchange().await;
            }
            assert_eq!(polls(&world), before);
            for (stream, frames) in world.expected().await {
                assert_eq!(frames.len(), 6);
                assert!(world.peer.seen(stream).received == frames.concat());
            }
        },
    );
}

#[test]
fn a_stream_that_ran_dry_follows_again_although_its_topic_is_busy() {
    const PIPE_BYTES: usize = 4 << 10;
    const DRY: u32 = 2_000;
    with_world(DRY, PIPE_BYTES, TAIL_BYTES_MAX, async |mut world: World| {
        world.peer.give(0, PLENTY);
        let streams: Vec<_> = (0..3)
            .map(|_| world.call("a", "next", &Shape::default()))
            .collect();
        let [first, second, dry] = streams[..] else {
            unreachable!()
        };
        world.peer.give(first, PLENTY);
        world.peer.give(second, PLENTY);
        world.exchange().await;
        while world.peer.seen(dry).received.len() < DRY as usize {
            world.publish("a", 100).await;
            world.exchange().await;
        }
        // While the socket is full the stream gets a WINDOW_UPDATE, and its topic goes on. When the socket takes more,
        // the stream comes before the group and reads events that the group has not got yet.
        for _ in 0..2 * PIPE_BYTES / 100 {
            world.publish("a", 100).await;
        }
        world.peer.give(dry, PLENTY);
        world.peer.write(usize::MAX);
        all_idle().await;
        world.publish("a", 100).await;
        world.exchange().await;
        assert!(world.peer.seen(dry).received.len() > DRY as usize);
        for _ in 0..3 {
            world.publish("a", 100).await;
            world.exchange().await;
        }
        let before = world.called(dry).polls();
        for _ in 0..10 {
            world.publish("a", 100).await;
            world.exchange().await;
        }
        assert_eq!(world.called(dry).polls() - before, 0);
        for (stream, frames) in world.expected().await {
            assert!(world.peer.seen(stream).received == frames.concat());
        }
    });
}

#[test]
fn a_reset_in_the_middle_of_a_delivery_leaves_it_whole_for_the_others() {
    // The connection's window ends in the middle of the second of three streams.
    const EVENT_BYTES: usize = 40_000;
    for reset in 0..3 {
        with_world(PLENTY, 1 << 20, TAIL_BYTES_MAX, async |mut world: World| {
            let streams: Vec<_> = (0..3)
                .map(|_| world.call("a", "next", &Shape::default()))
                .collect();
            world.exchange().await;
            world.publish("a", EVENT_BYTES).await;
            world.exchange().await;
            let received = |world: &World| -> Vec<_> {
                let received = |stream: &u32| world.peer.seen(*stream).received.len();
                streams.iter().map(received).collect()
            };
            let before = received(&world);
            let whole = before[0];
            assert!(whole > EVENT_BYTES && before[1] > 0 && before[1] < whole);
            assert_eq!(before[2], 0);
            world.peer.reset(streams[reset]);
            world.exchange().await;
            world.peer.give(0, WINDOW_MAX);
            world.publish("a", 100).await;
            world.exchange().await;
            for (stream, frames) in world.expected().await {
                let received = &world.peer.seen(stream).received;
                if stream == streams[reset] {
                    assert_eq!(received.len(), before[reset]);
                    assert!(frames.concat().starts_with(received));
                } else {
                    assert!(*received == frames.concat());
                }
            }
        });
    }
}

#[test]
fn nothing_more_comes_for_a_stream_whose_reset_was_read() {
    with_world(0, 64 << 10, TAIL_BYTES_MAX, async |mut world: World| {
        world.publish("a", 100).await;
        let stream = world.call("a", "all", &Shape::default());
        world.exchange().await;
        // Both are read at once: the stream is woken when it has capacity already.
        world.peer.reset(stream);
        world.peer.give(stream, PLENTY);
        world.exchange().await;
        assert!(world.peer.seen(stream).received.is_empty());
    });
}

#[test]
fn nothing_more_comes_for_a_follower_whose_reset_was_read_however_much_the_others_have_to_say() {
    const BUSY: usize = 6;
    with_world(0, 4 << 20, TAIL_BYTES_MAX, async |mut world: World| {
        world.submit("b", &[60_000; 5]).await;
        let calls = (0..BUSY).map(|_| world.call("b", "all", &Shape::default()));
        let busy: Vec<_> = calls.collect();
        let first = world.call("a", "next", &Shape::default());
        let second = world.call("a", "next", &Shape::default());
        world.peer.give(first, PLENTY);
        world.peer.give(second, PLENTY);
        world.exchange().await;
        // The connection's window ends in the middle of the second stream's bytes.
        world.publish("a", 40_000).await;
        world.exchange().await;
        let before = world.peer.seen(second).received.len();
        assert!(before > 0 && before < 40_000);
        // All at once: streams that come before it have more to say than goes into one turn.
        world.peer.reset(second);
        world.peer.give(0, PLENTY);
        for stream in busy {
            world.peer.give(stream, PLENTY);
        }
        world.exchange().await;
        assert_eq!(world.peer.seen(second).received.len(), before);
        for (stream, frames) in world.expected().await {
            if stream != second {
                assert!(world.peer.seen(stream).received == frames.concat());
            }
        }
    });
}
