//! A history in memory: publishes, streams with their responses, and the rest. Names are numbers here, so that millions
//! of events fit.

use rustc_hash::FxHashMap;

use super::{Digest, Durability, GapPolicy, GapReason, Header, Position, Start, WelcomeOutcome};

/// A recorded run.
#[derive(Debug, Default)]
pub struct History {
    /// The first line; `None` only before it was read.
    pub(crate) header: Option<Header>,
    /// Topics, by number.
    pub(crate) topics: Texts,
    /// Topic filters, by number.
    pub(crate) filters: Texts,
    /// Subscribers, by number.
    pub(crate) subscribers: Texts,
    /// Publishers, by number.
    pub(crate) publishers: Texts,
    /// Principals, by number.
    pub(crate) principals: Texts,
    /// Message ids, by number.
    pub(crate) message_ids: Texts,
    /// In the order in which they were begun, as the file has it.
    pub(crate) publishes: Vec<Publish>,
    /// In the order in which they were opened, as the file has it.
    pub(crate) streams: Vec<Stream>,
    /// The planned faults.
    pub(crate) faults: Vec<String>,
    /// When the last fault had ended, and the line that says so.
    pub(crate) faults_over: Option<(u64, u64)>,
    /// The last sequence of the log, as the server said, and the line.
    pub(crate) heads: Vec<(Position, u64)>,
    /// Epoch and topic -> the last event of it that is gone.
    pub(crate) trimmed: FxHashMap<(u64, Topic), u64>,
    /// The latest time of any record.
    pub(crate) last_at: u64,
    /// Whole lines, the header too.
    pub(crate) lines: u64,
    /// The line at the end that is cut off.
    pub truncated: Option<u64>,
}

/// Number of a topic.
pub(crate) type Topic = u32;

/// Texts that are named by a number.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    numbers: FxHashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Texts {
    /// The number of a text, a new one if need be.
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = u32::try_from(self.texts.len()).expect("fewer names than lines of a history");
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    /// The number of a text that is among them.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    pub(crate) fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// All texts by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(self.texts.iter().map(|text| &**text))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// Some topics of a history, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicSet(Vec<bool>);

impl TopicSet {
    /// Those that satisfy `wanted`.
    pub(crate) fn of(topics: &Texts, mut wanted: impl FnMut(&str) -> bool) -> Self {
        Self(topics.iter().map(|(_, text)| wanted(text)).collect())
    }

    /// Those that are in it, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Topic> {
        let inside = (0..).zip(&self.0).filter(|(_, inside)| **inside);
        inside.map(|(topic, _)| topic)
    }

    /// Whether a topic is among them.
    pub(crate) fn contains(&self, topic: Topic) -> bool {
        self.0.get(topic as usize).copied().unwrap_or(false)
    }
}

/// A message and its outcome, as its publisher knows it.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    /// Who.
    pub(crate) publisher: u32,
    /// Number of this publish.
    pub(crate) number: u64,
    /// As whom.
    pub(crate) principal: u32,
    /// Where to.
    pub(crate) topic: Topic,
    /// Of its content.
    pub(crate) digest: Digest,
    /// Without what the log adds.
    pub(crate) bytes: u64,
    /// Absent = none.
    pub(crate) message_id: Option<u32>,
    /// Before it was sent.
    pub(crate) begun_at: u64,
    /// The line that says so.
    pub(crate) begun_line: u64,
    /// Its outcome.
    pub(crate) answer: Answer,
    /// When that was known; `u64::MAX` if never.
    pub(crate) ended_at: u64,
    /// The line that says so; 0 if none does.
    pub(crate) ended_line: u64,
}

/// The outcome of a message, as its publisher knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
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
pub(crate) struct Stream {
    /// As the file has it.
    pub(crate) number: u64,
    /// Whose.
    pub(crate) subscriber: u32,
    /// Before the request was sent.
    pub(crate) opened_at: u64,
    /// The line that says so.
    pub(crate) opened_line: u64,
    /// Filters it began with.
    pub(crate) filters: Vec<u32>,
    /// Absent = new.
    pub(crate) resume_after: Option<Position>,
    /// Absent = with the next event.
    pub(crate) start: Option<Start>,
    /// The request.
    pub(crate) gap_policy: GapPolicy,
    /// The largest response that it takes.
    pub(crate) max_event_bytes: u64,
    /// Its responses, in order.
    pub(crate) steps: Vec<Step>,
    /// Its end: when, the line, and whether the subscriber means to come back.
    pub(crate) ended: Option<(u64, u64, bool)>,
}

/// One thing a stream was told.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// When.
    pub(crate) at: u64,
    /// The line.
    pub(crate) line: u64,
    /// What.
    pub(crate) said: Said,
}

/// A response of a stream.
#[derive(Clone, Debug)]
pub(crate) enum Said {
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
        /// The subscriber was current.
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
pub(crate) struct Told {
    /// Of the event.
    pub(crate) topic: Topic,
    /// Whether the application got it.
    pub(crate) applied: bool,
    /// Of the event.
    pub(crate) sequence: u64,
    /// 0 = none or unknown.
    pub(crate) previous: u64,
    /// Of its content.
    pub(crate) digest: Digest,
}

/// A gap as one stream was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepGap {
    /// Why.
    pub(crate) reason: GapReason,
    /// Exclusive.
    pub(crate) after: u64,
    /// Inclusive.
    pub(crate) through: u64,
    /// 0 = unknown.
    pub(crate) events: u64,
    /// Epoch of `through`, if it is another.
    pub(crate) through_epoch: Option<u64>,
}
