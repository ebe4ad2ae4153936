//! The doors of a node: listeners of several kinds, each with the address that it is known by.
//!
//! Holds: a door is a box around a listener; the code that serves its connections is compiled for its kind of socket.
//! Does not: accept; `transport::acceptor` does.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::TcpListener;

use crate::layers::Layered;
use crate::rpc::Router;
use crate::transport::acceptor::{self, AcceptContext};
use crate::transport::listener::Listener;

/// The state that the connections of all doors share.
type Shared = AcceptContext<Layered<Router>>;
/// Accepts until the node goes away.
pub(super) type Accepting = Pin<Box<dyn Future<Output = ()> + Send>>;
type Open = Box<dyn FnOnce(Shared) -> io::Result<Accepting> + Send>;

/// A listener that is not open yet.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    open: Open,
}

impl Door {
    /// The kernel's, of a socket that listens and does not block.
    pub(super) fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self {
            address,
            open: Box::new(move |shared| {
                let listener = TcpListener::from_std(listener)?;
                Ok(Box::pin(acceptor::accept(listener, address, shared)))
            }),
        })
    }

    /// An embedder's.
    pub(super) fn of<L: Listener>(listener: L, address: SocketAddr) -> Self {
        Self {
            address,
            open: Box::new(move |shared| Ok(Box::pin(acceptor::accept(listener, address, shared)))),
        }
    }

    /// Needs the runtime, where the kernel's sockets are registered.
    pub(super) fn open(self, shared: Shared) -> io::Result<Accepting> {
        (self.open)(shared)
    }
}
