//! How a cursor reads, as its subscriber asked for it.

use crate::frame::{Compression, Encoding};

/// What to do when events after the position cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// A gap, then everything that is still kept.
    Earliest,
    /// A gap, then live.
    Latest,
    /// An error that names what is kept.
    Fail,
}

/// What to do with a reader that was current and fell behind its channels' tails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It catches up from history.
    Park,
    /// An error.
    Disconnect,
}

/// How a cursor reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Holds for the life of the cursor.
    pub gap_policy: GapPolicy,
    /// Holds for the life of the cursor.
    pub slow_policy: SlowPolicy,
    /// The largest message with an event to hand out, which is what a receiver's limit is about; an event whose message
    /// is larger becomes a gap.
    pub message_bytes_max: usize,
    /// Which contract's messages to hand out.
    pub encoding: Encoding,
    /// How large ones among them are compressed.
    pub compression: Compression,
}
