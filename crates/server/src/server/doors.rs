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
use crate::transport::bind::{At, Place};
use crate::transport::connection::ListenerContext;
use crate::transport::connection_counts::ConnectionCounts;
use crate::transport::listener::{ListenAddress, Listener};
use crate::transport::openings::Openings;
use crate::transport::proxy::{Proxies, ProxyListener};
use crate::transport::services::Services;
use crate::transport::tls::{Tls, TlsListener};

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
        openings: &Openings,
    ) -> Result<Self, ServeError> {
        let Place { at, services } = place;
        match at {
            At::Tcp(reserved, proxies) => {
                let proxies = Proxies::new(proxies, counts, &openings.addresses);
                Ok(Self::tcp(reserved.listen()?, services, proxies)?)
            }
            At::Tls(reserved, proxies, client_certificate) => {
                let tcp = reserved.listen()?;
                let tls = Arc::clone(tls.ok_or(ServeError::NoCertificate)?);
                let proxies = Proxies::new(proxies, counts, &openings.addresses);
                let context = ListenerContext::new(ListenAddress::Tls(tcp.local_addr()?), services);
                Ok(Self::opened_by(context, move || {
                    let tcp = TcpListener::from_std(tcp)?;
                    Ok(TlsListener {
                        tcp,
                        tls,
                        client_certificate,
                        proxies,
                    })
                }))
            }
            At::Unix(socket) => {
                let listening = socket.listen().await?;
                let context = ListenerContext::new(listening.address(), services);
                Ok(Self::opened_by(context, move || listening.into_listener()))
            }
        }
    }

    /// The kernel's, of a socket that listens and does not block.
    fn tcp(
        listener: std::net::TcpListener,
        services: Services,
        proxies: Option<Arc<Proxies>>,
    ) -> io::Result<Self> {
        let context = ListenerContext::new(listener.local_addr()?, services);
        let tcp = || TcpListener::from_std(listener);
        Ok(match proxies {
            None => Self::opened_by(context, tcp),
            Some(proxies) => Self::opened_by(context, move || {
                let tcp = tcp()?;
                Ok(ProxyListener { tcp, proxies })
            }),
        })
    }

    /// An embedder's, which serves all.
    pub(super) fn of(listener: impl Listener, address: ListenAddress) -> Self {
        Self::opened_by(address.into(), move || Ok(listener))
    }

    fn opened_by<L: Listener>(
        context: ListenerContext,
        listener: impl FnOnce() -> io::Result<L> + Send + 'static,
    ) -> Self {
        Self {
            address: context.address.clone(),
            open: Box::new(move |shared| {
                Ok(Box::pin(acceptor::accept(listener()?, context, shared)))
            }),
        }
    }

    /// Needs the runtime, where the kernel's sockets are registered.
    pub(super) fn open(self, shared: Shared) -> io::Result<Accepting> {
        (self.open)(shared)
    }
}
