//! Any mix of a subscriber's calls and of mishaps.

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
    /// The reader takes this number of bytes at a time.
    Take(usize),
    /// It took nothing for long.
    DropPage,
    /// From here on the store holds appends back ...
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
        1 => (0..4_000usize).prop_map(Step::Take),
        1 => Just(Step::DropPage),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
    ]
}

/// All that was published.
#[derive(Default)]
struct Published {
    events: Vec<(Sequence, &'static str)>,
}

/// Published messages that are not known to be stored.
type InFlight = Vec<(Vec<&'static str>, oneshot::Receiver<PublishReply>)>;

impl Published {
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

/// The items of a subscriber, compared with all published messages.
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
            prop_assert!(cursor.gap_comes_first());
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
                    prop_assert!(gap.after >= self.last, "a gap follows the items before it");
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
            "only matching events arrive"
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
    prop_assert_eq!(opened.cursor.gap_comes_first(), reset);
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
    let expected: BTreeSet<_> = published.matching(filters, after).collect();
    for &(after, through, events) in &seen.trimmed {
        // This store has forgotten no removed event.
        let missing = expected.range(after + 1..=through).count() as u64;
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
    seen.holds(&expected)
}

/// A subscriber, the messages published beside it, and the items that it must receive.
struct World {
    log: Log,
    gate: Arc<Gate>,
    held: bool,
    published: Published,
    in_flight: InFlight,
    filters: Vec<TopicFilter>,
    cursor: Cursor,
    // The last position that the subscriber was told.
    stored: Position,
    seen: Observed,
    expected: BTreeSet<Sequence>,
}

impl World {
    async fn new(log: Log, gate: Arc<Gate>, filters: Vec<TopicFilter>) -> Self {
        let opened = open(&log, &filters, Begin::Next, OPTIONS).await;
        Self {
            log,
            gate,
            held: false,
            published: Published::default(),
            in_flight: InFlight::new(),
            filters,
            cursor: opened.cursor,
            stored: opened.position,
            seen: Observed::default(),
            expected: BTreeSet::new(),
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish(topics) => self.publish(topics).await,
            Step::Hold => {
                self.held = true;
                self.gate.hold();
            }
            Step::Release => self.release().await,
            Step::Read(times) => {
                for _ in 0..times {
                    self.seen.read(&mut self.cursor)?;
                    self.stored = self.cursor.position();
                }
            }
            Step::Resume => {
                let position = self.cursor.position();
                self.come_back(position).await?;
            }
            Step::OtherEpoch(sequence) => {
                let epoch = other(self.log.epoch());
                let position = Position { epoch, sequence };
                let outcome = self.come_back(position).await?;
                prop_assert_eq!(outcome, Outcome::Reset);
                self.seen = Observed::after(&self.log, position);
                self.expected = self.published.matching(&self.filters, 0).collect();
            }
            Step::Take(bytes) => self.cursor.set_capacity(bytes),
            Step::DropPage => self.cursor.drop_page(),
            Step::Add(index) => self.add(filter(FILTERS[index])).await?,
            Step::Remove(index) => self.remove(&filter(FILTERS[index]))?,
        }
        Ok(())
    }

    async fn publish(&mut self, topics: Vec<usize>) {
        let topics: Vec<_> = topics.into_iter().map(|topic| TOPICS[topic]).collect();
        let answer = submit(&self.log, &topics).await;
        self.in_flight.push((topics, answer));
        if self.held {
            self.gate.appending().await;
        } else {
            self.settle().await;
        }
    }

    async fn release(&mut self) {
        self.held = false;
        self.gate.release();
        self.settle().await;
    }

    /// Waits for the messages in flight.
    async fn settle(&mut self) {
        for (topics, answer) in self.in_flight.drain(..) {
            for (sequence, topic) in stored(answer).await.into_iter().zip(topics) {
                self.published.events.push((sequence, topic));
                if self.filters.iter().any(|filter| filter.matches(topic)) {
                    self.expected.insert(sequence);
                }
            }
        }
    }

    async fn come_back(&mut self, position: Position) -> Result<Outcome, TestCaseError> {
        let begin = Begin::After(position);
        let opened = open(&self.log, &self.filters, begin, OPTIONS).await;
        prop_assert_eq!(opened.position, position, "Welcome comes before any gap");
        self.cursor = opened.cursor;
        self.stored = opened.position;
        Ok(opened.outcome)
    }

    /// A stream says the gap that it owes before it does anything else.
    fn say_gap(&mut self) -> Result<(), TestCaseError> {
        while self.cursor.gap_comes_first() {
            self.seen.read(&mut self.cursor)?;
        }
        Ok(())
    }

    async fn add(&mut self, added: TopicFilter) -> Result<(), TestCaseError> {
        self.say_gap()?;
        if self.cursor.follows(&added) {
            return Ok(());
        }
        let attached = self.cursor.attach(added.clone()).await.unwrap();
        self.stored = self.cursor.add(attached);
        prop_assert_eq!(self.stored, self.cursor.position());
        prop_assert!(self.stored.sequence >= self.seen.last);
        self.filters.push(added);
        let expected = self.published.matching(&self.filters, self.stored.sequence);
        self.expected.extend(expected);
        Ok(())
    }

    fn remove(&mut self, removed: &TopicFilter) -> Result<(), TestCaseError> {
        self.say_gap()?;
        if let Some(after) = self.cursor.remove(removed) {
            self.stored = after;
            self.filters.retain(|filter| filter != removed);
            self.expected.retain(|&sequence| sequence <= after.sequence);
            let expected = self.published.matching(&self.filters, after.sequence);
            self.expected.extend(expected);
        }
        Ok(())
    }

    async fn ends(mut self) -> Result<(), TestCaseError> {
        self.release().await;
        while self.seen.read(&mut self.cursor)? {}
        prop_assert_eq!(self.cursor.settle().0.sequence, self.log.visible());
        self.seen.holds(&self.expected)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any mix of publishing, trimming, lagging, resuming and changing filters, in the middle of catching up and while the
    /// store works on a batch too: every matching event is delivered once and in order, or lies in an announced gap.
    /// And a subscriber that comes back to any position that it was told is told the rest.
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
            let filters = first.iter().map(|&index| filter(FILTERS[index])).collect();
            let mut world = World::new(log, gate, filters).await;
            for step in steps {
                world.step(step).await?;
                if world.filters.is_empty() {
                    break;
                }
                comes_back(&world.log, &world.filters, world.stored, &world.published).await?;
            }
            world.ends().await
        })?;
    }
}
