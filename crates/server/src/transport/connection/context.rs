//! The context of a connection, beside its bytes.

use std::sync::Arc;

use super::SendQueue;
use crate::transport::address::{ListenAddress, Peer};

/// A connection, as its calls know it: an `Arc` of this is in the extensions of each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionContext {
    /// Who is at its other end.
    pub peer: Peer,
    /// Where the listener listens that it came to.
    pub listener: ListenAddress,
}

/// A connection that was accepted, before it has said anything.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The context for its calls.
    pub context: Arc<ConnectionContext>,
    /// Where its bytes are that the peer's kernel has not acknowledged; `None` for one that is not the kernel's.
    pub queue: Option<SendQueue>,
}

/// In the extensions of a request whose headers were over their limit, and which has none of them: it is answered and not served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadersTooLarge {
    /// The limit, in bytes.
    pub(crate) bytes_max: u32,
}
