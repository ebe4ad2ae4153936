//! Readers that do not keep up.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

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
fn a_reader_that_stops_in_the_middle_of_a_large_batch_does_not_keep_it() {
    for tail_bytes_max in [64 << 20, 1] {
        with_log(vec![], tail_bytes_max, async |log| {
            let mut cursor = open(&log, &[filter("t")], Begin::Next, OPTIONS)
                .await
                .cursor;
            publish_large(&log, 6).await;
            let mut seen = Vec::new();
            while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
                let held = match cursor.history.as_deref() {
                    None => 0,
                    Some(History::Read(page)) => page.held_bytes(),
                    Some(History::Reading(_)) => unreachable!("the tail has it"),
                };
                assert!(held <= PAGE_HELD_BYTES_MAX, "{held}");
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
fn a_delivery_is_as_large_as_its_reader_takes() {
    const EVENT_BYTES_MAX: usize = 100;
    for tail_bytes_max in [64 << 20, 1] {
        with_log(vec![], tail_bytes_max, async |log| {
            let filters = [filter("t"), filter("u")];
            let mut cursors = Vec::new();
            for filters in [&filters[..1], &filters[..]] {
                let opened = open(&log, filters, Begin::Next, OPTIONS).await;
                cursors.push(opened.cursor);
            }
            publish(&log, &vec!["t"; 4_000]).await;
            for mut cursor in cursors {
                let mut seen = 0;
                for (takes, bytes_max) in [(1, 1 << 10), (4_000, 4_000), (usize::MAX, 64 << 10)] {
                    cursor.set_capacity(takes);
                    let Poll::Ready(Ok(Delivery::Events { bytes, .. })) = poll(&mut cursor) else {
                        panic!("there are more events");
                    };
                    let delivered = bytes.len();
                    assert!(
                        (bytes_max / 2..bytes_max + EVENT_BYTES_MAX).contains(&delivered),
                        "{takes}: {delivered}"
                    );
                    seen += events(&bytes).len();
                    assert_eq!(cursor.position().sequence, seen as u64);
                    // What was read for it and not delivered is found again.
                    cursor.drop_page();
                    assert!(cursor.history.is_none());
                }
            }
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
            // Long enough for both live tails to give it up, and then some.
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
fn a_busy_topic_among_many_filters_goes_out_in_whole_batches() {
    const BATCHES: usize = 10;
    with_log(vec![], 8 << 20, async |log| {
        let quiet = (0..63).map(|number| filter(&format!("quiet.{number}")));
        let filters: Vec<_> = quiet.chain([filter("t")]).collect();
        let mut cursor = open(&log, &filters, Begin::Next, OPTIONS).await.cursor;
        while poll(&mut cursor).is_ready() {}
        for _ in 0..BATCHES {
            let message = || Message::new(TopicName::parse("t").unwrap(), vec![b'x'; 128]);
            let batch = (0..100).map(|_| message()).collect();
            let answer = log.submit(batch, PublishOptions::default());
            answer.await.unwrap().await.unwrap();
        }
        let (mut deliveries, mut left) = (0, BATCHES * 100);
        while left > 0 {
            match poll(&mut cursor) {
                Poll::Ready(Ok(Delivery::Events { count, .. })) => left -= count,
                other => panic!("not events: {other:?}"),
            }
            deliveries += 1;
        }
        assert!(deliveries <= BATCHES, "{deliveries} deliveries");
    });
}
