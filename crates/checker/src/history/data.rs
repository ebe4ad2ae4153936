//! A history in memory: publishes, streams with what each was told, and the rest. Names are numbers here, so
//! that millions of events fit.

use rustc_hash::FxHashMap;

use super::{Digest, Durability, GapPolicy, GapReason, Header, Position, Start, WelcomeOutcome};

/// A recorded run.
#[derive(Debug, Default)]
pub struct History {
    /// The first line; `None` only before it was read.
    pub header: Option<Header>,
    /// Topics, by number.
    pub topics: Texts,
    /// Topic filters, by number.
    pub filters: Texts,
    /// Subscribers, by number.
    pub subscribers: Texts,
    /// Publishers, by number.
    pub publishers: Texts,
    /// Principals, by number.
    pub principals: Texts,
    /// Message ids, by number.
    pub message_ids: Texts,
    /// In the order in which they were begun, as the file has it.
    pub publishes: Vec<Publish>,
    /// In the order in which they were opened, as the file has it.
    pub streams: Vec<Stream>,
    /// What was broken on purpose.
    pub faults: Vec<Fault>,
    /// When the last fault had ended, and the line that says so.
    pub faults_over: Option<(u64, u64)>,
    /// What the server said is its head, and the line.
    pub heads: Vec<(Position, u64)>,
    /// Epoch and topic -> the last event of it that is gone.
    pub trimmed: FxHashMap<(u64, Topic), u64>,
    /// The latest time of any record.
    pub last_at: u64,
    /// Whole lines, the header too.
    pub lines: u64,
    /// The line at the end that is cut off.
    pub truncated: Option<u64>,
}

/// Number of a topic.
pub type Topic = u32;

/// Texts that are named by a number.
#[derive(Debug, Default)]
pub struct Texts {
    numbers: FxHashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Texts {
    /// The number of a text, a new one if need be.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = u32::try_from(self.texts.len()).expect("fewer names than lines of a history");
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    /// The number of a text that is among them.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    pub fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// All texts by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(self.texts.iter().map(|text| &**text))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Some topics of a history, by number.
#[derive(Clone, Debug, Default)]
pub struct TopicSet(Vec<bool>);

impl TopicSet {
    /// Those that satisfy `wanted`.
    pub fn of(topics: &Texts, mut wanted: impl FnMut(&str) -> bool) -> Self {
        Self(topics.iter().map(|(_, text)| wanted(text)).collect())
    }

    /// Those that are in it, rising.
    pub fn iter(&self) -> impl Iterator<Item = Topic> {
        let inside = (0..).zip(&self.0).filter(|(_, inside)| **inside);
        inside.map(|(topic, _)| topic)
    }

    /// Whether a topic is among them.
    pub fn contains(&self, topic: Topic) -> bool {
        self.0.get(topic as usize).copied().unwrap_or(false)
    }
}

/// A message and what its publisher knows of it.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Who.
    pub publisher: u32,
    /// Number of this publish.
    pub number: u64,
    /// As whom.
    pub principal: u32,
    /// Where to.
    pub topic: Topic,
    /// Of its content.
    pub digest: Digest,
    /// Without what the log adds.
    pub bytes: u64,
    /// Absent = none.
    pub message_id: Option<u32>,
    /// Before it was sent.
    pub begun_at: u64,
    /// The line that says so.
    pub begun_line: u64,
    /// What became of it.
    pub answer: Answer,
    /// When that was known; `u64::MAX` if never.
    pub ended_at: u64,
    /// The line that says so; 0 if none does.
    pub ended_line: u64,
}

/// What a publisher knows of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Acknowledged {
        /// Where.
        position: Position,
        /// How well.
        durability: Durability,
        /// Whether it was already.
        duplicate: bool,
    },
    /// It is certainly not stored.
    Refused,
    /// It may be stored.
    Unknown,
}

/// One call that received.
#[derive(Clone, Debug)]
pub struct Stream {
    /// As the file has it.
    pub number: u64,
    /// Whose.
    pub subscriber: u32,
    /// Before the request was sent.
    pub opened_at: u64,
    /// The line that says so.
    pub opened_line: u64,
    /// Filters it began with.
    pub filters: Vec<u32>,
    /// Absent = new.
    pub resume_after: Option<Position>,
    /// Absent = with the next event.
    pub start: Option<Start>,
    /// What it asked for.
    pub gap_policy: GapPolicy,
    /// What it can take.
    pub max_event_bytes: u64,
    /// What it was told, in order.
    pub steps: Vec<Step>,
    /// Its end: when, the line, and whether the subscriber means to come back.
    pub ended: Option<(u64, u64, bool)>,
}

/// One thing a stream was told.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub at: u64,
    /// The line.
    pub line: u64,
    /// What.
    pub said: Said,
}

/// What a stream was told.
#[derive(Clone, Debug)]
pub enum Said {
    /// An event.
    Event(Told),
    /// The beginning.
    Welcome {
        /// How it began.
        outcome: WelcomeOutcome,
        /// Where.
        position: Position,
        /// Of the history the stream reads.
        epoch: u64,
    },
    /// Events that will not come.
    Gap(Box<StepGap>),
    /// Everything up to here was sent.
    Progress {
        /// Up to here.
        position: Position,
        /// Nothing more was due.
        current: bool,
    },
    /// A filter holds for events after a sequence.
    FilterAdded {
        /// Which.
        filter: u32,
        /// After this.
        after: u64,
    },
    /// A filter no longer holds for events after a sequence.
    FilterRemoved {
        /// Which.
        filter: u32,
        /// After this.
        after: u64,
    },
    /// The end is near; the last position sent.
    GoAway {
        /// If the server said so.
        position: Option<Position>,
    },
}

/// An event as one stream brought it.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Of the event.
    pub topic: Topic,
    /// Whether the application got it.
    pub applied: bool,
    /// Of the event.
    pub sequence: u64,
    /// 0 = none or unknown.
    pub previous: u64,
    /// Of its content.
    pub digest: Digest,
}

/// A gap as one stream was told.
#[derive(Clone, Copy, Debug)]
pub struct StepGap {
    /// Why.
    pub reason: GapReason,
    /// Exclusive.
    pub after: u64,
    /// Inclusive.
    pub through: u64,
    /// 0 = unknown.
    pub events: u64,
    /// Epoch of `through`, if it is another.
    pub through_epoch: Option<u64>,
}

/// Something broken on purpose.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When.
    pub at: u64,
    /// What.
    pub what: String,
}
