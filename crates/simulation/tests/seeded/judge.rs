//! Whether a run was lawful. The responses of every subscriber and the outcomes of every publisher are compared with
//! the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use longlived_client::{Event, Gap, GapPolicy, GapReason, Item, Notice, Outcome, Position};
use longlived_topic::TopicFilter;

use crate::plan::{Fault, Plan};
use crate::publisher;
use crate::storage::DAMAGE;
use crate::trace::{Answer, Began, End, Incarnation, Record};

/// The most events that one damage costs: those of a batch, of a sealed block, or of a segment.
const LOST_AT_ONCE_MAX: usize = 128;

/// The events of the store, by epoch and sequence.
#[derive(Default)]
struct Truth {
    stored: BTreeMap<(u64, u64), Stored>,
    /// Events that were not synced and nobody has seen. They may be stored all the same.
    perhaps: BTreeMap<(u64, u64), Stored>,
}

struct Stored {
    life: u32,
    topic: String,
    message: String,
    bytes: usize,
}

/// How an application's stream is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Ordinarily,
    /// It began with a reset: the next that is told is a gap.
    AfterReset,
    /// It was to be replaced by another, so that two may have been read at once.
    HandedOver,
}

impl Reads {
    fn after_one(self) -> Self {
        match self {
            Self::Ordinarily | Self::AfterReset => Self::Ordinarily,
            Self::HandedOver => Self::HandedOver,
        }
    }
}

/// One application's way through the log.
struct Walk {
    name: String,
    filters: Vec<TopicFilter>,
    gap_policy: GapPolicy,
    event_bytes_max: usize,
    at: Option<Position>,
    /// Publish time of the last event, and its epoch.
    time: Option<(u64, SystemTime)>,
    left: bool,
    /// It has had a position before the stream it has.
    resumed: bool,
    stream: Reads,
    failures: Vec<String>,
}

/// All that was not lawful.
pub(crate) fn judge(records: &[(Duration, Record)], plan: &Plan) -> Vec<String> {
    let truth = Truth::of(records);
    let mut failures = Vec::new();
    let mut rules = Rules {
        truth: &truth,
        plan,
        damages: 0,
    };
    let mut walks: BTreeMap<Incarnation, Walk> = BTreeMap::new();
    for (_, record) in records {
        match record {
            Record::Began(began) => {
                walks.insert(began.incarnation, Walk::of(began));
            }
            Record::Got {
                incarnation,
                item,
                position,
            } => {
                let walk = walks.get_mut(incarnation).expect("it has begun");
                rules.got(walk, item);
                if walk.at != *position {
                    let (at, says) = (walk.at, position);
                    walk.fail(format!("stands at {at:?} and says {says:?}"));
                    walk.at = *position;
                }
            }
            Record::Ended { incarnation, how } => {
                let walk = walks.get_mut(incarnation).expect("it has begun");
                rules.ended(walk, how);
            }
            Record::Fault(what) if what.starts_with(DAMAGE) => rules.damages += 1,
            Record::Stored { .. }
            | Record::Sent(_)
            | Record::Answered { .. }
            | Record::Fault(_)
            | Record::Server(_)
            | Record::Calm
            | Record::Settled => {}
        }
    }
    for walk in walks.into_values() {
        let name = walk.name;
        failures.extend(walk.failures.iter().map(|what| format!("{name}: {what}")));
    }
    failures.extend(truth.answers(records));
    failures
}

struct Rules<'a> {
    truth: &'a Truth,
    plan: &'a Plan,
    /// The damage so far.
    damages: usize,
}

