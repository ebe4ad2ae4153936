//! The context of a connection, beside its bytes: what is known when it is accepted, and what its handshake adds.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

use super::SendQueue;
use crate::transport::address::{ListenAddress, Peer};
use crate::transport::listener::Established;
use crate::transport::openings::Place;
use crate::transport::services::Services;

/// A connection, as its calls know it: an `Arc` of this is in the extensions of each of its requests. It is made when the
/// handshake is done, and does not change.
#[derive(Debug)]
pub struct ConnectionContext {
    /// Who is at its other end; behind a proxy that names its clients, the client that it named.
    pub peer: Peer,
    /// The listener that it came to.
    pub listener: Arc<ListenerContext>,
    /// The proxy that named the peer. In a box, which others do not pay for.
    pub proxy: Option<Box<SocketAddr>>,
    /// The certificate by which TLS knows the client. One `Arc` for the life of the connection.
    pub certificate: Option<Arc<ClientCertificateDer>>,
    // Among the connections of its address, where that has limits.
    place: Option<Box<Place>>,
    // Made by the first call that needs it.
    queue: OnceLock<Arc<Semaphore>>,
}

impl ConnectionContext {
    /// A queue of the calls of this connection, for work that is done for one of them at a time: however many calls a peer makes, it stands
    /// in line with others as one.
    pub(crate) fn queue(&self) -> Arc<Semaphore> {
        let queue = self.queue.get_or_init(|| Arc::new(Semaphore::new(1)));
        Arc::clone(queue)
    }

    /// Where the far end of the socket is, of TCP.
    pub(super) fn socket_peer(&self) -> Option<SocketAddr> {
        self.proxy.as_deref().copied().or_else(|| self.peer.tcp())
    }

    /// Adds what the handshake told; the rest is the socket.
    pub(super) fn learn<T>(&mut self, established: Established<T>) -> T {
        let Established {
            socket,
            named,
            certificate,
            place,
        } = established;
        if let Some(named) = named {
            self.proxy = self.peer.tcp().map(Box::new);
            self.peer = named.into();
        }
        self.certificate = certificate;
        if place.is_some() {
            self.place = place;
        }
        socket
    }
}

/// A listener, as its connections know it: one for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerContext {
    /// Where it listens.
    pub address: ListenAddress,
    /// What it serves.
    pub services: Services,
}

impl ListenerContext {
    /// Of a listener there that serves this.
    pub fn new(address: impl Into<ListenAddress>, services: Services) -> Self {
        let address = address.into();
        Self { address, services }
    }
}

/// One that serves all.
impl<A: Into<ListenAddress>> From<A> for ListenerContext {
    fn from(address: A) -> Self {
        Self::new(address, Services::All)
    }
}

impl fmt::Display for ListenerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The certificate of a client, in DER, which the handshake has judged: the first of its chain.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificateDer(Box<[u8]>);

impl ClientCertificateDer {
    pub(crate) fn new(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClientCertificateDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificateDer({} bytes)", self.as_bytes().len())
    }
}

/// A connection that was accepted, before it has said anything.
#[derive(Debug)]
pub struct Accepted {
    /// Who is at the other end of the socket.
    pub peer: Peer,
    /// The listener that it came to.
    pub listener: Arc<ListenerContext>,
    /// Where its bytes are that the peer's kernel has not acknowledged; `None` for one that is not the kernel's.
    pub queue: Option<SendQueue>,
    /// Among the connections of its address, where that has limits and the address is known already.
    pub place: Option<Box<Place>>,
}

impl Accepted {
    /// What is known before the handshake, for its calls.
    pub(super) fn context(&mut self) -> ConnectionContext {
        ConnectionContext {
            peer: self.peer,
            listener: Arc::clone(&self.listener),
            proxy: None,
            certificate: None,
            place: self.place.take(),
            queue: OnceLock::new(),
        }
    }
}

/// In the extensions of a request whose headers were over their limit, and which has none of them: it is answered and not served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadersTooLarge {
    /// The limit, in bytes.
    pub(crate) bytes_max: u32,
}
