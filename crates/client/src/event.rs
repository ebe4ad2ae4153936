//! The items of a subscription: events, and gaps between them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use longlived_api::v1;

use crate::Position;

/// One message of a topic, with its place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place; save it after the event was processed to continue from here in another run.
    pub position: Position,
    /// The topic it was published to.
    pub topic: String,
    /// The published payload.
    pub payload: Bytes,
    /// The thing it is about; empty when the publisher named none.
    pub key: String,
    /// Headers of the publisher.
    pub headers: BTreeMap<String, String>,
    /// The server's time of publishing; never lower than that of an earlier event.
    pub publish_time: Option<SystemTime>,
    /// The thing that `key` names is gone.
    pub deleted: bool,
    /// Sequence of the event before this one on the same topic; 0 when there is none or it is not known.
    pub previous_sequence: u64,
}

impl Event {
    pub(crate) fn from_wire(epoch: u64, wire: v1::Event) -> Self {
        Self {
            position: Position::new(epoch, wire.sequence),
            topic: wire.topic,
            payload: wire.payload,
            key: wire.key,
            headers: wire.headers,
            publish_time: wire
                .publish_time
                .and_then(|time| SystemTime::try_from(time).ok()),
            deleted: wire.deleted,
            previous_sequence: wire.previous_sequence,
        }
    }
}

/// Events that matched and will not come: the subscription continues after `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why they cannot be had.
    pub reason: GapReason,
    /// Nothing up to here is missing. `None` when the subscription had no position yet.
    pub after: Option<Position>,
    /// The last place that is missing. Of another epoch than `after` when the history itself was lost.
    pub through: Position,
    /// How many matching events are missing, when the server knows.
    pub events: Option<u64>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.reason)?;
        if let Some(after) = self.after {
            write!(f, "after {after} ")?;
        }
        write!(f, "through {}", self.through)?;
        match self.events {
            Some(events) => write!(f, ", {events} events"),
            None => write!(f, ", an unknown number of events"),
        }
    }
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// The position is of another epoch: the history that it belongs to is not the server's any more.
    EpochChanged,
    /// The position asked for was never written.
    Future,
    /// One event is larger than this subscriber takes.
    TooLarge,
    /// The server's disk did not give back events that were written to it.
    Damaged,
    /// A reason this version does not know.
    Other(i32),
}

impl GapReason {
    pub(crate) fn from_wire(reason: i32) -> Self {
        use v1::gap::Reason;
        match Reason::try_from(reason) {
            Ok(Reason::Trimmed) => Self::Trimmed,
            Ok(Reason::EpochChanged) => Self::EpochChanged,
            Ok(Reason::Future) => Self::Future,
            Ok(Reason::TooLarge) => Self::TooLarge,
            Ok(Reason::Damaged) => Self::Damaged,
            Ok(Reason::Unspecified) | Err(_) => Self::Other(reason),
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trimmed => f.write_str("removed by retention"),
            Self::EpochChanged => {
                f.write_str("the position is of another epoch, that of an earlier history")
            }
            Self::Future => f.write_str("the position was never written"),
            Self::TooLarge => f.write_str("one event is too large"),
            Self::Damaged => f.write_str("the server's disk was damaged"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}