impl Rules<'_> {
    /// Retention may let go of events.
    fn trims(&self) -> bool {
        self.plan.retention.is_some()
    }

    /// A server's end is the end of its history.
    fn loses(&self) -> bool {
        !self.plan.durable
    }

    fn plans(&self, wanted: impl Fn(&Fault) -> bool) -> bool {
        self.plan.faults.iter().any(|(_, fault)| wanted(fault))
    }

    fn ended(&self, walk: &mut Walk, how: &End) {
        let takes_over =
            |fault: &Fault| matches!(fault, Fault::Takeover(_) | Fault::RestartHost(_));
        let lawful = match how {
            End::Stopped => true,
            End::TakenOver => self.plans(takes_over),
            End::OutOfRange => {
                let cause = self.trims() || self.loses() || self.damages > 0;
                walk.gap_policy == GapPolicy::Fail && cause
            }
            End::Left => walk.left && self.plans(|fault| matches!(fault, Fault::Unsubscribe(_))),
            End::Failed(_) => false,
        };
        if !lawful {
            walk.fail(format!("ended: {how:?}"));
        }
    }

    fn got(&self, walk: &mut Walk, item: &Item) {
        let lost = matches!(
            item,
            Item::Notice(Notice::Disconnected { .. } | Notice::Unsubscribed { .. })
        );
        let before = walk.stream;
        walk.stream = before.after_one();
        if before == Reads::AfterReset && !lost && !matches!(item, Item::Gap(_)) {
            walk.fail(format!("was reset, and next came {item:?}"));
        }
        match item {
            Item::Event(event) => self.event(walk, event),
            Item::Gap(gap) => self.gap(walk, gap),
            Item::Violation(violation) => walk.fail(format!("violation: {violation}")),
            Item::Notice(notice) => self.notice(walk, notice),
        }
    }

    fn event(&self, walk: &mut Walk, event: &Event) {
        let position = event.position;
        let message = publisher::name_of(&event.payload);
        match self.truth.stored.get(&(position.epoch, position.sequence)) {
            Some(stored) if stored.topic == event.topic && stored.message == message => {}
            Some(stored) => walk.fail(format!(
                "{position} is {message} of {}, stored is {} of {}",
                event.topic, stored.message, stored.topic
            )),
            None => walk.fail(format!("{position} ({message}) was never stored")),
        }
        if !walk.follows(&event.topic) {
            walk.fail(format!("{} is not followed", event.topic));
        }
        match walk.at {
            None => walk.fail(format!("{position} before any position")),
            Some(at) if at.epoch != position.epoch => {
                walk.fail(format!("{position} after {at}, without a gap"));
            }
            Some(at) if at.sequence >= position.sequence => {
                walk.fail(format!("{position} again, after {at}"));
            }
            Some(at) => self.nothing_between(walk, at, position.sequence - 1),
        }
        walk.at = Some(position);
        if event.payload.len() > walk.event_bytes_max {
            walk.fail(format!("{position} has {} bytes", event.payload.len()));
        }
        let before = walk.time.filter(|(epoch, _)| *epoch == position.epoch);
        match (before, event.publish_time) {
            (Some((_, before)), Some(time)) if time < before => {
                walk.fail(format!("{position} was published before the one before it"));
            }
            (_, time) => walk.time = time.map(|time| (position.epoch, time)),
        }
    }

    fn gap(&self, walk: &mut Walk, gap: &Gap) {
        match (walk.at, gap.after) {
            // Events that do not match may have been passed without a gap.
            (Some(at), Some(after)) if after.reaches(at) => {
                self.nothing_between(walk, at, after.sequence);
            }
            (None, _) => {}
            (at, after) => walk.fail(format!("a gap begins at {after:?} and not at {at:?}")),
        }
        let lawful = match gap.reason {
            GapReason::Trimmed => self.trims(),
            GapReason::EpochChanged => self.loses(),
            GapReason::TooLarge => self.is_too_large(walk, gap),
            GapReason::Damaged => self.is_damaged(walk, gap),
            GapReason::Future | GapReason::Other(_) => false,
        };
        // Events that were gone before the subscriber first came are announced, with every start that it asks for.
        if walk.gap_policy == GapPolicy::Fail
            && walk.resumed
            && matches!(gap.reason, GapReason::Trimmed | GapReason::EpochChanged)
        {
            walk.fail(format!("{gap:?}, and it asked to fail"));
        }
        if !lawful {
            walk.fail(format!("{gap:?} has no cause"));
        }
        if let Some(at) = gap.after
            && at.epoch == gap.through.epoch
            && let Some(told) = gap.events
        {
            let missing = self.truth.matching(walk, at, gap.through.sequence).count() as u64;
            let perhaps = self.truth.perhaps_matching(walk, at, gap.through.sequence) as u64;
            if !(missing..=missing + perhaps).contains(&told) {
                walk.fail(format!("{gap:?}: {missing} are missing"));
            }
        }
        if gap.reason == GapReason::Damaged {
            // The event with the latest publish time may be lost.
            walk.time = None;
        }
        walk.at = Some(gap.through);
    }

    /// A gap is not larger than the damage. A subscriber that starts at the latest event passes over whole events as
    /// well.
    fn is_damaged(&self, walk: &Walk, gap: &Gap) -> bool {
        let Some(after) = gap.after else {
            return false;
        };
        let lost = self.truth.matching(walk, after, gap.through.sequence);
        let bearable =
            walk.gap_policy == GapPolicy::Latest || lost.count() <= self.damages * LOST_AT_ONCE_MAX;
        self.damages > 0 && walk.gap_policy != GapPolicy::Fail && bearable
    }

    /// One event, and about as large as it must be for that.
    fn is_too_large(&self, walk: &Walk, gap: &Gap) -> bool {
        /// The fields of an event beside its payload.
        const REST: usize = 200;
        let through = gap.through;
        let stored = self.truth.stored.get(&(through.epoch, through.sequence));
        gap.events == Some(1)
            && stored.is_some_and(|stored| stored.bytes + REST > walk.event_bytes_max)
    }

    fn notice(&self, walk: &mut Walk, notice: &Notice) {
        match notice {
            Notice::Connected {
                position, outcome, ..
            } => {
                walk.resumed |= walk.at.is_some();
                let at = *walk.at.get_or_insert(*position);
                // Where the other of two streams stands is not known.
                if walk.stream != Reads::HandedOver {
                    if *outcome == Outcome::Reset {
                        walk.stream = Reads::AfterReset;
                    }
                    if at != *position {
                        walk.fail(format!("stood at {at} and was welcomed at {position}"));
                    }
                }
            }
            Notice::Current { position } | Notice::Progress { position } => {
                if let Some(at) = walk.at {
                    if at.epoch == position.epoch {
                        self.nothing_between(walk, at, position.sequence);
                    } else {
                        walk.fail(format!("progress to {position} from {at}"));
                    }
                }
                walk.at = walk
                    .at
                    .map(|at| Position::new(position.epoch, at.sequence.max(position.sequence)));
            }
            Notice::Disconnected { .. } => walk.stream = Reads::Ordinarily,
            Notice::HandingOver { .. } => walk.stream = Reads::HandedOver,
            Notice::Unsubscribed { .. } => walk.left = true,
            Notice::CredentialExpires { .. } | Notice::FilterRefused { .. } => {
                walk.fail(format!("unasked for: {notice}"));
            }
        }
    }

    /// Nothing that is followed lies after `at`, through `through`.
    fn nothing_between(&self, walk: &mut Walk, at: Position, through: u64) {
        let lost: Vec<_> = self
            .truth
            .matching(walk, at, through)
            .map(|(sequence, message)| format!("{sequence} ({message})"))
            .collect();
        if !lost.is_empty() {
            walk.fail(format!(
                "between {at} and {through} lost: {}",
                lost.join(", ")
            ));
        }
    }
}

