//! Any mix of what a subscriber does and of what happens to it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

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
