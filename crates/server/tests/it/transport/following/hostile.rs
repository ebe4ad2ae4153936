//! Any peer: windows that rise and fall in the middle, WINDOW_UPDATEs of any size, resets, bytes cut anywhere and a
//! reader that pauses, while topics go on. It gets no byte beyond a window, and of each topic all bytes, once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use super::{
    PLENTY, World, all_idle,
    bodies::Call,
    peer::{End, Shape},
    with_world,
};
use longlived_testkit::frames::WINDOW_MAX;

const TOPICS: [&str; 3] = ["a", "b", "c"];
const STREAMS_MAX: usize = 8;
const CASES: u32 = 150;

#[derive(Clone, Debug)]
struct Calls {
    topic: usize,
    /// All published events, or only later ones.
    all: bool,
    shape: Shape,
}

/// Streams are meant by their order, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Call(Calls),
    Publish {
        topic: usize,
        sizes: Vec<usize>,
    },
    GiveConnection(u32),
    Give(usize, u32),
    SetInitial(u32),
    Reset(usize),
    /// The server resets the stream, ends its body, or wakes it for nothing.
    Abort(usize),
    End(usize),
    Nudge(usize),
    Write(usize),
    Read(usize),
    /// The others have their turn: once, or until none of them can go on.
    Yield,
    Idle,
    /// Both ends write their pending bytes.
    Exchange,
    /// Until the tails have let go of their events.
    Age,
}

#[derive(Clone, Debug)]
struct Script {
    initial: u32,
    pipe_bytes: usize,
    tail_bytes_max: usize,
    topics: usize,
    /// The first windows of the connection, and its calls.
    connection: u32,
    calls: Vec<Calls>,
    /// Streams without a WINDOW_UPDATE in the end: by their order, a bit each. `None`: it comes to all by another
    /// initial window.
    starved: Option<u8>,
    steps: Vec<Step>,
}

fn calls() -> impl Strategy<Value = Calls> {
    let padding = prop::option::weighted(0.3, any::<u8>());
    let cuts = prop::collection::vec(0_usize..20, 0..3);
    let topic = prop_oneof![4 => Just(0_usize), 1 => 1_usize..3];
    let all = prop::bool::weighted(0.3);
    (topic, all, padding, cuts).prop_map(|(topic, all, padding, mut cuts)| {
        cuts.sort_unstable();
        let shape = Shape { padding, cuts };
        Calls { topic, all, shape }
    })
}

fn payload_bytes() -> impl Strategy<Value = usize> {
    // Some are larger than a frame, and some than all that is collected for one write.
    prop_oneof![
        24 => 0_usize..300,
        4 => 1_000_usize..5_000,
        1 => 16_000_usize..40_000,
        1 => 65_000_usize..100_000,
    ]
}

fn initial() -> impl Strategy<Value = u32> {
    let little = select(vec![0, 1, 10, 500, 3_000]);
    let much = select(vec![20_000, 65_535, 100_000, 1 << 20, WINDOW_MAX]);
    prop_oneof![little, much]
}