impl Walk {
    fn of(began: &Began) -> Self {
        let parse = |filter: &String| TopicFilter::parse(filter).expect("a filter of our own");
        let bytes = began.event_bytes_max;
        Self {
            name: format!("{}#{}", began.subscriber, began.incarnation),
            filters: began.filters.iter().map(parse).collect(),
            gap_policy: began.gap_policy,
            event_bytes_max: bytes.map_or(usize::MAX, |bytes| bytes as usize),
            at: began.after,
            time: None,
            left: false,
            resumed: began.after.is_some(),
            stream: Reads::Ordinarily,
            failures: Vec::new(),
        }
    }

    fn follows(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    fn fail(&mut self, what: String) {
        self.failures.push(what);
    }
}

impl Truth {
    fn of(records: &[(Duration, Record)]) -> Self {
        let mut truth = Self::default();
        let mut perhaps = BTreeMap::new();
        for (_, record) in records {
            if let Record::Stored {
                life,
                position,
                topic,
                message,
                bytes,
                certain,
            } = record
            {
                let stored = Stored {
                    life: *life,
                    topic: topic.clone(),
                    message: message.clone(),
                    bytes: *bytes,
                };
                let place = (position.epoch, position.sequence);
                let kept = if *certain {
                    &mut truth.stored
                } else {
                    &mut perhaps
                };
                kept.insert(place, stored);
            }
        }
        // An event that was not synced counts as stored if one subscriber has it, and then every subscriber must have
        // it.
        for (_, record) in records {
            let (position, message) = match record {
                Record::Got {
                    item: Item::Event(event),
                    ..
                } => (event.position, publisher::name_of(&event.payload)),
                Record::Answered {
                    message,
                    answer: Answer::Stored { position, .. },
                } => (*position, message.clone()),
                _ => continue,
            };
            let place = (position.epoch, position.sequence);
            if !truth.stored.contains_key(&place)
                && perhaps.get(&place).is_some_and(|it| it.message == message)
            {
                truth.stored.extend(perhaps.remove_entry(&place));
            }
        }
        truth.perhaps = perhaps;
        truth
    }

