//! What a cursor hands out: events, gaps, where it has come to, or why it ends.

use bytes::Bytes;

use crate::{
    log::AttachError,
    position::{Position, Sequence},
    store::ReadError,
};

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// The store was damaged and cannot give them back.
    Damaged,
    /// Their history is gone.
    EpochChanged,
    /// The position asked for was never written.
    Future,
    /// One event above the reader's limit.
    TooLarge,
}

/// Matching events that are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Exclusive, in the epoch asked for.
    pub after: Sequence,
    /// Inclusive; reading continues after it.
    pub through: Sequence,
    /// How many events; 0 = unknown.
    pub events: u64,
    /// Epoch of `through` when it is another than that of `after`.
    pub through_epoch: Option<u64>,
}

/// What a cursor hands out.
#[derive(Debug)]
pub enum Delivery {
    /// Complete frames, ready to be written.
    Events {
        /// The frames, one after the other.
        bytes: Bytes,
        /// How many.
        count: usize,
    },
    /// Something is missing here.
    Gap(Gap),
    /// A long catch-up has come so far without a matching event.
    Scanned,
    /// A cursor that had to catch up has reached what is visible.
    Current,
}

/// Why a cursor ends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CursorError {
    /// Events after the position cannot be had, and the policy is [`GapPolicy::Fail`](super::GapPolicy::Fail).
    #[error(
        "events after {requested} cannot be had; {} of epoch {epoch}", kept(*first, *last)
    )]
    OutOfRange {
        /// The position asked for.
        requested: Position,
        /// Epoch of what is kept.
        epoch: u64,
        /// The first matching event that is kept, if there is one.
        first: Option<Sequence>,
        /// The last visible event.
        last: Sequence,
    },
    /// The reader was current and fell behind the tails of its channels.
    #[error("the subscriber was too slow: its position {position} has left the memory tail")]
    Slow {
        /// Where it stands.
        position: Position,
    },
    /// History could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no more readers.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

fn kept(first: Option<Sequence>, last: Sequence) -> String {
    first.map_or_else(
        || format!("nothing that matches is kept up to {last}"),
        |first| format!("kept are {first} to {last}"),
    )
}
