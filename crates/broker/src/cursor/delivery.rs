//! The items of a cursor: events, gaps, its new position, or the reason of its end.

use bytes::Bytes;

use crate::{
    frame::Slice,
    log::{AttachError, Log},
    position::{Epoch, Position, Sequence},
    store::{Page, ReadError},
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
    pub through_epoch: Option<Epoch>,
}

/// An item of a cursor.
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
    /// A cursor that had to catch up has reached the visible end of the log.
    Current,
}

/// Why a cursor ends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CursorError {
    /// Events after the position cannot be had, and the policy is [`GapPolicy::Fail`](super::GapPolicy::Fail).
    #[error(
        "events after {requested} cannot be had: {missing}; {} of epoch {epoch}",
        kept(*first, *looked_through, *last)
    )]
    OutOfRange {
        /// The position asked for.
        requested: Position,
        /// Why not.
        missing: Missing,
        /// Epoch of the kept events.
        epoch: Epoch,
        /// The first matching event that is kept, if one was found.
        first: Option<Sequence>,
        /// How far it was looked for.
        looked_through: Sequence,
        /// The last visible event.
        last: Sequence,
    },
    /// The reader was current and fell behind the live tails of its filters.
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

impl CursorError {
    /// `page` begins with the first matching event that is kept.
    pub(super) fn out_of_range(
        log: &Log,
        requested: Position,
        missing: Missing,
        page: &Page,
    ) -> Self {
        Self::OutOfRange {
            requested,
            missing,
            epoch: log.epoch(),
            first: page.slices.front().map(Slice::first),
            looked_through: page.through,
            last: log.visible(),
        }
    }
}

/// The facts about events that a reader asked for and cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Retention has removed some of them.
    #[error("retention has removed some of them up to {through}")]
    Trimmed {
        /// Nothing that is known to be removed lies above.
        through: Sequence,
    },
    /// The store cannot give back some of them.
    #[error("some of them up to {through} are damaged")]
    Damaged {
        /// Where the damage that was met ends.
        through: Sequence,
    },
    /// The position is of another epoch.
    #[error("the position is of another epoch, that of an earlier history")]
    EpochChanged,
    /// The position was never written.
    #[error("that position was never written")]
    Future,
}

/// In words. Nothing is known above `looked_through`.
fn kept(first: Option<Sequence>, looked_through: Sequence, last: Sequence) -> String {
    first.map_or_else(
        || format!("nothing that matches is kept up to {looked_through}"),
        |first| format!("the kept events lie within {first} to {last}"),
    )
}
