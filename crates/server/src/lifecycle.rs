//! How the node goes away: three steps, each taken once, seen by every layer, connection and acceptor.
//!
//! Holds: the steps come in order, a later one implies the earlier ones.
//! Does not: decide when; the server's drain does.

use std::sync::Arc;

use tokio_util::sync::{
    CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned,
};

/// Shared state of the drain; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    inner: Arc<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    /// New calls are refused.
    refusing: CancellationToken,
    /// Accepting ends; connections tell their peer to go (GOAWAY) and end with their last stream.
    going_away: CancellationToken,
    /// Connections are dropped.
    killed: CancellationToken,
}

impl Drain {
    /// Not draining.
    pub fn new() -> Self {
        Self::default()
    }

    /// Step 1: new calls are refused, except health. Connections are still accepted, so that clients and probes
    /// get an answer and not a closed port.
    pub fn begin(&self) {
        self.inner.refusing.cancel();
    }

    /// Step 2: no more connections; those that stand end with their last stream.
    pub fn go_away(&self) {
        self.begin();
        self.inner.going_away.cancel();
    }

    /// Step 3: connections end now, also with open streams.
    pub fn kill(&self) {
        self.go_away();
        self.inner.killed.cancel();
    }

    /// Whether step 1 was taken.
    pub fn is_draining(&self) -> bool {
        self.inner.refusing.is_cancelled()
    }

    /// Whether step 3 was taken.
    pub fn is_killed(&self) -> bool {
        self.inner.killed.is_cancelled()
    }

    /// Returns when step 1 is taken.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.inner.refusing.cancelled()
    }

    /// Returns when step 2 is taken.
    pub fn going_away(&self) -> WaitForCancellationFuture<'_> {
        self.inner.going_away.cancelled()
    }

    /// The same, for a future that is kept.
    pub fn going_away_owned(&self) -> WaitForCancellationFutureOwned {
        self.inner.going_away.clone().cancelled_owned()
    }

    /// Returns when step 3 is taken, for a future that is kept.
    pub fn killed(&self) -> WaitForCancellationFutureOwned {
        self.inner.killed.clone().cancelled_owned()
    }
}
