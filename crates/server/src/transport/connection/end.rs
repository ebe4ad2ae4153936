//! How a connection ends.

use std::sync::Arc;

use super::{ConnectionContext, Stranger};

/// A connection that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Why.
    pub why: ConnectionEnd,
    /// What was known of it; of one whose handshake was not done, what was known before.
    pub context: Arc<ConnectionContext>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionEnd {
    /// By the peer, or by a drain when its last stream had ended.
    #[error("closed")]
    Closed,
    /// The preface was not complete within `handshake_timeout`.
    #[error("no HTTP/2 preface in time")]
    HandshakeTimeout,
    /// It spoke something else.
    #[error("it does not speak HTTP/2 but {}", .0.as_str())]
    Stranger(Stranger),
    /// The peer broke a rule of HTTP/2.
    #[error(transparent)]
    Protocol(#[from] longlived_http2::ConnectionError),
    /// The socket failed while the preface was read or collected frames were written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The peer did not answer within `keepalive_timeout`, nor within the time that slow reading may have added.
    #[error("no answer to a keepalive ping")]
    PeerVanished,
    /// The server ended before the connection's streams had.
    #[error("the server ended")]
    Killed,
}
