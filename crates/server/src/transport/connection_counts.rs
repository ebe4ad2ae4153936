//! The counters of a node's connections: the open ones, and those with trouble that an operator should know of.
//!
//! Holds: trouble of one kind is one line of the log a second at most, for any number of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use longlived_http2::{ConnectionError, ErrorCode};
use parking_lot::Mutex;

use super::address::Peer;
use super::connection::Stranger;
use super::openings::AddressRefusal;
use super::proxy::ProxyRefusal;
use crate::limits;
use crate::throttle::Seldom;

/// What is said of a header where nobody may send one.
pub(super) const FORGED: &str =
    "it begins with a PROXY header, which this listener takes from nobody";

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
    // By what they spoke.
    strangers: [(AtomicU64, Log); Stranger::ALL.len()],
    // By the limit.
    refused_addresses: [(AtomicU64, Log); AddressRefusal::LIMITS.len()],
    // By the reason.
    refused_by_proxy: [(AtomicU64, Log); ProxyRefusal::REASONS.len()],
    // By the reason.
    refused_requests: [AtomicU64; Refused::ALL.len()],
    // By the reason.
    cut: [(AtomicU64, Log); Cut::ALL.len()],
}

/// Why a connection refused a request before a method saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many streams as allowed are open on its connection.
    StreamsMax,
    /// It is no request by the rules of HTTP/2.
    Malformed,
    /// Its header list is over the limit.
    Headers,
}

impl Refused {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::StreamsMax, Self::Malformed, Self::Headers];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StreamsMax => "streams_max",
            Self::Malformed => "malformed",
            Self::Headers => "headers",
        }
    }
}

/// Why a connection was ended with GOAWAY and an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its peer asked for more than one peer may, or began headers that were too large or did not come whole (ENHANCE_YOUR_CALM).
    Flood,
    /// Its peer broke a rule of HTTP/2.
    Protocol,
}

impl Cut {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Flood, Self::Protocol];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Protocol => "protocol",
        }
    }
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

    /// Connections closed because of a limit of their address, by the limit.
    pub fn refused_addresses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.inner.refused_addresses.iter();
        let counts = counts.map(|(count, _)| count.load(Ordering::Relaxed));
        AddressRefusal::LIMITS.into_iter().zip(counts)
    }

    /// Connections that listeners behind proxies closed, by the reason.
    pub fn refused_by_proxy(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.inner.refused_by_proxy.iter();
        let counts = counts.map(|(count, _)| count.load(Ordering::Relaxed));
        ProxyRefusal::REASONS.into_iter().zip(counts)
    }

    /// Requests that their connections refused, by the reason.
    pub fn refused_requests(&self) -> impl Iterator<Item = (Refused, u64)> {
        let counts = self.inner.refused_requests.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Refused::ALL.into_iter().zip(counts)
    }

    /// Connections ended with an error of HTTP/2, by its kind.
    pub fn cut(&self) -> impl Iterator<Item = (Cut, u64)> {
        let counts = self.inner.cut.iter();
        let counts = counts.map(|(count, _)| count.load(Ordering::Relaxed));
        Cut::ALL.into_iter().zip(counts)
    }

    /// Counts a connection that is open until this is dropped. `None` if `connections_max` are open: it is counted as
    /// refused, and the log says so.
    pub(crate) fn count_open(&self, peer: Peer, connections_max: usize) -> Option<Open> {
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
    pub(crate) fn count_full(&self, peer: Peer, streams_max: u32) -> Full {
        self.inner.full.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.inner.full_log.0.lock().now() {
            tracing::warn!(
                %peer, streams_max, unlogged,
                "a connection has reached streams_max: its client makes further calls wait"
            );
        }
        Full(self.clone())
    }

    pub(crate) fn count_refused_request(&self, reason: Refused) {
        self.inner.refused_requests[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_stranger(&self, peer: Peer, stranger: Stranger) {
        let (count, log) = &self.inner.strangers[stranger as usize];
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = log.0.lock().now() {
            let speaks = stranger.as_str();
            if stranger == Stranger::ProxyProtocol {
                tracing::warn!(%peer, unlogged, "connection closed: {FORGED}");
            } else {
                tracing::warn!(%peer, speaks, unlogged, "connection closed: it does not speak HTTP/2");
            }
        }
    }

    pub(super) fn count_address_refused(&self, peer: Peer, refusal: AddressRefusal) {
        let (count, log) = &self.inner.refused_addresses[refusal.index()];
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = log.0.lock().now() {
            tracing::warn!(%peer, unlogged, "connection closed: {refusal}");
        }
    }

    /// `peer` is the other end of the socket: it named nobody, or may not.
    pub(super) fn count_proxy_refused(&self, peer: Peer, refusal: ProxyRefusal) {
        let (count, log) = &self.inner.refused_by_proxy[refusal.index()];
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = log.0.lock().now() {
            tracing::warn!(%peer, error = %refusal, unlogged, "connection closed by a listener behind proxies");
        }
    }
}

/// One of the open connections, until dropped.
#[derive(Debug)]
pub(crate) struct Open(ConnectionCounts);

impl Open {
    /// It ends with this error.
    pub(crate) fn count_cut(&self, peer: Peer, error: &ConnectionError) {
        let cut = match error.code {
            ErrorCode::ENHANCE_YOUR_CALM => Cut::Flood,
            _ => Cut::Protocol,
        };
        let (count, log) = &self.0.inner.cut[cut as usize];
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = log.0.lock().now() {
            tracing::warn!(%peer, %error, unlogged, "connection ended: an error of HTTP/2");
        }
    }
}

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
