use std::{
    collections::BTreeSet,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Waker,
    time::SystemTime,
};

use longlived_api::v1;
use proptest::prelude::*;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Environment, LogConfig, Message, PublishOptions, TopicFilter, TopicName,
    frame::{Compression, Encoding},
    store::{AppendError, HistoryClass, Limits, MemoryStore, RetentionConfig},
};

mod shared;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn limits(events: u64) -> Limits {
    Limits {
        events,
        bytes: u64::MAX,
        age: None,
    }
}

/// Runs a test against a real sequencer, which ends with it.
fn with_log<T>(
    classes: Vec<(&str, u64)>,
    tail_bytes_max: usize,
    test: impl AsyncFnOnce(Log) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
        let classes = classes
            .into_iter()
            .map(|(text, events)| HistoryClass {
                filter: filter(text),
                limits: limits(events),
            })
            .collect();
        let store = MemoryStore::new(environment, RetentionConfig::new(classes), 1000);
        let config = LogConfig {
            tail_bytes_max,
            ..LogConfig::default()
        };
        let (log, sequencer) = Log::new(Arc::new(store), config);
        let run: std::pin::Pin<Box<dyn Future<Output = Result<(), AppendError>>>> =
            Box::pin(sequencer.run(CancellationToken::new()));
        tokio::select! {
            _ = run => unreachable!("nobody stops it"),
            result = test(log) => result,
        }
    })
}

async fn publish(log: &Log, topics: &[&str]) -> Vec<Sequence> {
    let messages = topics
        .iter()
        .map(|topic| Message::new(TopicName::parse(topic).unwrap(), topic.as_bytes().to_vec()))
        .collect();
    let answer = log
        .submit(messages, PublishOptions::default())
        .await
        .unwrap();
    let reply = answer.await.unwrap();
    assert_eq!(reply.refused, None);
    reply.published.iter().map(|p| p.sequence).collect()
}

const OPTIONS: ReadOptions = ReadOptions {
    gap_policy: GapPolicy::Earliest,
    slow_policy: SlowPolicy::Park,
    event_bytes_max: 4 << 20,
    encoding: Encoding::V1,
    compression: Compression::Identity,
};

async fn open(log: &Log, filters: &[TopicFilter], begin: Begin, options: ReadOptions) -> Opened {
    Cursor::open(log, filters, begin, options, Arc::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

fn poll(cursor: &mut Cursor) -> Poll<Result<Delivery, CursorError>> {
    cursor.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn events(mut bytes: &[u8]) -> Vec<v1::Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let response = v1::SubscribeResponse::decode(&bytes[5..5 + len]).unwrap();
        match response.frame {
            Some(v1::subscribe_response::Frame::Event(event)) => events.push(event),
            other => panic!("not an event: {other:?}"),
        }
        bytes = &bytes[5 + len..];
    }
    events
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<usize>),
    Read(usize),
    Resume,
    Add(usize),
    Remove(usize),
}

const TOPICS: [&str; 6] = ["a.x", "a.y", "b.x", "b.y", "c", "inbox.1"];
const FILTERS: [&str; 8] = ["a.x", "a.*", "*.x", "b.y", ">", "c", "inbox.1", "b.>"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(0..TOPICS.len(), 1..12).prop_map(Step::Publish),
        4 => (0..6usize).prop_map(Step::Read),
        1 => Just(Step::Resume),
        1 => (0..FILTERS.len()).prop_map(Step::Add),
        1 => (0..FILTERS.len()).prop_map(Step::Remove),
    ]
}

/// What a subscriber saw, held against all that was published.
#[derive(Default)]
struct Observed {
    delivered: BTreeSet<Sequence>,
    gaps: Vec<(Sequence, Sequence)>,
    last: Sequence,
}

