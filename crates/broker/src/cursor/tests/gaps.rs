//! What is announced in place of events.

use super::*;

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
