//! The lines between `longlived bench publish` and its load process.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::http2::request::Windows;

/// First line: the whole load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) server: SocketAddr,
    pub(super) connections: u32,
    /// Unanswered messages of each connection.
    pub(super) in_flight: u32,
    pub(super) unary: bool,
    pub(super) topics: u32,
    pub(super) payload_bytes: u32,
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    /// One time to the answer is taken in this many messages; at least 1.
    pub(super) sample_every: u32,
    /// Messages of all calls of this load, which bounds the HTTP/2 streams that it opens.
    pub(super) messages_total: u64,
}

impl Plan {
    pub(super) fn windows(&self) -> Windows {
        Windows {
            stream_bytes: self.stream_window_bytes,
            connection_bytes: self.connection_window_bytes,
        }
    }

    /// The share of connection `index` in `messages`.
    pub(super) fn share(&self, messages: u64, index: u32) -> u64 {
        let connections = u64::from(self.connections);
        messages / connections + u64::from(u64::from(index) < messages % connections)
    }
}

/// Each further line: publish a number of messages, and say when the last one is answered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Go {
    pub(super) messages: u64,
}

/// The answer to [`Go`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) answered: u64,
    /// From the first byte written to the last answer read.
    pub(super) took_ns: u64,
    /// Times to the answer as (nanoseconds, how many).
    pub(super) latencies: Vec<(u64, u64)>,
    /// The first thing that went wrong, in words.
    pub(super) trouble: Option<String>,
}
