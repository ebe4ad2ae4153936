//! Several nodes over one log that numbers at append, as a distributed log would be.

use std::sync::atomic::Ordering;

use futures_util::future::join;

use super::*;
use crate::{
    Begin, Compression, Cursor, Delivery, Encoding, GapPolicy, Opened, Outcome, ReadOptions,
    SlowPolicy, frame,
    store::tests::{
        gate::Gate,
        many::{REFUSED, SharedLog},
    },
};

fn shared_log() -> Arc<SharedLog> {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let retention = RetentionConfig::new(Vec::new());
    SharedLog::new(MemoryStore::new(environment, retention, 10))
}

/// Reads `count` events. Returns them and the position of the cursor.
async fn read_events(cursor: &mut Cursor, events: usize) -> Vec<Sequence> {
    let mut found = Vec::new();
    while found.len() < events {
        match std::future::poll_fn(|cx| cursor.poll_next(cx))
            .await
            .unwrap()
        {
            Delivery::Events { bytes, .. } => {
                found.extend(frame::events(bytes).map(|(_, event)| event.sequence));
            }
            Delivery::Current | Delivery::Scanned => {}
            Delivery::Gap(gap) => panic!("{gap:?}"),
        }
    }
    found
}

async fn open(log: &Log, begin: Begin) -> Opened {
    let options = ReadOptions {
        gap_policy: GapPolicy::Fail,
        slow_policy: SlowPolicy::Park,
        message_bytes_max: 1 << 20,
        encoding: Encoding::V1,
        compression: Compression::Identity,
    };
    let filters = [TopicFilter::parse(">").unwrap()];
    let opened = Cursor::open(log, &filters, begin, options, Arc::default()).await;
    opened.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nodes_of_one_log_show_the_same_order_and_take_over_positions_from_each_other() {
    let shared = shared_log();
    let node = || Log::new(shared.node(), LogConfig::default());
    let (one, one_runs) = node();
    let (two, two_runs) = node();
    let test = async {
        let mut on_one = open(&one, Begin::Next).await.cursor;
        let mut on_two = open(&two, Begin::Next).await.cursor;
        let publish = |log: &Log, topic: &'static str| {
            let log = log.clone();
            async move {
                let published = log.publish(message(topic, ""), PublishOptions::default());
                published.await.unwrap().sequence
            }
        };
        // Both at once, many times: numbers of the two are mixed.
        let mut given = Vec::new();
        for _ in 0..50 {
            let (a, b, c) =
                tokio::join!(publish(&one, "a"), publish(&two, "b"), publish(&one, "c"));
            given.extend([a, b, c]);
        }
        given.sort_unstable();
        assert_eq!(given, (1..=150).collect::<Vec<_>>());
        assert_eq!(read_events(&mut on_one, 150).await, given);
        assert_eq!(read_events(&mut on_two, 150).await, given);

        // The other node has not heard of it, and the subscriber that has seen it comes there.
        let seen = publish(&one, "a").await;
        assert!(two.visible() < seen);
        let position = one.position_at(seen);
        let resumed = open(&two, Begin::After(position)).await;
        assert_eq!(
            (resumed.outcome, resumed.position),
            (Outcome::Resumed, position)
        );
        let next = publish(&one, "a").await;
        let mut cursor = resumed.cursor;
        assert_eq!(read_events(&mut cursor, 1).await, [next]);

        // One answer does not come; the other node takes the same message id and finds it stored.
        shared.silent.store(true, Ordering::Relaxed);
        let lost = one.publish(message("a", "once"), PublishOptions::default());
        assert!(matches!(
            lost.await,
            Err(PublishError::Append(AppendError::Unknown(_)))
        ));
        shared.silent.store(false, Ordering::Relaxed);
        publish(&two, "b").await;
        let again = two.publish(message("a", "once"), PublishOptions::default());
        let again = again.await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.sequence, next + 1);
        assert_eq!(read_events(&mut cursor, 2).await, [next + 1, next + 2]);
    };
    tokio::select! {
        _ = one_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        _ = two_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn events_of_other_nodes_are_shown_while_an_append_of_this_one_stands_still() {
    let shared = shared_log();
    let gate = Gate::new(shared.node());
    let (one, one_runs) = Log::new(gate.clone(), LogConfig::default());
    let (two, two_runs) = Log::new(shared.node(), LogConfig::default());
    let test = async {
        let mut on_one = open(&one, Begin::Next).await.cursor;
        gate.hold();
        let own = one.submit(smallvec![message("a", "")], PublishOptions::default());
        let own = own.await.unwrap();
        gate.appending().await;
        for sequence in 1..=3 {
            let other = two.publish(message("b", ""), PublishOptions::default());
            assert_eq!(other.await.unwrap().sequence, sequence);
            assert_eq!(read_events(&mut on_one, 1).await, [sequence]);
        }
        // A subscriber that comes meanwhile misses nothing either.
        let mut late = open(&one, Begin::Earliest).await.cursor;
        assert_eq!(read_events(&mut late, 3).await, [1, 2, 3]);
        gate.release();
        assert_eq!(own.await.unwrap().published[0].sequence, 4);
        assert_eq!(read_events(&mut on_one, 1).await, [4]);
        assert_eq!(read_events(&mut late, 1).await, [4]);
    };
    tokio::select! {
        _ = one_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        _ = two_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_is_stored_in_part_each_publisher_is_told_of_its_own_messages() {
    let shared = shared_log();
    let gate = Gate::new(shared.node());
    let (log, runs) = Log::new(gate.clone(), LogConfig::default());
    let refused = |topic, id| Message {
        payload: REFUSED.into(),
        ..message(topic, id)
    };
    let test = async {
        let mut cursor = open(&log, Begin::Next).await.cursor;
        let stream = PublishOptions {
            stream: Some(Arc::new(AtomicBool::new(false))),
            ..PublishOptions::default()
        };
        // The first is alone; messages that come while it is stored are one batch.
        gate.hold();
        let submit = |messages, options: &PublishOptions| log.submit(messages, options.clone());
        let usual = PublishOptions::default();
        let first = submit(smallvec![message("a", "")], &usual).await.unwrap();
        gate.appending().await;
        let mixed = smallvec![message("a", "1"), refused("a", "2"), message("a", "3")];
        let mixed = submit(mixed, &stream).await.unwrap();
        let whole = submit(smallvec![message("b", ""), message("b", "")], &usual);
        let whole = whole.await.unwrap();
        let same = submit(smallvec![refused("a", "2")], &usual).await.unwrap();
        gate.release();
        assert_eq!(first.await.unwrap().published[0].sequence, 1);
        let mixed = mixed.await.unwrap();
        let sequences = |reply: &PublishReply| -> Vec<_> {
            let published = reply.published.iter();
            published.map(|published| published.sequence).collect()
        };
        assert_eq!(sequences(&mixed), [2], "up to the one that is not stored");
        let unavailable = |reply: &PublishReply| {
            let refused = reply.refused.clone();
            matches!(
                refused,
                Some(PublishError::Append(AppendError::Unavailable(_)))
            )
        };
        assert!(unavailable(&mixed));
        let whole = whole.await.unwrap();
        assert_eq!((sequences(&whole), &whole.refused), (vec![4, 5], &None));
        assert!(unavailable(&same.await.unwrap()), "the same message");
        assert!(mixed.partly, "messages behind it may be stored");
        assert!(
            log.writable().borrow().is_ok(),
            "one message is not the node's publishing"
        );
        assert_eq!(read_events(&mut cursor, 5).await, [1, 2, 3, 4, 5]);

        // Nothing follows the refusal of a stream; a message stored behind it is known by its id.
        let after = submit(smallvec![message("a", "")], &stream).await.unwrap();
        assert_eq!(
            after.await.unwrap().refused,
            Some(PublishError::AfterRefusal)
        );
        let again = smallvec![message("a", "1"), message("a", "2"), message("a", "3")];
        let again = submit(again, &usual).await.unwrap().await.unwrap();
        assert_eq!((sequences(&again), &again.refused), (vec![2, 6, 3], &None));
        let duplicates = again.published.iter().map(|published| published.duplicate);
        assert!(duplicates.eq([true, false, true]));
        assert!(log.writable().borrow().is_ok());
    };
    tokio::select! {
        _ = runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn others_events_that_cannot_be_had_for_a_while_are_asked_for_again() {
    const FAILURES: u64 = 7;
    let shared = shared_log();
    let (one, one_runs) = Log::new(shared.node(), LogConfig::default());
    let (two, two_runs) = Log::new(shared.node(), LogConfig::default());
    let test = async {
        let mut on_two = open(&two, Begin::Next).await.cursor;
        shared.failures.store(FAILURES, Ordering::Relaxed);
        let begun = Instant::now();
        for sequence in 1..=3 {
            let published = one.publish(message("a", ""), PublishOptions::default());
            assert_eq!(published.await.unwrap().sequence, sequence);
        }
        assert_eq!(
            read_events(&mut on_two, 3).await,
            [1, 2, 3],
            "nothing is lost"
        );
        let failures = one.elsewhere_failures() + two.elsewhere_failures();
        assert_eq!(failures, FAILURES);
        assert!(
            begun.elapsed() > Duration::from_millis(300),
            "after a pause each"
        );
    };
    tokio::select! {
        _ = one_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        _ = two_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_after_a_failure_is_short_again_when_the_attempt_before_waited_for_long() {
    let shared = shared_log();
    let (one, one_runs) = Log::new(shared.node(), LogConfig::default());
    let (two, two_runs) = Log::new(shared.node(), LogConfig::default());
    let test = async {
        let mut on_one = open(&one, Begin::Next).await.cursor;
        let failures = || one.elsewhere_failures() + two.elsewhere_failures();
        shared.failures.store(12, Ordering::Relaxed);
        // The pauses end, and nothing happens for long.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(failures(), 12);
        // One for each node.
        shared.failures.store(2, Ordering::Relaxed);
        let begun = Instant::now();
        let published = two.publish(message("a", ""), PublishOptions::default());
        assert_eq!(published.await.unwrap().sequence, 1);
        assert_eq!(read_events(&mut on_one, 1).await, [1]);
        assert_eq!(failures(), 14);
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    };
    tokio::select! {
        _ = one_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        _ = two_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn others_events_that_can_never_be_had_again_end_the_log() {
    let shared = shared_log();
    let (_log, runs) = Log::new(shared.node(), LogConfig::default());
    shared.break_for_good();
    let ended = runs.run(CancellationToken::new()).await;
    assert_eq!(ended, Err(AppendError::Broken("on purpose".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn an_append_in_flight_is_answered_before_the_end_of_others_events_ends_the_log() {
    let shared = shared_log();
    let gate = Gate::new(shared.node());
    let (log, runs) = Log::new(gate.clone(), LogConfig::default());
    let test = async {
        let mut cursor = open(&log, Begin::Next).await.cursor;
        gate.hold();
        let own = log.submit(smallvec![message("a", "")], PublishOptions::default());
        let own = own.await.unwrap();
        gate.appending().await;
        shared.break_for_good();
        let mut writable = log.writable();
        writable.wait_for(Result::is_err).await.unwrap();
        // New filters are linked until the end.
        let mut late = open(&log, Begin::Next).await.cursor;
        gate.release();
        assert_eq!(own.await.unwrap().published[0].sequence, 1);
        assert_eq!(read_events(&mut cursor, 1).await, [1]);
        assert_eq!(read_events(&mut late, 1).await, [1]);
    };
    let (ended, ()) = in_time(join(runs.run(CancellationToken::new()), test)).await;
    assert_eq!(ended, Err(AppendError::Broken("on purpose".to_owned())));
}
