//! Where something stands in the log.

use std::fmt;

/// The rising number of an event, over all topics; the first event has 1, so 0 means "before everything".
pub type Sequence = u64;

/// Identity of one history, 1 to 2^53-1 (exact in every language's floating point). A sequence alone names
/// an event only together with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The largest epoch.
    pub const MAX: u64 = (1 << 53) - 1;

    /// Folds any number into the allowed range, so that any random number can be used.
    pub fn from_random(random: u64) -> Self {
        Self(random % Self::MAX + 1)
    }

    /// The epoch of a number; `None` when it is out of range.
    pub fn new(number: u64) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number on the wire.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a history: everything up to and including `sequence` lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which history; a client may ask for another one than the log's.
    pub epoch: Epoch,
    /// The last sequence behind this place.
    pub sequence: Sequence,
}

impl Position {
    /// The largest sequence, exact in every language's floating point as epochs are: a million events a second reach it
    /// after 285 years.
    pub const SEQUENCE_MAX: Sequence = (1 << 53) - 1;
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.sequence)
    }
}
