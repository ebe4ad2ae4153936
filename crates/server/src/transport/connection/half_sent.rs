//! The bytes of request messages that have not come whole: their count, and its limits.
//!
//! A message is kept until its last byte is there, so a peer that sends many and ends none makes us hold them all. Flow
//! control cannot bound that: a sender interleaves its streams, and if capacity were kept back, messages under way
//! together would wait for each other. So the capacity of each byte is released, the byte is counted here, and bytes
//! beyond a limit are refused.
//!
//! Holds: the only message under way on a connection is never refused for the connection's limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::ConnectionSettings;

/// Why the rest of a request is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It takes too long.
    #[error("a request message was not there in full within the limit request_timeout of {0:?}")]
    TimedOut(Duration),
    /// Its connection has too much under way.
    #[error(
        "the messages under way on this connection have more than the limit half_sent_bytes_max of {0} bytes"
    )]
    ConnectionExhausted(usize),
    /// The node has too much under way.
    #[error(
        "the messages under way to this node have more than the limit half_sent_bytes_max_total of {0} bytes"
    )]
    NodeExhausted(usize),
    /// The client has reset the stream, with this code of RFC 9113, 7.
    #[error("the client reset the stream: {0}")]
    Reset(longlived_http2::ErrorCode),
}

/// The count of a node; clones are the same one.
#[derive(Clone, Debug)]
pub struct HalfSentTotal {
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl HalfSentTotal {
    /// Nothing is held.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Arc::default(),
            bytes_max,
        }
    }
}

/// The count of a connection.
#[derive(Debug)]
pub(super) struct HalfSent {
    bytes: AtomicUsize,
    messages: AtomicUsize,
    bytes_max: usize,
    pub(super) request_timeout: Duration,
    total: HalfSentTotal,
}

impl HalfSent {
    pub(super) fn new(settings: &ConnectionSettings, total: HalfSentTotal) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            bytes_max: settings.half_sent_bytes_max,
            request_timeout: settings.request_timeout,
            total,
        })
    }
}

/// The held bytes of one request. Dropping it releases them.
#[derive(Debug)]
pub(super) struct Held {
    of: Arc<HalfSent>,
    bytes: usize,
}

impl Held {
    pub(super) fn nothing(of: Arc<HalfSent>) -> Self {
        Self { of, bytes: 0 }
    }

    /// From now on `bytes` are held of the message under way; 0 when there is none.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), RequestError> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes == before {
            return Ok(());
        }
        let of = &*self.of;
        if bytes < before {
            of.bytes.fetch_sub(before - bytes, Ordering::Relaxed);
            of.total.bytes.fetch_sub(before - bytes, Ordering::Relaxed);
            if bytes == 0 {
                of.messages.fetch_sub(1, Ordering::Relaxed);
            }
            return Ok(());
        }
        let more = bytes - before;
        let of_connection = of.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let of_node = of.total.bytes.fetch_add(more, Ordering::Relaxed) + more;
        if before == 0 {
            of.messages.fetch_add(1, Ordering::Relaxed);
        }
        if of_connection > of.bytes_max && of.messages.load(Ordering::Relaxed) > 1 {
            return Err(RequestError::ConnectionExhausted(of.bytes_max));
        }
        if of_node > of.total.bytes_max {
            return Err(RequestError::NodeExhausted(of.total.bytes_max));
        }
        Ok(())
    }

    /// Whether a message is under way.
    pub(super) fn is_some(&self) -> bool {
        self.bytes > 0
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.of.request_timeout
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Giving back is never refused.
        let _ = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(bytes_max: usize, total: &HalfSentTotal) -> Arc<HalfSent> {
        let settings = ConnectionSettings {
            half_sent_bytes_max: bytes_max,
            ..ConnectionSettings::default()
        };
        HalfSent::new(&settings, total.clone())
    }

    #[test]
    fn the_only_message_of_a_connection_may_be_larger_than_the_limit() {
        let total = HalfSentTotal::new(1_000);
        let connection = connection(100, &total);
        let mut large = Held::nothing(connection.clone());
        assert_eq!(large.set(500), Ok(()));
        let mut second = Held::nothing(connection.clone());
        assert_eq!(second.set(1), Err(RequestError::ConnectionExhausted(100)));
        drop(large);
        assert_eq!(second.set(90), Ok(()));
        assert_eq!(second.set(0), Ok(()));
        assert_eq!(connection.messages.load(Ordering::Relaxed), 0);
        assert_eq!(total.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_connections_share_the_nodes_limit() {
        let total = HalfSentTotal::new(150);
        let mut one = Held::nothing(connection(100, &total));
        let mut other = Held::nothing(connection(100, &total));
        assert_eq!(one.set(100), Ok(()));
        assert_eq!(other.set(51), Err(RequestError::NodeExhausted(150)));
        drop(one);
        assert_eq!(other.set(60), Ok(()));
    }
}
