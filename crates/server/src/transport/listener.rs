//! The source of connections: the kernel's TCP, or a listener that an embedder or a simulation puts in its place.
//!
//! A connection has two stages. `accept` gives a raw socket, whose options are set and whose addresses are asked for.
//! `establish` makes of it the socket that HTTP/2 uses, and says what it learned of the peer; it runs in the task of the
//! connection.
//!
//! Does not: bind; `bind` does that for TCP.

use std::future::{Future, pending, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

pub use super::address::{ListenAddress, Peer, UnixPeer};
use super::connection::{ClientCertificateDer, SendQueue};
use super::openings::Place;
use super::settings::AcceptorSettings;
use crate::limits;

/// Gives the node its connections, one after the other.
pub trait Listener: Send + 'static {
    /// A connection as it is accepted.
    type Raw: Send + 'static;
    /// A connection that HTTP/2 can speak over: bytes in order, both ways.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and its peer. Safe to drop while it waits.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Raw, Peer)>> + Send;

    /// Makes the raw socket of `peer` usable, within the `handshake_timeout` of the connection. It may take long without
    /// holding up another connection.
    fn establish(
        &self,
        raw: Self::Raw,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<Self::Socket>>> + Send + use<Self>;

    /// The address of the client of a connection from `peer`, as far as it is known when it is accepted. `None` where a proxy names it
    /// later, and of one without an address.
    fn client(&self, peer: Peer) -> Option<IpAddr> {
        peer.tcp().map(|address| address.ip())
    }

    /// Sets the options of the raw socket.
    fn prepare(raw: &Self::Raw, settings: &AcceptorSettings) -> io::Result<()> {
        let _ = (raw, settings);
        Ok(())
    }

    /// Where its bytes are that the peer has not acknowledged, if the kernel knows it.
    fn queue(raw: &Self::Raw) -> Option<SendQueue> {
        let _ = raw;
        None
    }
}

/// A connection whose handshake is done: its socket, and what the handshake told of the peer.
#[derive(Debug)]
pub struct Established<S> {
    pub(super) socket: S,
    /// Whom the peer, a proxy, named as its client.
    pub(super) named: Option<SocketAddr>,
    pub(super) certificate: Option<Arc<ClientCertificateDer>>,
    /// Of a client that a proxy named, where its address has limits.
    pub(super) place: Option<Box<Place>>,
}

impl<S> Established<S> {
    /// Nothing but the socket.
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            named: None,
            certificate: None,
            place: None,
        }
    }

    /// The peer is known by this certificate, in DER. Whether it may be trusted was judged before.
    #[must_use]
    pub fn with_certificate(mut self, der: &[u8]) -> Self {
        self.certificate = Some(Arc::new(ClientCertificateDer::new(der)));
        self
    }

    /// The peer is a proxy, and this is its client's address, by which the connection is known from here on.
    #[must_use]
    pub fn named_by_proxy(mut self, client: SocketAddr) -> Self {
        self.named = Some(client);
        self
    }
}

/// Sockets that come through a channel, as an embedder or a simulation has them; none when nobody sends any more.
impl<S, P> Listener for mpsc::Receiver<(S, P)>
where
    P: Into<Peer> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Raw = S;
    type Socket = S;

    async fn accept(&mut self) -> io::Result<(S, Peer)> {
        match self.recv().await {
            Some((socket, peer)) => Ok((socket, peer.into())),
            None => pending().await,
        }
    }

    fn establish(
        &self,
        raw: S,
        _: Peer,
    ) -> impl Future<Output = io::Result<Established<S>>> + Send + use<S, P> {
        ready(Ok(Established::new(raw)))
    }
}

impl Listener for TcpListener {
    type Raw = TcpStream;
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = Self::accept(self).await?;
        Ok((stream, peer.into()))
    }

    fn establish(
        &self,
        raw: TcpStream,
        _: Peer,
    ) -> impl Future<Output = io::Result<Established<TcpStream>>> + Send + use<> {
        ready(Ok(Established::new(raw)))
    }

    fn prepare(raw: &TcpStream, settings: &AcceptorSettings) -> io::Result<()> {
        // Whole turns are written at once; waiting to merge them would only delay.
        raw.set_nodelay(true)?;
        let socket = SockRef::from(raw);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(settings.tcp_keepalive))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(settings.tcp_user_timeout))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(limits::TCP_UNSENT_BYTES)?;
        Ok(())
    }

    fn queue(raw: &TcpStream) -> Option<SendQueue> {
        let local = raw.local_addr().ok()?;
        Some(SendQueue::new(local))
    }
}
