//! Any mix of what a subscriber does and of what happens to it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<usize>),
    Read(usize),
    Resume,
    OtherEpoch(Sequence),
    Add(usize),
    Remove(usize),
    /// From here on the store holds what is published ...
    Hold,
    /// ... until here.
    Release,
}

const TOPICS: [&str; 6] = ["a.x", "a.y", "b.x", "b.y", "c", "inbox.1"];
const FILTERS: [&str; 8] = ["a.x", "a.*", "*.x", "b.y", ">", "c", "inbox.1", "b.>"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(0..TOPICS.len(), 1..12).prop_map(Step::Publish),
        4 => (0..6usize).prop_map(Step::Read),
        1 => Just(Step::Resume),
        1 => (0..50u64).prop_map(Step::OtherEpoch),
        1 => (0..FILTERS.len()).prop_map(Step::Add),
        1 => (0..FILTERS.len()).prop_map(Step::Remove),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
    ]
}

/// All that was published.
#[derive(Default)]
struct Published {
    events: Vec<(Sequence, &'static str)>,
}

/// What was published and is not known to be stored.
type InFlight = Vec<(Vec<&'static str>, oneshot::Receiver<PublishReply>)>;

impl Published {
    /// Waits for what is in flight; what of it the filters match.
    async fn settle(&mut self, in_flight: &mut InFlight, filters: &[TopicFilter]) -> Vec<Sequence> {
        let mut found = Vec::new();
        for (topics, answer) in in_flight.drain(..) {
            for (sequence, topic) in stored(answer).await.into_iter().zip(topics) {
                self.events.push((sequence, topic));
                if filters.iter().any(|filter| filter.matches(topic)) {
                    found.push(sequence);
                }
            }
        }
        found
    }

    fn matching<'a>(
        &'a self,
        filters: &'a [TopicFilter],
        after: Sequence,
    ) -> impl Iterator<Item = Sequence> + 'a {
        let wanted = move |(sequence, topic): &&(Sequence, &str)| {
            *sequence > after && filters.iter().any(|filter| filter.matches(topic))
        };
        self.events
            .iter()
            .filter(wanted)
            .map(|(sequence, _)| *sequence)
    }
}

/// What a subscriber saw, held against all that was published.
#[derive(Default)]
struct Observed {
    delivered: BTreeSet<Sequence>,
    gaps: Vec<(Sequence, Sequence)>,
    // Of retention: where, and how many it says.
    trimmed: Vec<(Sequence, Sequence, u64)>,
    last: Sequence,
    // The gap between two epochs has still to come: nothing else may come before it.
    other_epoch: Option<Position>,
}

impl Observed {
    /// By a stream that continues after a position.
    fn after(log: &Log, position: Position) -> Self {
        let same = position.epoch == log.epoch();
        Self {
            last: if same { position.sequence } else { 0 },
            other_epoch: (!same).then_some(position),
            ..Self::default()
        }
    }

    fn read(&mut self, cursor: &mut Cursor) -> Result<bool, TestCaseError> {
        if let Some(asked) = self.other_epoch {
            prop_assert_eq!(cursor.position(), asked, "until the gap was said");
            prop_assert!(cursor.owes_gap());
        }
        match poll(cursor) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(Delivery::Events { bytes, count })) => {
                prop_assert_eq!(self.other_epoch, None, "an event before the gap");
                let events = events(&bytes);
                prop_assert_eq!(events.len(), count);
                for event in events {
                    prop_assert!(event.sequence > self.last, "rising, no repeat");
                    self.last = event.sequence;
                    self.delivered.insert(event.sequence);
                }
            }
            Poll::Ready(Ok(Delivery::Gap(gap))) => {
                let asked = self.other_epoch.take();
                if let Some(asked) = asked {
                    prop_assert_eq!(gap.reason, GapReason::EpochChanged);
                    prop_assert_eq!(gap.after, asked.sequence);
                    self.gaps.push((0, gap.through));
                } else {
                    prop_assert!(gap.after >= self.last, "a gap follows what came before it");
                    prop_assert!(gap.through > gap.after);
                    self.gaps.push((gap.after, gap.through));
                    if gap.reason == GapReason::Trimmed {
                        self.trimmed.push((gap.after, gap.through, gap.events));
                    }
                }
                self.last = gap.through;
            }
            Poll::Ready(Ok(Delivery::Scanned | Delivery::Current)) => {
                prop_assert_eq!(self.other_epoch, None, "something else before the gap");
            }
            Poll::Ready(Err(error)) => prop_assert!(false, "{}", error),
        }
        prop_assert!(cursor.position().sequence >= self.last);
        Ok(true)
    }

    fn holds(&self, expected: &BTreeSet<Sequence>) -> Result<(), TestCaseError> {
        let in_gap = |s: Sequence| {
            self.gaps
                .iter()
                .any(|&(after, through)| after < s && s <= through)
        };
        for &sequence in expected {
            prop_assert!(
                self.delivered.contains(&sequence) != in_gap(sequence),
                "{} neither arrived nor was announced, or both",
                sequence
            );
        }
        prop_assert!(
            self.delivered.is_subset(expected),
            "only what matches arrives"
        );
        Ok(())
    }
}

