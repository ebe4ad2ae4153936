//! The limits of the acceptor, as an operator may set them.

use std::sync::Arc;
use std::time::Duration;

use super::connection::ConnectionSettings;
use super::open_files::OpenFiles;
use super::openings::AddressLimits;
use crate::limits;

/// The limits of the acceptor.
#[derive(Clone, Debug)]
pub struct AcceptorSettings {
    /// Connections open at once.
    pub connections_max: usize,
    /// The files that the process may have open: fewer connections are let in where not all fit.
    pub open_files: OpenFiles,
    /// How long sent bytes may stay unacknowledged.
    pub tcp_user_timeout: Duration,
    /// Silence after which the kernel probes the peer.
    pub tcp_keepalive: Duration,
    /// The limits of the connections from one address.
    pub address: AddressLimits,
    /// Handshakes at a time; further ones wait.
    pub handshakes_max: usize,
    /// Bytes of requests that are held, of all connections together.
    pub held_bytes_max: usize,
    /// The limits of each connection.
    pub connection: Arc<ConnectionSettings>,
}

impl AcceptorSettings {
    /// How many connections may be open now.
    pub(crate) fn connections_max(&self) -> usize {
        self.open_files.connections_max(self.connections_max)
    }
}

impl Default for AcceptorSettings {
    fn default() -> Self {
        Self {
            connections_max: limits::CONNECTIONS_MAX,
            open_files: OpenFiles::default(),
            tcp_user_timeout: limits::TCP_USER_TIMEOUT,
            tcp_keepalive: limits::TCP_KEEPALIVE,
            address: AddressLimits::default(),
            handshakes_max: limits::HANDSHAKES_MAX,
            held_bytes_max: limits::HELD_BYTES_MAX,
            connection: Arc::default(),
        }
    }
}
