//! The happenings of a fleet while it runs; the texts are for a person at a terminal.

use std::fmt;
use std::time::Duration;

use crate::continuity::Violation;
use crate::event::{Event, Gap};
use crate::position::Position;
use crate::subscriber::{GoAwayReason, Outcome};

/// Something that happened to one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// The number of the client, from 1.
    pub client: u32,
    /// The happening itself.
    pub what: What,
}

/// A happening of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Its first stream is open.
    Subscribed,
    /// An event came.
    Event(Event),
    /// A response of the frozen contract came.
    Data(String),
    /// Its stream is gone or an attempt failed, and it waits before the next.
    BackingOff {
        /// Why, in words.
        reason: String,
        /// The wait.
        retry_in: Duration,
        /// False when an attempt to come back failed.
        had_stream: bool,
    },
    /// The server ends its stream soon, or at the end of its credential; a new one is opened beside it.
    HandingOver {
        /// Why.
        cause: GoAwayReason,
        /// The same in words.
        reason: String,
    },
    /// It has a stream again, or the one that was opened beside its stream.
    Resubscribed {
        /// The server's view of its position; `None` with the frozen contract.
        outcome: Option<Outcome>,
        /// How long it had none; zero when it has a second one.
        after: Duration,
    },
    /// The server announced missing events.
    Gap(Gap),
    /// The proof of continuity failed.
    Violation(Violation),
    /// It has everything up to this position.
    Current(Position),
    /// It was unsubscribed.
    Unsubscribed {
        /// Its stream ended with OK.
        ok: bool,
    },
    /// It ended for good.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: ", self.client)?;
        match &self.what {
            What::Subscribed => f.write_str("subscribed"),
            What::Event(event) => write!(
                f,
                "{} #{} {}",
                event.topic,
                event.position.sequence,
                String::from_utf8_lossy(&event.payload)
            ),
            What::Data(data) => f.write_str(data),
            What::BackingOff {
                reason,
                retry_in,
                had_stream,
            } => {
                let what = if *had_stream {
                    "lost its stream"
                } else {
                    "could not come back"
                };
                write!(
                    f,
                    "{what} ({reason}), backing off {} ms",
                    retry_in.as_millis()
                )
            }
            What::HandingOver { reason, .. } => write!(f, "handing over ({reason})"),
            What::Resubscribed {
                outcome: Some(outcome),
                after,
            } => {
                write!(f, "resubscribed after {} ms: {outcome}", after.as_millis())
            }
            What::Resubscribed {
                outcome: None,
                after,
            } => {
                write!(f, "resubscribed after {} ms", after.as_millis())
            }
            What::Gap(gap) => write!(f, "gap announced: {gap}"),
            What::Violation(violation) => write!(f, "VIOLATION: {violation}"),
            What::Current(position) => write!(f, "current at {position}"),
            What::Unsubscribed { ok: true } => f.write_str("unsubscribed"),
            What::Unsubscribed { ok: false } => f.write_str("left without the server's OK"),
            What::Failed { reason } => write!(f, "stopped: {reason}"),
        }
    }
}
