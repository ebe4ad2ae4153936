//! The doors of a node: listeners of several kinds, each with the address that it is known by.
//!
//! Holds: a door is a box around a listener; the code that serves its connections is compiled for its kind of socket.
//! Does not: accept; `transport::acceptor` does.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::ServeError;
use crate::layers::Layered;
use crate::rpc::Router;
use crate::transport::acceptor::{self, AcceptContext};
use crate::transport::bind::Place;
use crate::transport::listener::{ListenAddress, Listener};
use crate::transport::tls::{ClientCertificate, Tls, TlsListener};
use crate::transport::unix::Listening;

/// The state that the connections of all doors share.
type Shared = AcceptContext<Layered<Router>>;
/// Accepts until the node goes away.
pub(super) type Accepting = Pin<Box<dyn Future<Output = ()> + Send>>;
type Open = Box<dyn FnOnce(Shared) -> io::Result<Accepting> + Send>;

/// A listener that is not open yet.
pub(super) struct Door {
    pub(super) address: ListenAddress,
    open: Open,
}

impl Door {
    /// Clients may connect from here on.
    pub(super) async fn at(place: Place, tls: Option<&Arc<Tls>>) -> Result<Self, ServeError> {
        match place {
            Place::Tcp(reserved) => Ok(Self::tcp(reserved.listen()?)?),
            Place::Tls(reserved, client_certificate) => {
                let tls = Arc::clone(tls.ok_or(ServeError::NoCertificate)?);
                Ok(Self::tls(reserved.listen()?, tls, client_certificate)?)
            }
            Place::Unix(socket) => Ok(Self::unix(socket.listen().await?)),
        }
    }

    /// The kernel's, of a socket that listens and does not block.
    fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?.into();
        Ok(Self::opened_by(address, move || {
            TcpListener::from_std(listener)
        }))
    }

    /// The same with TLS.
    fn tls(
        listener: std::net::TcpListener,
        tls: Arc<Tls>,
        client_certificate: ClientCertificate,
    ) -> io::Result<Self> {
        let address = ListenAddress::Tls(listener.local_addr()?);
        Ok(Self::opened_by(address, move || {
            let tcp = TcpListener::from_std(listener)?;
            Ok(TlsListener {
                tcp,
                tls,
                client_certificate,
            })
        }))
    }

    /// A Unix socket that listens.
    fn unix(listening: Listening) -> Self {
        Self::opened_by(listening.address(), move || listening.into_listener())
    }

    /// An embedder's.
    pub(super) fn of(listener: impl Listener, address: ListenAddress) -> Self {
        Self::opened_by(address, move || Ok(listener))
    }

    fn opened_by<L: Listener>(
        address: ListenAddress,
        listener: impl FnOnce() -> io::Result<L> + Send + 'static,
    ) -> Self {
        Self {
            address: address.clone(),
            open: Box::new(move |shared| {
                Ok(Box::pin(acceptor::accept(listener()?, address, shared)))
            }),
        }
    }

    /// Needs the runtime, where the kernel's sockets are registered.
    pub(super) fn open(self, shared: Shared) -> io::Result<Accepting> {
        (self.open)(shared)
    }
}
