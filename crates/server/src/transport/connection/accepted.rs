//! What is known of a connection beside its bytes.

use std::net::SocketAddr;

use super::SendQueue;
use crate::transport::connection_counts::ConnectionCounts;

/// A connection that was accepted, before it has said anything.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Who is at its other end.
    pub peer: SocketAddr,
    /// Where its bytes are that the peer's kernel has not acknowledged; `None` for one that is not the kernel's.
    pub queue: Option<SendQueue>,
    /// Where it is counted.
    pub counts: ConnectionCounts,
}

/// One that is counted by nobody else.
impl From<SocketAddr> for Accepted {
    fn from(peer: SocketAddr) -> Self {
        Self {
            peer,
            queue: None,
            counts: ConnectionCounts::default(),
        }
    }
}
