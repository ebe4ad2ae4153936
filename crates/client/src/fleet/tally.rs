//! The numbers of a running fleet.

use std::time::Duration;

/// The numbers of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Clients of this fleet.
    pub clients: u32,
    /// Clients with an open stream.
    pub connected: u32,
    /// Clients that had a stream and are coming back.
    pub reconnecting: u32,
    /// Clients that ended for good.
    pub ended: u32,
    /// Events delivered since the start, over all clients.
    pub delivered: u64,
    /// Gaps announced.
    pub gaps: u64,
    /// Streams opened after the first, over all clients.
    pub reconnects: u64,
    /// Continuity broken: something is missing that was not announced.
    pub lost: u64,
    /// Events that came again.
    pub repeated: u64,
    /// The longest way from publishing to here since the last snapshot, by both clocks; `None` when nothing
    /// came.
    pub lag: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Totals;

impl Totals {
    pub(super) fn snapshot(&self) -> Snapshot {
        todo!()
    }
}
