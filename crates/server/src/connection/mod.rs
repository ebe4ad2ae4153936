//! One HTTP/2 connection: one task that drives the socket and all its streams.

mod abort;
mod settings;

use std::net::SocketAddr;

pub use abort::StreamAbort;
pub use settings::ConnectionSettings;

/// Who is at the other end of the connection; in the extensions of each of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);
