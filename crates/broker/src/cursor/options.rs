//! How a cursor reads, as its subscriber asked for it.

use crate::frame::{Compression, Encoding};

/// The policy for events after the position that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// A gap, then everything that is still kept.
    Earliest,
    /// A gap, then live.
    Latest,
    /// An error that names the kept range.
    Fail,
}

/// The policy for a reader that was current and fell behind its live tails.
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
    /// The largest message with an event to hand out, as a receiver's limit is about messages. An event whose message
    /// is larger becomes a gap.
    pub message_bytes_max: u32,
    /// Which contract's messages to hand out.
    pub encoding: Encoding,
    /// How large ones among them are compressed.
    pub compression: Compression,
}
