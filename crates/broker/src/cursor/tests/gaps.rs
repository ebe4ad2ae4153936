//! Gaps in the place of events.

use super::*;

#[test]
fn a_gap_names_exactly_the_events_that_retention_took_and_only_on_topics_with_a_loss() {
    with_log(vec![("noisy", 2)], 0, async |log| {
        publish(&log, &["quiet", "noisy", "noisy", "noisy", "noisy"]).await;
        let position = log.position_at(1);
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
        let start = log.position_at(0);
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

/// The items of a reader of everything, from the beginning.
async fn told(log: &Log, filters: &[TopicFilter], options: ReadOptions) -> Vec<String> {
    let begin = Begin::After(log.position_at(0));
    let mut cursor = open(log, filters, begin, options).await.cursor;
    let mut told = Vec::new();
    while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
        match delivery {
            Delivery::Gap(gap) => {
                let Gap {
                    reason,
                    after,
                    through,
                    events,
                    ..
                } = gap;
                told.push(format!("{reason:?} {after}-{through}: {events}"));
            }
            Delivery::Events { bytes, .. } => {
                told.extend(events(&bytes).iter().map(|e| e.sequence.to_string()));
            }
            Delivery::Scanned | Delivery::Current => {}
        }
    }
    told
}

#[test]
fn over_wildcards_a_gap_stands_only_where_something_is_missing_and_says_how_much() {
    with_log(vec![("a.>", 1), ("b.>", 100)], 0, async |log| {
        // Of `a.>` only the last is kept; `c` is nobody's business here.
        let topics = [
            "a.1", "a.2", "b.1", "c", "b.1", "c", "b.2", "a.1", "c", "b.1", "b.1", "a.2", "a.2",
        ];
        publish(&log, &topics).await;
        let filters = [filter("a.*"), filter("*.1"), filter("b.>")];
        let expected = [
            "Trimmed 0-2: 2",
            "3",
            "5",
            "7",
            "Trimmed 7-8: 1",
            "10",
            "11",
            "Trimmed 11-12: 1",
            "13",
        ];
        assert_eq!(told(&log, &filters, OPTIONS).await, expected);
    });
}

#[test]
fn a_kept_event_that_is_only_too_large_is_never_covered_by_a_gap_of_retention() {
    with_log(vec![("a", 1), ("b", 100)], 0, async |log| {
        let message =
            |topic: &str, size| Message::new(TopicName::parse(topic).unwrap(), vec![0; size]);
        let messages = vec![
            message("a", 1),
            message("b", 500),
            message("a", 1),
            message("b", 500),
            message("b", 1),
            message("a", 1),
        ];
        let answer = log.submit(messages.into(), PublishOptions::default()).await;
        answer.unwrap().await.unwrap();
        let options = ReadOptions {
            message_bytes_max: 100,
            ..OPTIONS
        };
        let expected = [
            "Trimmed 0-1: 1",
            "TooLarge 1-2: 1",
            "Trimmed 2-3: 1",
            "TooLarge 3-4: 1",
            "5",
            "6",
        ];
        assert_eq!(told(&log, &[filter(">")], options).await, expected);
    });
}

#[test]
fn a_loss_with_much_in_between_that_does_not_match_is_announced_once() {
    with_log(vec![("a.>", 1), ("b", 1_000_000)], 0, async |log| {
        publish(&log, &["a.1"; 3]).await;
        for _ in 0..40 {
            publish(&log, &["b"; 1_000]).await;
        }
        publish(&log, &["a.2"; 3]).await;
        let topics: Vec<String> = (0..20).map(|n| format!("a.{}", n + 3)).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        publish(&log, &topics).await;
        let last = log.visible();
        let expected = [format!("Trimmed 0-{}: 25", last - 1), last.to_string()];
        assert_eq!(told(&log, &[filter("a.>")], OPTIONS).await, expected);
    });
}

#[test]
fn a_refusal_names_the_kept_range_as_it_is() {
    with_log(vec![("noisy", 2)], 0, async |log| {
        publish(&log, &["t"; 50]).await;
        publish(&log, &["noisy"; 5]).await;
        let options = ReadOptions {
            gap_policy: GapPolicy::Fail,
            ..OPTIONS
        };
        let epoch = log.epoch();
        let refusal = async |filters: &[&str], epoch, sequence| {
            let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
            let begin = Begin::After(Position { epoch, sequence });
            let refused = Cursor::open(&log, &filters, begin, options, Arc::default()).await;
            refused.err().expect("it cannot be had").to_string()
        };
        let kept = format!("the kept events lie within 1 to 55 of epoch {epoch}");
        let future = refusal(&["t"], epoch, 99).await;
        assert!(
            future.contains("was never written") && future.contains(&kept),
            "{future}"
        );
        let changed = refusal(&["t"], other(epoch), 3).await;
        assert!(
            changed.contains("of another epoch, that of an earlier history")
                && changed.contains(&kept),
            "{changed}"
        );
        let mixed = refusal(&["t", "noisy"], epoch, 10).await;
        assert!(mixed.contains("removed some of them up to 53"), "{mixed}");
        assert!(mixed.contains("within 11 to 55"), "{mixed}");
        let nothing = refusal(&["never"], epoch, 99).await;
        assert!(
            nothing.contains("nothing that matches is kept up to 55"),
            "{nothing}"
        );
    });
}

#[test]
fn each_gap_policy_keeps_its_promise() {
    with_log(vec![(">", 2)], 0, async |log| {
        publish(&log, &["t"; 5]).await;
        let at = |epoch, sequence| Begin::After(Position { epoch, sequence });
        let epoch = log.epoch();
        let policy = |gap_policy| ReadOptions {
            gap_policy,
            ..OPTIONS
        };
        for (begin, reason) in [
            (at(epoch, 1), GapReason::Trimmed),
            (at(other(epoch), 9), GapReason::EpochChanged),
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
            message_bytes_max: 100,
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
