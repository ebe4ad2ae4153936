//! The beginning of a subscription, and the gaps before it.

use super::*;

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
fn events_still_in_the_tail_are_resumed_though_history_has_let_them_go() {
    with_log(vec![("t", 2)], 1 << 20, async |log| {
        let _reader = open(&log, &[filter("t")], Begin::Next, OPTIONS).await;
        publish(&log, &["t"; 10]).await;
        let position = log.position_at(3);
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
        let position = |sequence| log.position_at(sequence);
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
