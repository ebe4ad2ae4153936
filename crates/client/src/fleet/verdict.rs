//! What a fleet has to show at the end: the numbers, and a ledger of what was acknowledged and not delivered.

use std::time::Duration;

use crate::event::Gap;
use crate::position::Position;

/// What one client has to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientVerdict {
    /// The number of the client, from 1.
    pub client: u32,
    /// Events delivered.
    pub delivered: u64,
    /// Of them before its first stream was lost.
    pub delivered_before: u64,
    /// Of them since it last came back; 0 when it never had to.
    pub delivered_after: u64,
    /// Gaps announced to it.
    pub gaps: u64,
    /// Streams it opened after its first.
    pub reconnects: u64,
    /// From losing a stream to the first event or the first word that it is current: the longest.
    pub recover_max: Option<Duration>,
    /// Missing and not announced, by previous_sequence or by the ledger; `None` when it cannot be known.
    pub lost: Option<u64>,
    /// Came again; `None` when it cannot be known.
    pub repeated: Option<u64>,
    /// Unsubscribe was answered and its stream ended with OK.
    pub unsubscribed_ok: bool,
    /// Why it ended before it was told to.
    pub failed: Option<String>,
}

/// What a fleet has to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many clients ran.
    pub clients: u32,
    /// Events delivered, over all clients.
    pub delivered: u64,
    /// Missing and not announced; `None` when the contract does not let anybody know.
    pub lost: Option<u64>,
    /// Came again; `None` when the contract does not let anybody know.
    pub repeated: Option<u64>,
    /// Gaps announced.
    pub gaps: u64,
    /// Streams opened after the first.
    pub reconnects: u64,
    /// Half of all recoveries took no longer.
    pub recover_p50: Option<Duration>,
    /// The longest recovery.
    pub recover_max: Option<Duration>,
    /// Clients whose stream ended with OK after Unsubscribe.
    pub unsubscribed_ok: u32,
    /// Clients to which nothing was ever delivered.
    pub never_delivered: u32,
    /// Clients that ended before they were told to.
    pub failed: u32,
    /// Messages registered as acknowledged.
    pub acknowledged: u64,
    /// The numbers of each client, by its number.
    pub per_client: Vec<ClientVerdict>,
}

impl Verdict {
    /// Something was delivered, and nothing is known to be lost or repeated.
    pub fn is_clean(&self) -> bool {
        todo!()
    }

    /// It is clean, every client came back at least once, and something was delivered to each before and
    /// after.
    pub fn survived(&self) -> bool {
        todo!()
    }
}

/// An acknowledged message that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The client that misses it.
    pub client: u32,
    /// Its place in the log.
    pub position: Position,
}

/// Who was owed what: acknowledged, not delivered, not inside an announced gap.
#[derive(Debug, Default)]
pub struct Ledger {
    _todo: Option<Gap>,
}
