//! The proof that nothing is missing: rising order, and each event's previous sequence against what was seen.
//!
//! Holds: for a server that keeps the contract no violation is ever found; an event left out of a topic is
//! found with the next event of that topic.
//! Does not: know connections, or decide what to do about a violation.

use std::fmt;

use crate::position::Position;

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