fn window_bytes() -> impl Strategy<Value = u32> {
    let little = select(vec![1, 9, 120, 1_000]);
    let much = select(vec![10_000, 16_384, 70_000, 300_000, 1 << 20]);
    prop_oneof![little, much]
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..STREAMS_MAX;
    let topic = || prop_oneof![4 => Just(0_usize), 1 => 1_usize..3];
    let amount = || prop_oneof![1_usize..30, 30_usize..2_000, Just(1 << 20)];
    let sizes = || prop::collection::vec(payload_bytes(), 1..4);
    let publish = (topic(), sizes()).prop_map(|(topic, sizes)| Step::Publish { topic, sizes });
    prop_oneof![
        2 => calls().prop_map(Step::Call),
        16 => publish,
        4 => window_bytes().prop_map(Step::GiveConnection),
        6 => (stream(), window_bytes()).prop_map(|(stream, bytes)| Step::Give(stream, bytes)),
        3 => initial().prop_map(Step::SetInitial),
        1 => stream().prop_map(Step::Reset),
        1 => stream().prop_map(Step::Abort),
        1 => stream().prop_map(Step::End),
        3 => stream().prop_map(Step::Nudge),
        8 => amount().prop_map(Step::Write),
        8 => amount().prop_map(Step::Read),
        4 => Just(Step::Yield),
        12 => Just(Step::Idle),
        8 => Just(Step::Exchange),
        1 => Just(Step::Age),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let pipe_bytes = select(vec![300, 1_000, 4_096, 20_000, 100_000]);
    let tail_bytes_max = select(vec![20_000, 200_000, 64 << 20]);
    let connection = select(vec![0, 10_000, 300_000, 1 << 20, PLENTY]);
    let places = (initial(), pipe_bytes, tail_bytes_max, 1_usize..=3);
    let calls = prop::collection::vec(calls(), 2..6);
    let steps = prop::collection::vec(step(), 20..150);
    let all = (
        places,
        connection,
        calls,
        prop::option::weighted(0.7, any::<u8>()),
        steps,
    );
    all.prop_map(|(places, connection, calls, starved, steps)| {
        let (initial, pipe_bytes, tail_bytes_max, topics) = places;
        Script {
            initial,
            pipe_bytes,
            tail_bytes_max,
            topics,
            connection,
            calls,
            starved,
            steps,
        }
    })
}

impl Script {
    async fn play(&self, mut world: World) -> World {
        let (mut aborted, mut ended) = (Vec::new(), Vec::new());
        world.peer.give(0, self.connection);
        for calls in &self.calls {
            self.call(calls, &mut world);
        }
        for step in &self.steps {
            self.take(step, &mut world, &mut aborted, &mut ended).await;
            assert!(!world.served.is_finished(), "the connection has ended");
        }
        world.exchange().await;
        let streams: Vec<_> = world.peer.streams().map(|(stream, _)| stream).collect();
        world.peer.give(0, PLENTY);
        for (index, stream) in streams.iter().enumerate() {
            if self.starved.is_some() && !self.starves(index) {
                world.peer.give(*stream, PLENTY);
            }
        }
        if self.starved.is_none() {
            world.peer.set_initial(PLENTY);
        }
        world.exchange().await;
        let expected = world.expected().await;
        for (index, stream) in streams.iter().enumerate() {
            let seen = world.peer.seen(*stream);
            let Some(frames) = expected.get(stream) else {
                assert!(seen.reset, "stream {stream} was not answered");
                assert!(seen.received.is_empty());
                continue;
            };
            let all = frames.concat();
            assert!(
                all.starts_with(&seen.received),
                "of stream {stream} something is lost or came twice"
            );
            let is_whole = |frame_end: usize| frame_end == seen.received.len();
            let mut ends = frames.iter().scan(0, |end, frame| {
                *end += frame.len();
                Some(*end)
            });
            let at_an_end = seen.received.is_empty() || ends.any(is_whole);
            let (was_aborted, was_ended) = (aborted.contains(stream), ended.contains(stream));
            match seen.end {
                Some(End::Ended) => assert!(was_ended && at_an_end, "stream {stream} is cut"),
                Some(End::Reset) => assert!(was_aborted, "stream {stream} was reset"),
                None if seen.reset || self.starves(index) => {}
                None => {
                    assert!(!was_ended && !was_aborted, "stream {stream} goes on");
                    let missing = all.len() - seen.received.len();
                    assert_eq!(missing, 0, "bytes that stream {stream} had capacity for");
                }
            }
        }
        world
    }

    fn starves(&self, index: usize) -> bool {
        self.starved.is_some_and(|bits| bits >> index & 1 == 1)
    }

    fn call(&self, calls: &Calls, world: &mut World) {
        let begin = if calls.all { "all" } else { "next" };
        world.call(TOPICS[calls.topic % self.topics], begin, &calls.shape);
    }

    async fn take(
        &self,
        step: &Step,
        world: &mut World,
        aborted: &mut Vec<u32>,
        ended: &mut Vec<u32>,
    ) {
        let streams = (world.peer.next_stream() / 2) as usize;
        let stream = |index: &usize| (streams > 0).then(|| 2 * (index % streams) as u32 + 1);
        let called = |index| stream(index).filter(|stream| world.calls.lock().contains_key(stream));
        match step {
            Step::Call(calls) => {
                if streams < STREAMS_MAX {
                    self.call(calls, world);
                }
            }
            Step::Publish { topic, sizes } => {
                world.submit(TOPICS[topic % self.topics], sizes).await;
            }
            Step::GiveConnection(bytes) => world.peer.give(0, *bytes),
            Step::SetInitial(bytes) => world.peer.set_initial(*bytes),
            Step::Give(index, bytes) => {
                if let Some(stream) = stream(index) {
                    world.peer.give(stream, *bytes);
                }
            }
            Step::Reset(index) => {
                if let Some(stream) = stream(index) {
                    world.peer.reset(stream);
                }
            }
            Step::Abort(index) => {
                if let Some(stream) = called(index) {
                    aborted.push(stream);
                    world.called(stream).abort.abort();
                }
            }
            Step::End(index) => {
                if let Some(stream) = called(index) {
                    ended.push(stream);
                    world.called(stream).end();
                }
            }
            Step::Nudge(index) => {
                if let Some(stream) = called(index) {
                    world.called(stream).nudge();
                }
            }
            Step::Write(most) => {
                world.peer.write(*most);
            }
            Step::Read(most) => {
                world.peer.read(*most);
            }
            Step::Yield => tokio::task::yield_now().await,
            Step::Idle => all_idle().await,
            Step::Exchange => world.exchange().await,
            Step::Age => tokio::time::sleep(Duration::from_secs(10)).await,
        }
    }
}

#[test]
fn any_peer_gets_no_byte_beyond_a_window_and_of_each_topic_all_bytes_once() {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::with_cases(CASES)
    };
    let follows = AtomicUsize::new(0);
    let bytes = AtomicUsize::new(0);
    let result = TestRunner::new(config).run(&script(), |script| {
        let Script {
            initial,
            pipe_bytes,
            tail_bytes_max,
            ..
        } = script;
        let world = with_world(initial, pipe_bytes, tail_bytes_max, async |world| {
            script.play(world).await
        });
        let followed = world.calls.lock().values().map(Call::follows).sum();
        follows.fetch_add(followed, Ordering::SeqCst);
        let received = world.peer.streams().map(|(_, seen)| seen.received.len());
        bytes.fetch_add(received.sum(), Ordering::SeqCst);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // That there was something to check.
    let (follows, bytes) = (follows.into_inner(), bytes.into_inner());
    assert!(follows > 3 * CASES as usize, "{follows} times one followed");
    assert!(bytes > 100_000 * CASES as usize, "{bytes} bytes in all");
}