    /// How many may be stored there beside those that are.
    fn perhaps_matching(&self, walk: &Walk, at: Position, through: u64) -> usize {
        let inside =
            |place: &(u64, u64)| place.0 == at.epoch && at.sequence < place.1 && place.1 <= through;
        let perhaps = self.perhaps.iter();
        perhaps
            .filter(|(place, stored)| inside(place) && walk.follows(&stored.topic))
            .count()
    }

    fn matching<'a>(
        &'a self,
        walk: &'a Walk,
        at: Position,
        through: u64,
    ) -> impl Iterator<Item = (u64, &'a str)> {
        let range = (at.epoch, at.sequence + 1)..=(at.epoch, through.max(at.sequence));
        let range = (at.sequence < through).then(|| self.stored.range(range));
        range
            .into_iter()
            .flatten()
            .filter(|(_, stored)| walk.follows(&stored.topic))
            .map(|((_, sequence), stored)| (*sequence, stored.message.as_str()))
    }

    /// Publishers were told the truth, and an id is stored once in the life of a server.
    fn answers(&self, records: &[(Duration, Record)]) -> Vec<String> {
        let mut failures = Vec::new();
        let mut copies: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for stored in self.stored.values() {
            copies.entry(&stored.message).or_default().push(stored.life);
        }
        let mut sent: BTreeMap<&str, bool> = BTreeMap::new();
        for (_, record) in records {
            match record {
                Record::Sent(message) => {
                    sent.insert(&message.name, message.id);
                }
                Record::Answered { message, answer } => match answer {
                    Answer::Stored { position, .. } => {
                        let stored = self.stored.get(&(position.epoch, position.sequence));
                        if stored.is_none_or(|stored| stored.message != *message) {
                            failures.push(format!("{message} is not stored at {position}"));
                        }
                    }
                    Answer::StoredInBulk => {
                        if !copies.contains_key(message.as_str()) {
                            failures.push(format!("{message} is not stored at all"));
                        }
                    }
                    Answer::NotStored(cause) => {
                        if copies.contains_key(message.as_str()) {
                            failures.push(format!("{message} is stored in spite of: {cause}"));
                        }
                    }
                    Answer::Unknown(_) => {}
                },
                _ => {}
            }
        }
        for (message, lives) in copies {
            let distinct = lives.iter().collect::<BTreeSet<_>>().len();
            match sent.get(message) {
                None => failures.push(format!("{message} was never sent")),
                Some(true) if distinct == lives.len() => {}
                Some(false) if lives.len() == 1 => {}
                Some(id) => failures.push(format!(
                    "{message} (with id: {id}) is stored {} times, in lives {lives:?}",
                    lives.len()
                )),
            }
        }
        failures
    }
}
