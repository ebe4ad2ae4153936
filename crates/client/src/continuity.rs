//! The proof that nothing is missing: rising order, and each event's previous sequence against the events seen.
//!
//! Holds: for a server that keeps the contract no violation is ever found; an event left out of a topic is
//! found with the next event of that topic.
//! Does not: know connections, or decide what to do about a violation.

use std::fmt;

use longlived_api::v1;
use rustc_hash::FxHashMap;

use crate::event::{Gap, GapReason};
use crate::position::Position;
use crate::subscriber::Outcome;

/// Topics whose last sequence is remembered one by one; see [`Continuity::remember`].
const TOPICS_MAX: usize = 65_536;

/// A promise the server broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Something between two events of a topic never came and no gap announced it.
    Missing {
        /// The topic.
        topic: String,
        /// Everything of this topic up to here was seen.
        base: u64,
        /// The event before this one, as the server says; it lies above the base and was not seen.
        previous: u64,
        /// The event that shows it. It is handed out next.
        at: Position,
    },
    /// An event came that is not above the one before it: a repetition, or out of order. It is not handed out.
    NotRising {
        /// The topic.
        topic: String,
        /// The event.
        at: Position,
        /// The position the stream had reached.
        last: u64,
    },
    /// The server said that something was missed, and no gap followed.
    ResetWithoutGap {
        /// Where the stream went on.
        position: Position,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                topic,
                base,
                previous,
                at,
            } => write!(
                f,
                "missing on {topic}: {at} follows {previous}, but only {base} and before were seen"
            ),
            Self::NotRising { topic, at, last } => {
                write!(f, "not rising on {topic}: {at} came after {last}")
            }
            Self::ResetWithoutGap { position } => {
                write!(
                    f,
                    "something was missed before {position} and no gap was announced"
                )
            }
        }
    }
}

/// The treatment of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It follows the events seen.
    Good,
    /// Hand it out, after saying this.
    GoodAfter(Violation),
    /// Say this and drop it.
    Drop(Violation),
}

/// The state of one stream. Every stream begins with a new one: all bases of the stream before lie at or below the
/// position the new one begins after.
#[derive(Debug)]
pub(crate) struct Continuity {
    epoch: u64,
    /// Everything up to here was seen or announced as missing; the next event lies above.
    last: u64,
    /// The base of a topic that is not in `topics`.
    floor: u64,
    /// The last sequence seen on a topic, where it is above `floor`.
    topics: FxHashMap<Box<str>, u64>,
    topics_max: usize,
    /// The server said that something was missed: the epoch it was missed in, until the gap comes.
    reset: Option<u64>,
}

impl Continuity {
    /// A stream of events of `epoch` that was opened with `asked` and answered with a Welcome at `welcome`.
    pub(crate) fn begin(
        asked: Option<Position>,
        welcome: Position,
        epoch: u64,
        outcome: Outcome,
    ) -> Self {
        let (from, reset) = match asked {
            None => (welcome.sequence, None),
            // The position asked for, and not the one of the Welcome. If the latter lies above, the matching events
            // between show as missing.
            Some(asked) if asked.epoch == epoch => (
                asked.sequence,
                (outcome == Outcome::Reset).then_some(asked.epoch),
            ),
            Some(asked) => (0, Some(asked.epoch)),
        };
        Self {
            epoch,
            last: from,
            floor: from,
            topics: FxHashMap::default(),
            topics_max: TOPICS_MAX,
            reset,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The position that this stream has reached. `None` while a gap waits to be handed out: until then no position may
    /// claim that nothing is missing.
    pub(crate) fn position(&self) -> Option<Position> {
        self.reset
            .is_none()
            .then_some(Position::new(self.epoch, self.last))
    }

    /// Something other than the gap came first. The stream counts from here on.
    fn gap_was_owed(&mut self) -> Option<Violation> {
        self.reset.take().map(|_epoch| Violation::ResetWithoutGap {
            position: Position::new(self.epoch, self.last),
        })
    }

    /// The event `sequence` of `topic`, which follows `previous` there.
    pub(crate) fn event(&mut self, topic: &str, sequence: u64, previous: u64) -> Checked {
        let no_gap = self.gap_was_owed();
        if sequence <= self.last {
            return Checked::Drop(Violation::NotRising {
                topic: topic.to_owned(),
                at: Position::new(self.epoch, sequence),
                last: self.last,
            });
        }
        self.last = sequence;
        let base = self.remember(topic, sequence);
        if let Some(violation) = no_gap {
            return Checked::GoodAfter(violation);
        }
        if previous > base {
            return Checked::GoodAfter(Violation::Missing {
                topic: topic.to_owned(),
                base,
                previous,
                at: Position::new(self.epoch, sequence),
            });
        }
        Checked::Good
    }

    /// Everything up to `position` that matches was sent. This is no base: an event that was left out must
    /// show although the server says that it was not.
    pub(crate) fn progress(&mut self, position: Position) -> Option<Violation> {
        let no_gap = self.gap_was_owed();
        if position.epoch == self.epoch {
            self.last = self.last.max(position.sequence);
        }
        no_gap
    }

    /// The server announces missing events.
    pub(crate) fn gap(&mut self, wire: &v1::Gap) -> Gap {
        let reason = GapReason::from_wire(wire.reason);
        let asked_epoch = self.reset.take().unwrap_or(self.epoch);
        if wire.through_epoch != 0 && wire.through_epoch != self.epoch {
            self.epoch = wire.through_epoch;
            self.restart(wire.through_sequence);
        } else if asked_epoch != self.epoch || reason == GapReason::Future {
            // The bases of a position that was never written mean nothing.
            self.restart(wire.through_sequence);
        } else {
            self.last = self.last.max(wire.through_sequence);
            self.floor = self.floor.max(wire.through_sequence);
        }
        Gap {
            reason,
            after: Some(Position::new(asked_epoch, wire.after_sequence)),
            through: Position::new(self.epoch, wire.through_sequence),
            events: (wire.events != 0).then_some(wire.events),
        }
    }

    fn restart(&mut self, sequence: u64) {
        self.topics.clear();
        self.last = sequence;
        self.floor = sequence;
    }

    /// Notes the last sequence of a topic and returns the base it had. When there are too many topics the
    /// floor rises over the older half of them: the proof grows weaker for topics that were quiet for long,
    /// and never wrong.
    fn remember(&mut self, topic: &str, sequence: u64) -> u64 {
        if let Some(seen) = self.topics.get_mut(topic) {
            return std::mem::replace(seen, sequence).max(self.floor);
        }
        if self.topics.len() >= self.topics_max {
            let mut seen: Vec<u64> = self.topics.values().copied().collect();
            let middle = seen.len() / 2;
            let (_, median, _) = seen.select_nth_unstable(middle);
            self.floor = self.floor.max(*median);
            let floor = self.floor;
            self.topics.retain(|_, last| *last > floor);
        }
        let base = self.floor;
        self.topics.insert(topic.into(), sequence);
        base
    }
}

#[cfg(test)]
mod tests;
