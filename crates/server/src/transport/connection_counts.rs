//! The counters of a node's connections: the open ones, and those with trouble that an operator should know of.
//!
//! Holds: trouble of one kind is one line of the log a second at most, for any number of connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::connection::Stranger;
use crate::limits;
use crate::throttle::Seldom;

/// The counts of a node; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct ConnectionCounts {
    inner: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    refused: AtomicU64,
    refused_log: Log,
    full: AtomicUsize,
    full_log: Log,
    // In the order of `Stranger::ALL`.
    strangers: [(AtomicU64, Log); Stranger::ALL.len()],
}

#[derive(Debug)]
struct Log(Mutex<Seldom>);

impl Default for Log {
    fn default() -> Self {
        Self(Mutex::new(Seldom::new(limits::ACCEPT_LOG_INTERVAL)))
    }
}

impl ConnectionCounts {
    /// Connections open now.
    pub fn open(&self) -> usize {
        self.inner.open.load(Ordering::Relaxed)
    }

    /// Connections closed at once because `connections_max` were open.
    pub fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::Relaxed)
    }

    /// Connections on which as many streams are open as may be.
    pub fn full(&self) -> usize {
        self.inner.full.load(Ordering::Relaxed)
    }

    /// Connections that spoke another protocol than HTTP/2, by that protocol.
    pub fn strangers(&self) -> impl Iterator<Item = (Stranger, u64)> {
        let counts = self.inner.strangers.iter();
        let counts = counts.map(|(count, _)| count.load(Ordering::Relaxed));
        Stranger::ALL.into_iter().zip(counts)
    }

    /// Counts a connection that is open until this is dropped. `None` if `connections_max` are open: it is counted as
    /// refused, and the log says so.
    pub(crate) fn count_open(&self, peer: SocketAddr, connections_max: usize) -> Option<Open> {
        let more = |open| (open < connections_max).then_some(open + 1);
        let open = &self.inner.open;
        if open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
        {
            return Some(Open(self.clone()));
        }
        self.inner.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.inner.refused_log.0.lock().now() {
            tracing::warn!(
                %peer, connections_max, unlogged,
                "connection closed: connections_max is reached"
            );
        }
        None
    }

    /// Counts a connection that has as many streams as it may until this is dropped, and says so.
    pub(crate) fn count_full(&self, peer: SocketAddr, streams_max: u32) -> Full {
        self.inner.full.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.inner.full_log.0.lock().now() {
            tracing::warn!(
                %peer, streams_max, unlogged,
                "a connection has reached streams_max: its client makes further calls wait"
            );
        }
        Full(self.clone())
    }

    pub(crate) fn count_stranger(&self, peer: SocketAddr, stranger: Stranger) {
        let at = Stranger::ALL.iter().position(|one| *one == stranger);
        let Some((count, log)) = at.and_then(|at| self.inner.strangers.get(at)) else {
            return;
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = log.0.lock().now() {
            let speaks = stranger.as_str();
            tracing::warn!(%peer, speaks, unlogged, "connection closed: it does not speak HTTP/2");
        }
    }
}

/// One of the open connections, until dropped.
#[derive(Debug)]
pub(crate) struct Open(ConnectionCounts);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inner.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One of the connections that have as many streams as they may, until dropped.
#[derive(Debug)]
pub(crate) struct Full(ConnectionCounts);

impl Drop for Full {
    fn drop(&mut self) {
        self.0.inner.full.fetch_sub(1, Ordering::Relaxed);
    }
}
