//! The two ends of a connection: where its listener listens, and where its peer is.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Where a listener listens. As text: `127.0.0.1:7070`, `tls://127.0.0.1:7443`, or `unix:/run/longlived.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// An address and a port of TCP.
    Tcp(SocketAddr),
    /// The same, where TLS is spoken.
    Tls(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<Path>),
}

impl ListenAddress {
    /// The address and the port, of TCP and of TLS.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who is at the other end of a connection. As text: `127.0.0.1:40000`, or `unix:uid=1000,pid=7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// Its address and port.
    Tcp(SocketAddr),
    /// A process of this machine.
    Unix(UnixPeer),
}

/// A process that connected to a Unix socket, as the kernel knew it then (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// The user.
    pub uid: u32,
    /// The process; `None` where the kernel does not tell, as of one in another container. It may have ended, and its number may be another's by now.
    pub pid: Option<i32>,
}

impl Peer {
    /// The address and the port, of TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(UnixPeer { uid, pid }) => {
                write!(f, "unix:uid={uid}")?;
                pid.map_or(Ok(()), |pid| write!(f, ",pid={pid}"))
            }
        }
    }
}