/// A subscriber that stored the last position it was told, died there and comes back: it misses nothing and gets nothing
/// again.
async fn comes_back(
    log: &Log,
    filters: &[TopicFilter],
    stored: Position,
    published: &Published,
) -> Result<(), TestCaseError> {
    let mut opened = open(log, filters, Begin::After(stored), OPTIONS).await;
    prop_assert_eq!(opened.position, stored);
    let mut seen = Observed::after(log, stored);
    let mut first = true;
    let reset = opened.outcome == Outcome::Reset;
    prop_assert_eq!(opened.cursor.owes_gap(), reset);
    while seen.read(&mut opened.cursor)? {
        if std::mem::take(&mut first) {
            let gap_before_all = !seen.gaps.is_empty();
            prop_assert_eq!(gap_before_all, reset, "a reset is followed by its gap");
        }
    }
    let after = if stored.epoch == log.epoch() {
        stored.sequence
    } else {
        0
    };
    let due: BTreeSet<_> = published.matching(filters, after).collect();
    for &(after, through, events) in &seen.trimmed {
        // This store has forgotten nothing of what it removed.
        let missing = due.range(after + 1..=through).count() as u64;
        prop_assert_eq!(events, missing, "of {} to {}", after, through);
        prop_assert!(
            missing > 0,
            "nothing is missing in {} to {}",
            after,
            through
        );
    }
    for pair in seen.gaps.windows(2) {
        let between = seen.delivered.range(pair[0].1..=pair[1].0).count();
        prop_assert!(between > 0, "two announcements for one loss: {:?}", pair);
    }
    seen.holds(&due)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any mix of publishing, trimming, lagging, resuming and changing filters, in the middle of catching up and while the
    /// store works on a batch too: every matching event is delivered once and in order, or lies in an announced gap. And whatever position a subscriber
    /// was told last, whoever comes back to it is told the rest.
    #[test]
    fn every_matching_event_arrives_once_or_is_announced(
        steps in prop::collection::vec(step(), 1..60),
        first in prop::collection::btree_set(0..FILTERS.len(), 1..4),
        keep_a in 1..40u64,
        keep_rest in 1..60u64,
        tail_bytes in prop::sample::select(vec![0usize, 150, 600, 1 << 20]),
    ) {
        let classes = vec![("a.>", keep_a), ("inbox.>", 3), (">", keep_rest)];
        with_gate(classes, tail_bytes, async |log, gate| {
            let mut filters: Vec<TopicFilter> = first.iter().map(|&f| filter(FILTERS[f])).collect();
            let mut published = Published::default();
            let mut in_flight = InFlight::new();
            let mut held = false;
            let mut expected: BTreeSet<Sequence> = BTreeSet::new();
            let mut seen = Observed::default();
            let opened = open(&log, &filters, Begin::Next, OPTIONS).await;
            let mut cursor = opened.cursor;
            // The last position that the subscriber was told.
            let mut stored = opened.position;
            for step in steps {
                match step {
                    Step::Publish(topics) => {
                        let topics: Vec<_> = topics.into_iter().map(|t| TOPICS[t]).collect();
                        let answer = submit(&log, &topics).await;
                        in_flight.push((topics, answer));
                        if held {
                            gate.appending().await;
                        } else {
                            expected.extend(published.settle(&mut in_flight, &filters).await);
                        }
                    }
                    Step::Hold => {
                        held = true;
                        gate.hold();
                    }
                    Step::Release => {
                        held = false;
                        gate.release();
                        expected.extend(published.settle(&mut in_flight, &filters).await);
                    }
                    Step::Read(times) => {
                        for _ in 0..times {
                            seen.read(&mut cursor)?;
                            stored = cursor.position();
                        }
                    }
                    Step::Resume => {
                        let position = cursor.position();
                        let opened = open(&log, &filters, Begin::After(position), OPTIONS).await;
                        prop_assert_eq!(opened.position, position);
                        cursor = opened.cursor;
                        stored = opened.position;
                    }
                    Step::OtherEpoch(sequence) => {
                        let epoch = other(log.epoch());
                        let position = Position { epoch, sequence };
                        let opened = open(&log, &filters, Begin::After(position), OPTIONS).await;
                        prop_assert_eq!(opened.outcome, Outcome::Reset);
                        prop_assert_eq!(opened.position, position, "Welcome comes before the gap");
                        cursor = opened.cursor;
                        stored = opened.position;
                        seen = Observed::after(&log, position);
                        expected = published.matching(&filters, 0).collect();
                    }
                    Step::Add(index) => {
                        let added = filter(FILTERS[index]);
                        // A stream says the gap that it owes before it does anything else.
                        while cursor.owes_gap() {
                            seen.read(&mut cursor)?;
                        }
                        if !cursor.follows(&added) {
                            let attached = cursor.attacher().attach(added.clone()).await.unwrap();
                            stored = cursor.add(attached);
                            prop_assert_eq!(stored, cursor.position());
                            prop_assert!(stored.sequence >= seen.last);
                            filters.push(added);
                            expected.extend(published.matching(&filters, stored.sequence));
                        }
                    }
                    Step::Remove(index) => {
                        while cursor.owes_gap() {
                            seen.read(&mut cursor)?;
                        }
                        let removed = filter(FILTERS[index]);
                        if let Some(after) = cursor.remove(&removed) {
                            stored = after;
                            filters.retain(|f| *f != removed);
                            expected.retain(|&sequence| sequence <= after.sequence);
                            expected.extend(published.matching(&filters, after.sequence));
                        }
                        if filters.is_empty() {
                            break;
                        }
                    }
                }
                comes_back(&log, &filters, stored, &published).await?;
            }
            gate.release();
            expected.extend(published.settle(&mut in_flight, &filters).await);
            while seen.read(&mut cursor)? {}
            prop_assert_eq!(cursor.settle().0.sequence, log.visible());
            seen.holds(&expected)
        })?;
    }
}