impl Observed {
    fn read(&mut self, cursor: &mut Cursor) -> Result<bool, TestCaseError> {
        match poll(cursor) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(Delivery::Events { bytes, count })) => {
                let events = events(&bytes);
                prop_assert_eq!(events.len(), count);
                for event in events {
                    prop_assert!(event.sequence > self.last, "rising, no repeat");
                    self.last = event.sequence;
                    self.delivered.insert(event.sequence);
                }
            }
            Poll::Ready(Ok(Delivery::Gap(gap))) => {
                prop_assert!(gap.after >= self.last, "a gap follows what came before it");
                prop_assert!(gap.through > gap.after);
                self.gaps.push((gap.after, gap.through));
                self.last = gap.through;
            }
            Poll::Ready(Ok(Delivery::Scanned | Delivery::Current)) => {}
            Poll::Ready(Err(error)) => prop_assert!(false, "{}", error),
        }
        prop_assert!(cursor.position().sequence >= self.last);
        Ok(true)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any mix of publishing, trimming, lagging, resuming and changing filters: every matching event is
    /// delivered once and in order, or lies in an announced gap; each gap holds an event that is gone.
    #[test]
    fn every_matching_event_arrives_once_or_is_announced(
        steps in prop::collection::vec(step(), 1..60),
        first in prop::collection::btree_set(0..FILTERS.len(), 1..4),
        keep_a in 1..40u64,
        keep_rest in 1..60u64,
        tail_bytes in prop::sample::select(vec![0usize, 150, 600, 1 << 20]),
    ) {
        let classes = vec![("a.>", keep_a), ("inbox.>", 3), (">", keep_rest)];
        with_log(classes, tail_bytes, async |log| {
            let mut filters: Vec<TopicFilter> = first.iter().map(|&f| filter(FILTERS[f])).collect();
            let mut published: Vec<(Sequence, &str)> = Vec::new();
            let mut expected: BTreeSet<Sequence> = BTreeSet::new();
            let mut seen = Observed::default();
            let mut cursor = open(&log, &filters, Begin::Next, OPTIONS).await.cursor;
            for step in steps {
                match step {
                    Step::Publish(topics) => {
                        let topics: Vec<_> = topics.into_iter().map(|t| TOPICS[t]).collect();
                        for (sequence, topic) in publish(&log, &topics).await.into_iter().zip(topics) {
                            published.push((sequence, topic));
                            if filters.iter().any(|f| f.matches(topic)) {
                                expected.insert(sequence);
                            }
                        }
                    }
                    Step::Read(times) => {
                        for _ in 0..times {
                            seen.read(&mut cursor)?;
                        }
                    }
                    Step::Resume => {
                        let position = cursor.position();
                        let opened = open(&log, &filters, Begin::After(position), OPTIONS).await;
                        prop_assert_eq!(opened.position, position);
                        cursor = opened.cursor;
                    }
                    Step::Add(index) => {
                        let added = filter(FILTERS[index]);
                        if !cursor.follows(&added) {
                            // Caught up first: a resume asks for all filters from one position.
                            while seen.read(&mut cursor)? {}
                            let attached = cursor.attacher().attach(added.clone()).await.unwrap();
                            let after = cursor.add(attached);
                            prop_assert_eq!(after.sequence, log.visible());
                            filters.push(added);
                        }
                    }
                    Step::Remove(index) => {
                        let removed = filter(FILTERS[index]);
                        if let Some(after) = cursor.remove(&removed) {
                            filters.retain(|f| *f != removed);
                            expected.retain(|&sequence| {
                                let topic = published.iter().find(|(s, _)| *s == sequence).unwrap().1;
                                sequence <= after.sequence || filters.iter().any(|f| f.matches(topic))
                            });
                        }
                        if filters.is_empty() {
                            break;
                        }
                    }
                }
            }
            while seen.read(&mut cursor)? {}
            prop_assert_eq!(cursor.settle().0.sequence, log.visible());
            let in_gap = |s: Sequence| seen.gaps.iter().any(|&(after, through)| after < s && s <= through);
            for &sequence in &expected {
                prop_assert!(
                    seen.delivered.contains(&sequence) != in_gap(sequence),
                    "{} neither arrived nor was announced, or both", sequence
                );
            }
            prop_assert!(seen.delivered.is_subset(&expected), "only what matches arrives");
            Ok(())
        })?;
    }
}

#[test]
fn a_gap_names_exactly_what_retention_took_and_only_on_topics_that_lost_something() {
    with_log(vec![("noisy", 2)], 0, async |log| {
        publish(&log, &["quiet", "noisy", "noisy", "noisy", "noisy"]).await;
        let position = Position {
            epoch: log.epoch().get(),
            sequence: 1,
        };
        let noisy = open(&log, &[filter("noisy")], Begin::After(position), OPTIONS).await;
        assert_eq!(noisy.outcome, Outcome::Reset);
        let mut cursor = noisy.cursor;
        match poll(&mut cursor) {
            Poll::Ready(Ok(Delivery::Gap(gap))) => {
                assert_eq!(
                    (gap.reason, gap.after, gap.through),
                    (GapReason::Trimmed, 1, 3)
                );
            }
            other => panic!("{other:?}"),
        }
        let quiet = open(&log, &[filter("quiet")], Begin::After(position), OPTIONS).await;
        assert_eq!(
            quiet.outcome,
            Outcome::Resumed,
            "no false gap on a quiet topic"
        );
    });
}

