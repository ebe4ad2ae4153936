//! How a contract talks to a subscriber: one object for each contract.
//!
//! A session's body decides on the messages and their order; a [`Dialect`] encodes them. A new contract is a file in
//! here, a variant of [`Contract`], and an [`Encoding`] of the broker for its events.
//!
//! Does not: know calls with one answer, which have messages of their own.

mod legacy;
mod v1;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use longlived_broker::{CursorError, Encoding, Gap, Position};
use longlived_topic::TopicFilter;
use tonic::Status;

use super::{CloseReason, wire::Welcome};

/// Which contract a call speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// `longlived.v1`.
    V1,
    /// `protos.Longlived`, frozen.
    Legacy,
}

impl Contract {
    /// Of the method with this path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/protos.Longlived/") {
            Self::Legacy
        } else {
            Self::V1
        }
    }

    /// How it talks.
    pub(crate) fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::V1 => &v1::V1,
            Self::Legacy => &legacy::Legacy,
        }
    }
}

/// How often programs of a contract may take an id from each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakeoverLimits {
    /// Takeovers within the window.
    pub max: usize,
    /// The wait of the first that is refused.
    pub wait_min: Duration,
}

/// The messages of one contract. `None` where it has no such message.
pub(crate) trait Dialect: Sync {
    /// How it encodes events.
    fn encoding(&self) -> Encoding;

    /// The first response of a stream.
    fn welcome(&self, _welcome: &Welcome<'_>) -> Option<Bytes> {
        None
    }

    /// Events that will never come.
    fn gap(&self, _gap: &Gap) -> Option<Bytes> {
        None
    }

    /// Whether it has a word for progress, which is said on a quiet stream too.
    fn has_progress(&self) -> bool {
        false
    }

    /// How far the stream has come.
    fn progress(&self, _at: Position, _now: SystemTime, _current: bool) -> Option<Bytes> {
        None
    }

    /// Events up to a position, with padding behind them up to a number of bytes.
    fn padded(&self, _events: &Bytes, _at: Position, _bytes: usize) -> Option<Bytes> {
        None
    }

    /// When the credential of the caller expires.
    fn credential_notice(&self, _expires: Option<SystemTime>) -> Option<Bytes> {
        None
    }

    /// A filter that the caller may no longer follow, and from which position on the stream goes without it. A contract without this
    /// word has no stream with some of its filters.
    fn withdrawn(&self, _filter: &TopicFilter, _after: Position, _why: &str) -> Option<Bytes> {
        None
    }

    /// The last response of a stream that the server ends, or the announcement of that. A contract without this word has no stream
    /// that goes on after it.
    fn go_away(
        &self,
        _reason: CloseReason,
        _at: Position,
        _ends_in: Option<Duration>,
    ) -> Option<Bytes> {
        None
    }

    /// The status of a stream that the server ends.
    fn closed(&self, reason: CloseReason) -> Status;

    /// The status of a stream whose cursor cannot go on. One that was slow is closed with [`CloseReason::Slow`] before.
    fn failed(&self, error: &CursorError) -> Status;

    /// Whether its statuses have details beside their code and text.
    fn has_details(&self) -> bool {
        false
    }

    /// How often its programs may take an id from each other.
    fn takeovers(&self) -> TakeoverLimits;
}
