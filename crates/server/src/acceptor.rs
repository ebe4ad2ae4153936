//! Takes connections from the listener, as fast as they come.
//!
//! Holds: nothing here waits for a connection; a lack of open files or too many connections costs a pause or a
//! closed socket, never a spinning core or the listener.
//! Does not: read a byte; each connection is a task of its own.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};
use tower::Service;

use crate::connection::{
    Accepted, ConnectionEnd, ConnectionSettings, HalfSentTotal, ResponseBody, serve_connection,
};
pub use crate::connection_counts::ConnectionCounts;
use crate::lifecycle::Drain;
use crate::limits;
use crate::listener::Listener;
use crate::open_files::OpenFiles;
use crate::tasks::Tasks;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has it.
    #[error("address {0} is already in use")]
    InUse(SocketAddr),
    /// The kernel refuses it.
    #[error("cannot listen on {address}: {cause}")]
    Refused {
        /// As asked for.
        address: SocketAddr,
        /// As the kernel says.
        cause: io::Error,
    },
}

/// Listens on `address`, with room for a whole fleet that connects at once.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    Reserved::new(address)?.listen()
}

/// Attempts to find a port that is free at each of several addresses.
const PORTS_TRIED: u32 = 16;

/// An address that nobody else listens on and nobody can connect to yet.
pub(crate) struct Reserved {
    socket: Socket,
    address: SocketAddr,
}

impl Reserved {
    /// Fails where somebody listens already.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, BindError> {
        let socket = reserve(address).map_err(|cause| refused(address, cause))?;
        Ok(Self { socket, address })
    }

    /// The addresses together: `first` and those of `also` that this machine has, all with one port where `first`
    /// asks for any. At least one; an address in use fails all of them.
    pub(crate) fn all(first: SocketAddr, also: &[SocketAddr]) -> Result<Vec<Self>, BindError> {
        let mut reserved = Self::all_once(first, also);
        for _ in 1..PORTS_TRIED {
            match reserved {
                // The port that was free at one is taken at another.
                Err(BindError::InUse(_)) if first.port() == 0 => {
                    reserved = Self::all_once(first, also);
                }
                _ => break,
            }
        }
        reserved
    }

    fn all_once(first: SocketAddr, also: &[SocketAddr]) -> Result<Vec<Self>, BindError> {
        let mut reserved: Vec<Self> = Vec::new();
        let mut missing = Vec::new();
        for address in std::iter::once(&first).chain(also) {
            let mut address = *address;
            if let (0, Some(before)) = (address.port(), reserved.first()) {
                let port = before
                    .socket
                    .local_addr()
                    .ok()
                    .and_then(|it| it.as_socket());
                address.set_port(port.map_or(0, |it| it.port()));
            }
            match Self::new(address) {
                Ok(one) => reserved.push(one),
                Err(BindError::Refused { address, cause }) => missing.push((address, cause)),
                Err(error @ BindError::InUse(_)) => return Err(error),
            }
        }
        if reserved.is_empty() {
            let (address, cause) = missing.swap_remove(0);
            return Err(BindError::Refused { address, cause });
        }
        for (address, cause) in missing {
            tracing::warn!(%address, %cause, "an address that cannot be listened on is left out");
        }
        Ok(reserved)
    }

    /// Clients may connect from here on.
    pub(crate) fn listen(self) -> Result<std::net::TcpListener, BindError> {
        let Self { socket, address } = self;
        let listening = socket.listen(limits::BACKLOG);
        listening.map_err(|cause| refused(address, cause))?;
        Ok(socket.into())
    }
}

fn refused(address: SocketAddr, cause: io::Error) -> BindError {
    match cause.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Refused { address, cause },
    }
}

fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A server that was killed leaves connections in TIME_WAIT, which must not keep the next from its address.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What the acceptor lets in.
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
    /// Bytes of request messages that have not come whole, of all connections together.
    pub half_sent_bytes_max_total: usize,
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
            half_sent_bytes_max_total: limits::HALF_SENT_BYTES_MAX_TOTAL,
            connection: Arc::default(),
        }
    }
}

/// Accepts until the node goes away (`Drain::go_away`); each connection becomes a task of `tasks`, served by a
/// clone of `service`.
pub async fn accept<L, S, B>(
    mut listener: L,
    service: S,
    settings: AcceptorSettings,
    counts: ConnectionCounts,
    drain: Drain,
    tasks: Tasks,
) where
    L: Listener,
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + Unpin,
    B: ResponseBody + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let half_sent = HalfSentTotal::new(settings.half_sent_bytes_max_total);
    let mut refusals = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    let mut failures = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.going_away() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            // That one connection was gone before we took it.
            Err(error) if is_of_the_connection(&error) => continue,
            Err(error) => {
                if let Some(unlogged) = failures.now() {
                    tracing::warn!(%error, unlogged, "cannot accept connections");
                }
                sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connections_max = settings.connections_max();
        if counts.open() >= connections_max {
            counts.count_refused();
            if let Some(unlogged) = refusals.now() {
                tracing::warn!(
                    %peer, connections_max, unlogged,
                    "connection closed: as many as allowed are open"
                );
            }
            continue;
        }
        let open = counts.count_open();
        if let Err(error) = L::prepare(&socket, &settings) {
            // The peer is gone already; serving it finds that out.
            tracing::debug!(%peer, %error, "socket options not set");
        }
        let accepted = Accepted {
            peer,
            queue: L::queue(&socket, peer),
            counts: counts.clone(),
        };
        let (service, connection, half_sent, drain) = (
            service.clone(),
            Arc::clone(&settings.connection),
            half_sent.clone(),
            drain.clone(),
        );
        tasks.spawn("connection", async move {
            // Made in here: handed in, it would be held twice.
            let end =
                serve_connection(socket, accepted, service, connection, half_sent, drain).await;
            drop(open);
            log_end(peer, &end);
        });
    }
}

/// Errors of `accept` that are about the one connection, as opposed to us.
pub(crate) fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn log_end(peer: SocketAddr, end: &ConnectionEnd) {
    tracing::debug!(target: "longlived::connection", %peer, reason = %end, "connection ended");
}

/// Lets one event in a while through and counts the others.
#[derive(Debug)]
pub(crate) struct Seldom {
    interval: Duration,
    last: Option<Instant>,
    unlogged: u64,
}

impl Seldom {
    /// Nothing happened yet.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            unlogged: 0,
        }
    }

    /// Some if this one is to be logged, with how many were not since the last.
    pub(crate) fn now(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < self.interval) {
            self.unlogged += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_logged_once_in_an_interval_with_the_count_of_the_rest() {
        let mut seldom = Seldom::new(Duration::from_secs(1));
        assert_eq!(seldom.now(), Some(0));
        assert_eq!(seldom.now(), None);
        assert_eq!(seldom.now(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(seldom.now(), Some(2));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = bind(any).expect("a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let error = bind(address).expect_err("the port is taken");
        assert_eq!(
            error.to_string(),
            format!("address {address} is already in use")
        );
    }
}