#[test]
fn a_kept_event_between_trimmed_ones_is_still_delivered() {
    with_log(vec![("noisy", 1)], 0, async |log| {
        publish(&log, &["noisy", "quiet", "noisy", "noisy"]).await;
        let start = Position {
            epoch: log.epoch().get(),
            sequence: 0,
        };
        let filters = [filter("noisy"), filter("quiet")];
        let mut cursor = open(&log, &filters, Begin::After(start), OPTIONS)
            .await
            .cursor;
        let mut seen = Vec::new();
        while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
            match delivery {
                Delivery::Gap(gap) => seen.push(format!("gap {}-{}", gap.after, gap.through)),
                Delivery::Events { bytes, .. } => {
                    seen.extend(events(&bytes).iter().map(|e| e.sequence.to_string()));
                }
                Delivery::Scanned | Delivery::Current => {}
            }
        }
        assert_eq!(seen, ["gap 0-1", "2", "gap 2-3", "4"]);
    });
}

#[test]
fn each_gap_policy_does_what_it_says() {
    with_log(vec![(">", 2)], 0, async |log| {
        publish(&log, &["t"; 5]).await;
        let at = |epoch, sequence| Begin::After(Position { epoch, sequence });
        let epoch = log.epoch().get();
        let policy = |gap_policy| ReadOptions {
            gap_policy,
            ..OPTIONS
        };
        for (begin, reason) in [
            (at(epoch, 1), GapReason::Trimmed),
            (at(epoch + 1, 9), GapReason::EpochChanged),
            (at(epoch, 99), GapReason::Future),
        ] {
            let filters = [filter("t")];
            let failed = Cursor::open(
                &log,
                &filters,
                begin,
                policy(GapPolicy::Fail),
                Arc::default(),
            );
            match failed.await.err() {
                Some(CursorError::OutOfRange { last: 5, .. }) => {}
                other => panic!("{other:?}"),
            }
            let mut latest = open(&log, &filters, begin, policy(GapPolicy::Latest)).await;
            assert_eq!(latest.outcome, Outcome::Reset);
            match poll(&mut latest.cursor) {
                Poll::Ready(Ok(Delivery::Gap(gap))) => {
                    assert_eq!((gap.reason, gap.through), (reason, 5));
                }
                other => panic!("{other:?}"),
            }
            let mut earliest = open(&log, &filters, begin, OPTIONS).await;
            match poll(&mut earliest.cursor) {
                Poll::Ready(Ok(Delivery::Gap(gap))) => {
                    let through = if reason == GapReason::Future { 5 } else { 3 };
                    assert_eq!((gap.reason, gap.through), (reason, through));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn an_event_above_the_readers_limit_becomes_a_gap_of_one() {
    with_log(vec![], 1 << 20, async |log| {
        let options = ReadOptions {
            event_bytes_max: 100,
            ..OPTIONS
        };
        let mut cursor = open(&log, &[filter("t")], Begin::Next, options)
            .await
            .cursor;
        let topic = TopicName::parse("t").unwrap();
        let sizes = [10, 500, 10];
        let messages = sizes.map(|size| Message::new(topic.clone(), vec![0; size]));
        let answer = log.submit(messages.into_iter().collect(), PublishOptions::default());
        answer.await.unwrap().await.unwrap();
        let mut seen = Vec::new();
        while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
            match delivery {
                Delivery::Gap(gap) => seen.push((gap.after, gap.through, gap.events)),
                Delivery::Events { bytes, .. } => {
                    seen.extend(events(&bytes).iter().map(|e| (e.sequence, 0, 0)));
                }
                Delivery::Scanned | Delivery::Current => {}
            }
        }
        assert_eq!(seen, [(1, 0, 0), (1, 2, 1), (3, 0, 0)]);
    });
}

#[test]
fn a_reader_that_was_current_and_fell_behind_is_disconnected_if_it_asked_for_that() {
    with_log(vec![], 0, async |log| {
        let options = ReadOptions {
            slow_policy: SlowPolicy::Disconnect,
            ..OPTIONS
        };
        let mut cursor = open(&log, &[filter("t")], Begin::Next, options)
            .await
            .cursor;
        publish(&log, &["t", "t"]).await;
        match poll(&mut cursor) {
            Poll::Ready(Err(CursorError::Slow { .. })) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_start_time_begins_with_the_first_event_at_or_after_it() {
    with_log(vec![], 0, async |log| {
        publish(&log, &["t"]).await;
        tokio::time::advance(std::time::Duration::from_secs(10)).await;
        publish(&log, &["t"]).await;
        for (seconds, first) in [(0, 1), (5, 2), (10, 2)] {
            let begin = Begin::Time(seconds * 1_000_000_000);
            let mut cursor = open(&log, &[filter("*")], begin, OPTIONS).await.cursor;
            match poll(&mut cursor) {
                Poll::Ready(Ok(Delivery::Events { bytes, .. })) => {
                    assert_eq!(events(&bytes)[0].sequence, first);
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_start_time_that_lies_ahead_begins_there_and_not_before() {
    with_log(vec![], 0, async |log| {
        let begin = Begin::Time(60_000_000_000);
        let mut cursor = open(&log, &[filter("t")], begin, OPTIONS).await.cursor;
        let mut seen = Vec::new();
        for second in 0..4 {
            publish(&log, &["t"]).await;
            while let Poll::Ready(delivery) = poll(&mut cursor) {
                if let Delivery::Events { bytes, .. } = delivery.unwrap() {
                    seen.extend(events(&bytes).iter().map(|e| (second, e.sequence)));
                }
            }
            tokio::time::advance(std::time::Duration::from_secs(30)).await;
        }
        assert_eq!(seen, [(2, 3), (3, 4)]);
    });
}

#[test]
fn what_the_tail_still_has_is_resumed_though_history_has_let_it_go() {
    with_log(vec![("t", 2)], 1 << 20, async |log| {
        let _reader = open(&log, &[filter("t")], Begin::Next, OPTIONS).await;
        publish(&log, &["t"; 10]).await;
        let position = Position {
            epoch: log.epoch().get(),
            sequence: 3,
        };
        for gap_policy in [GapPolicy::Earliest, GapPolicy::Latest, GapPolicy::Fail] {
            let options = ReadOptions {
                gap_policy,
                ..OPTIONS
            };
            let filters = [filter("t")];
            let mut opened = open(&log, &filters, Begin::After(position), options).await;
            assert_eq!(opened.outcome, Outcome::Resumed);
            match poll(&mut opened.cursor) {
                Poll::Ready(Ok(Delivery::Events { count: 7, .. })) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_reset_is_followed_by_its_gap_at_once() {
    with_log(vec![("a", 1), ("b", 100)], 0, async |log| {
        publish(&log, &["b", "b", "a", "a", "b"]).await;
        let position = |sequence| Position {
            epoch: log.epoch().get(),
            sequence,
        };
        let filters = [filter("a"), filter("b")];
        // Event 2 is kept and follows directly; 3 is gone.
        let opened = open(&log, &filters, Begin::After(position(1)), OPTIONS).await;
        assert_eq!(opened.outcome, Outcome::Resumed);
        let mut opened = open(&log, &filters, Begin::After(position(2)), OPTIONS).await;
        assert_eq!(opened.outcome, Outcome::Reset);
        match poll(&mut opened.cursor) {
            Poll::Ready(Ok(Delivery::Gap(gap))) => assert_eq!((gap.after, gap.through), (2, 3)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_catch_up_is_over_at_the_head_it_came_to_however_busy_the_log_is() {
    with_log(vec![], 1 << 20, async |log| {
        publish(&log, &["t"; 3]).await;
        let mut cursor = open(&log, &[filter("t")], Begin::Earliest, OPTIONS)
            .await
            .cursor;
        for _ in 0..10 {
            publish(&log, &["t"]).await;
            match poll(&mut cursor) {
                Poll::Ready(Ok(Delivery::Current)) => return,
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("never current");
    });
}

async fn publish_large(log: &Log, count: usize) {
    let topic = TopicName::parse("t").unwrap();
    let message = || Message::new(topic.clone(), vec![7; 100 << 10]);
    let messages = (0..count).map(|_| message()).collect();
    let answer = log.submit(messages, PublishOptions::default()).await;
    assert_eq!(answer.unwrap().await.unwrap().published.len(), count);
}

#[test]
fn a_reader_that_stops_in_the_middle_of_a_large_batch_does_not_keep_it() {
    for tail_bytes_max in [64 << 20, 1] {
        with_log(vec![], tail_bytes_max, async |log| {
            let mut cursor = open(&log, &[filter("t")], Begin::Next, OPTIONS)
                .await
                .cursor;
            publish_large(&log, 6).await;
            let mut seen = Vec::new();
            while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
                let held = cursor.page.as_ref().map_or(0, |page| page.held_bytes());
                assert!(held <= PAGE_HELD_BYTES_MAX, "{held}");
                assert!(cursor.reading.is_none());
                if let Delivery::Events { bytes, .. } = delivery {
                    assert!(bytes.len() < 2 * DELIVERY_BYTES + (100 << 10));
                    seen.extend(events(&bytes).iter().map(|event| event.sequence));
                }
            }
            assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
        });
    }
}

#[test]
fn the_tails_say_from_outside_whether_a_position_has_left_them() {
    with_log(vec![], 150 << 10, async |log| {
        let opened = open(&log, &[filter("t")], Begin::Next, OPTIONS).await;
        let mut cursor = opened.cursor;
        let tails = cursor.tails();
        assert!(tails.reach(cursor.position().sequence));
        for _ in 0..3 {
            publish_large(&log, 1).await;
        }
        // Nobody polls it.
        assert!(!tails.reach(cursor.signal().sequence()));
        assert!(tails.reach(2));
        while poll(&mut cursor).is_ready() {}
        assert!(tails.reach(cursor.signal().sequence()));
    });
}

#[test]
fn a_reader_that_does_not_come_is_left_out_of_wake_ups_and_woken_again_once_it_came() {
    with_log(vec![], 64 << 20, async |log| {
        let filters = [filter("a.x"), filter("a.*")];
        let mut stalled = open(&log, &filters, Begin::Next, OPTIONS).await.cursor;
        let mut reads = open(&log, &filters[1..], Begin::Next, OPTIONS).await.cursor;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        for round in 0..3 {
            let first = round * 101 + 1;
            // Long enough for both channels to give it up, and then some.
            for _ in 0..100 {
                publish(&log, &["a.x"]).await;
                assert!(poll(&mut reads).is_ready());
                assert!(poll(&mut reads).is_pending());
            }
            let mut seen = Vec::new();
            while let Poll::Ready(delivery) = stalled.poll_next(&mut Context::from_waker(&waker)) {
                if let Delivery::Events { bytes, .. } = delivery.unwrap() {
                    seen.extend(events(&bytes).iter().map(|event| event.sequence));
                }
            }
            assert_eq!(seen, (first..first + 100).collect::<Vec<_>>());
            let before = woken.0.load(Relaxed);
            publish(&log, &["a.x"]).await;
            assert_eq!(woken.0.load(Relaxed), before + 1, "it came, so it is woken");
            assert!(poll(&mut reads).is_ready());
            assert!(poll(&mut reads).is_pending());
            assert!(poll(&mut stalled).is_ready());
            assert!(poll(&mut stalled).is_pending());
        }
    });
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn settling_while_something_is_due_passes_nothing() {
    with_log(vec![], 1 << 20, async |log| {
        let mut cursor = open(&log, &[filter("a")], Begin::Next, OPTIONS)
            .await
            .cursor;
        publish(&log, &["a", "b"]).await;
        let (position, current) = cursor.settle();
        assert_eq!((position.sequence, current), (0, false));
        let Poll::Ready(Ok(Delivery::Events { bytes, .. })) = poll(&mut cursor) else {
            panic!("what is due is delivered");
        };
        assert_eq!(events(&bytes)[0].sequence, 1);
        let (position, current) = cursor.settle();
        assert_eq!((position.sequence, current), (2, true));
    });
}

#[test]
fn of_several_filters_one_that_has_much_to_give_loses_nothing_to_the_others() {
    with_log(vec![], 64 << 20, async |log| {
        let mut cursor = open(&log, &[filter("t"), filter("b")], Begin::Next, OPTIONS)
            .await
            .cursor;
        for _ in 0..4 {
            // Each by itself is more than one delivery holds.
            publish_large(&log, 1).await;
        }
        publish(&log, &["b"]).await;
        let mut seen = Vec::new();
        while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
            if let Delivery::Events { bytes, .. } = delivery {
                seen.extend(events(&bytes).iter().map(|event| event.sequence));
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    });
}
