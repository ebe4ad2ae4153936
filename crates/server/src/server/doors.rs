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
use crate::transport::connection_counts::ConnectionCounts;
use crate::transport::listener::{ListenAddress, Listener};
use crate::transport::proxy::{Proxies, ProxyListener};
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
    /// Clients may connect from here on. Those that come by none of its proxies are counted.
    pub(super) async fn at(
        place: Place,
        tls: Option<&Arc<Tls>>,
        counts: &ConnectionCounts,
    ) -> Result<Self, ServeError> {
        match place {
            Place::Tcp(reserved, proxies) => {
                let proxies = Proxies::new(proxies, counts);
                Ok(Self::tcp(reserved.listen()?, proxies)?)
            }
            Place::Tls(reserved, proxies, asked) => {
                let tls = Arc::clone(tls.ok_or(ServeError::NoCertificate)?);
                let proxies = Proxies::new(proxies, counts);
                Ok(Self::tls(reserved.listen()?, proxies, tls, asked)?)
            }
            Place::Unix(socket) => Ok(Self::unix(socket.listen().await?)),
        }
    }

    /// The kernel's, of a socket that listens and does not block.
    fn tcp(listener: std::net::TcpListener, proxies: Option<Arc<Proxies>>) -> io::Result<Self> {
        let address = listener.local_addr()?.into();
        let tcp = || TcpListener::from_std(listener);
        Ok(match proxies {
            None => Self::opened_by(address, tcp),
            Some(proxies) => Self::opened_by(address, move || {
                let tcp = tcp()?;
                Ok(ProxyListener { tcp, proxies })
            }),
        })
    }

    /// The same with TLS.
    fn tls(
        listener: std::net::TcpListener,
        proxies: Option<Arc<Proxies>>,
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
                proxies,
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
