//! Where connections come from: the kernel's TCP, or whatever an embedder or a simulation puts in its place.
//!
//! Does not: bind; `acceptor::bind` does that for TCP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::acceptor::AcceptorSettings;

/// Gives the node its connections, one after the other.
pub trait Listener: Send + 'static {
    /// A connection: bytes in order, both ways.
    type Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection and who is at its other end. Safe to drop while it waits.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Sets what the settings ask of the socket itself.
    fn prepare(socket: &Self::Socket, settings: &AcceptorSettings) -> io::Result<()> {
        let _ = (socket, settings);
        Ok(())
    }
}

impl Listener for TcpListener {
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self).await
    }

    fn prepare(socket: &TcpStream, settings: &AcceptorSettings) -> io::Result<()> {
        // Whole turns are written at once; waiting to merge them would only delay.
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(settings.tcp_keepalive))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(settings.tcp_user_timeout))?;
        Ok(())
    }
}
