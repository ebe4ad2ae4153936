//! The notices of a subscriber about the stream underneath; none needs an answer.

use std::fmt;
use std::time::{Duration, SystemTime};

use longlived_api::v1;

use super::Lost;
use crate::Position;

/// A notice about the stream underneath a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A stream is open: the server's Welcome.
    Connected {
        /// Whether something was missed since the last stream.
        outcome: Outcome,
        /// Everything after this that matches will follow, or is announced by a gap.
        position: Position,
        /// Epoch of the events; another than that of `position` when the history that was asked for is gone, which the
        /// gap that follows says too.
        epoch: u64,
        /// Counts the streams this subscriber has opened; above 1 it has resubscribed.
        streams: u64,
        /// Something arrives at least this often, or the stream counts as dead.
        max_silence: Option<Duration>,
        /// The node that serves it.
        node_id: String,
        /// The version of that node.
        server_version: String,
    },
    /// The subscription is current: it has every event up to this position.
    Current {
        /// Everything up to here was handed out.
        position: Position,
    },
    /// The position moved although nothing matched.
    Progress {
        /// Everything up to here was handed out.
        position: Position,
    },
    /// The stream is lost or ended; the subscriber comes back by itself.
    Disconnected {
        /// Why.
        reason: Lost,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The server ends this stream soon, or at the end of its credential; a new one is opened beside it, so that nothing
    /// pauses. The old one goes on when the new one cannot be opened.
    HandingOver {
        /// The server's reason.
        reason: GoAwayReason,
        /// The wait before the new stream is opened.
        after: Duration,
    },
    /// The credential of this stream expires then.
    CredentialExpires {
        /// The server's time.
        at: SystemTime,
    },
    /// The server does not grant this topic filter any more. The subscription goes on without it, also on later streams.
    FilterRefused {
        /// The filter.
        filter: String,
        /// The server's text about it.
        message: String,
    },
    /// The subscription was ended by Unsubscribe; nothing follows.
    Unsubscribed {
        /// The stream ended with OK; otherwise it was lost on the way.
        ok: bool,
    },
}

/// The server's view of the position that a stream was to resume from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing was to be resumed.
    New,
    /// Nothing is missing before the next event; a loss further on is a gap in its place.
    Resumed,
    /// Something was missed; a gap follows at once.
    Reset,
}

impl Outcome {
    pub(crate) fn from_wire(outcome: i32, resuming: bool) -> Self {
        use v1::welcome::Outcome;
        match Outcome::try_from(outcome) {
            Ok(Outcome::Resumed) => Self::Resumed,
            Ok(Outcome::Reset) => Self::Reset,
            Ok(Outcome::Unspecified) | Err(_) if resuming => Self::Resumed,
            Ok(Outcome::New | Outcome::Unspecified) | Err(_) => Self::New,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Resumed => "resumed",
            Self::Reset => "something was missed",
        })
    }
}

/// Why a server ends a stream on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoAwayReason {
    /// It shuts down.
    Draining,
    /// The stream has reached its age.
    StreamAge,
    /// The same subscriber came from elsewhere.
    TakenOver,
    /// It was unsubscribed.
    Unsubscribed,
    /// The credential expired.
    CredentialExpired,
    /// The permission was withdrawn.
    Revoked,
    /// The reader was slow.
    Slow,
    /// A newer stream of the same client goes on.
    Replaced,
    /// A reason this version does not know.
    Other(i32),
}

impl GoAwayReason {
    pub(crate) fn from_wire(reason: i32) -> Self {
        use v1::go_away::Reason;
        match Reason::try_from(reason) {
            Ok(Reason::Draining) => Self::Draining,
            Ok(Reason::StreamAge) => Self::StreamAge,
            Ok(Reason::TakenOver) => Self::TakenOver,
            Ok(Reason::Unsubscribed) => Self::Unsubscribed,
            Ok(Reason::CredentialExpired) => Self::CredentialExpired,
            Ok(Reason::Revoked) => Self::Revoked,
            Ok(Reason::Slow) => Self::Slow,
            Ok(Reason::Replaced) => Self::Replaced,
            Ok(Reason::Unspecified) | Err(_) => Self::Other(reason),
        }
    }
}

impl GoAwayReason {
    /// In words, of a stream that goes on for a while.
    pub(crate) fn ahead(self) -> String {
        match self {
            Self::CredentialExpired => "the credential expires soon".to_owned(),
            reason => reason.to_string(),
        }
    }
}

impl fmt::Display for GoAwayReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draining => "the server is draining",
            Self::StreamAge => "the stream has reached its age",
            Self::TakenOver => "taken over",
            Self::Unsubscribed => "unsubscribed",
            Self::CredentialExpired => "the credential expired",
            Self::Revoked => "the permission was withdrawn",
            Self::Slow => "the reader was slow",
            Self::Replaced => "replaced by a newer stream of this client",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected {
                outcome,
                position,
                streams,
                node_id,
                ..
            } => {
                let verb = if *streams > 1 {
                    "resubscribed"
                } else {
                    "subscribed"
                };
                write!(f, "{verb} on {node_id} after {position}: {outcome}")
            }
            Self::Current { position } => write!(f, "current at {position}"),
            Self::Progress { position } => write!(f, "nothing up to {position}"),
            Self::Disconnected { reason, retry_in } => {
                write!(f, "{reason}; back in {} ms", retry_in.as_millis())
            }
            Self::HandingOver { reason, after } => {
                let (reason, after) = (reason.ahead(), after.as_millis());
                write!(f, "{reason}: a new stream in {after} ms")
            }
            Self::CredentialExpires { at } => {
                let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                let left = left.as_secs();
                write!(f, "the credential of this stream expires in {left} s")
            }
            Self::FilterRefused { filter, message } => {
                write!(f, "the server ends the topic filter {filter}: {message}")
            }
            Self::Unsubscribed { ok: true } => f.write_str("unsubscribed"),
            Self::Unsubscribed { ok: false } => {
                f.write_str("unsubscribed, but the stream was lost before its OK")
            }
        }
    }
}
