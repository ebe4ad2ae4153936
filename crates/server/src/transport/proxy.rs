//! Proxies in front of a listener, which name their clients: who may, and the reading of what they say.
//!
//! Holds: a connection of anybody else is closed before a byte of it is read; not a byte behind the header is taken.
//! Does not: know what follows the header; TLS or HTTP/2 begins there.

pub mod cidr;
pub mod header;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::cidr::Cidr;
use self::header::{BEGIN_BYTES_MAX, Header, HeaderError, Progress};
use super::connection::SendQueue;
use super::connection_counts::ConnectionCounts;
use super::listener::{Established, Listener, Peer};
use super::openings::{Addresses, Place};
use super::settings::AcceptorSettings;

/// Why a listener behind proxies has closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyRefusal {
    /// It came from elsewhere.
    #[error("it comes from none of the proxies of this listener")]
    Foreign,
    /// Its first bytes.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The peer closed it in the middle.
    #[error("it was closed within its PROXY header")]
    Cut,
    /// Its deadline, or the end of the node.
    #[error("its PROXY header was not complete in time")]
    Late,
}

impl ProxyRefusal {
    /// Every reason as metrics name it, in the order of [`Self::index`].
    pub(crate) const REASONS: [&'static str; 4] = ["foreign", "missing", "malformed", "incomplete"];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Foreign => 0,
            Self::Header(HeaderError::Missing) => 1,
            Self::Header(_) => 2,
            Self::Cut | Self::Late => 3,
        }
    }
}

/// Those that may name their clients to a listener.
#[derive(Debug)]
pub(crate) struct Proxies {
    allowed: Vec<Cidr>,
    counts: ConnectionCounts,
    addresses: Addresses,
}

impl Proxies {
    /// `None` where there are none: such a listener is not behind proxies.
    pub(crate) fn new(
        allowed: Vec<Cidr>,
        counts: &ConnectionCounts,
        addresses: &Addresses,
    ) -> Option<Arc<Self>> {
        let (counts, addresses) = (counts.clone(), addresses.clone());
        let proxies = Self {
            allowed,
            counts,
            addresses,
        };
        (!proxies.allowed.is_empty()).then(|| Arc::new(proxies))
    }

    /// The next connection from one of them.
    pub(super) async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
        loop {
            let (stream, from) = listener.accept().await?;
            if self.allowed.iter().any(|range| range.contains(from.ip())) {
                return Ok((stream, from.into()));
            }
            let refusal = ProxyRefusal::Foreign;
            self.counts.count_proxy_refused(from.into(), refusal);
        }
    }

    /// The client that `proxy` names, if it names one, and its place among the connections of its address. The caller has a deadline for it.
    pub(super) async fn client_of(
        &self,
        stream: &mut TcpStream,
        proxy: Peer,
    ) -> io::Result<(Option<SocketAddr>, Option<Box<Place>>)> {
        // A probe connects, says nothing and is no mistake.
        if stream.peek(&mut [0]).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begun = Begun {
            counts: &self.counts,
            proxy,
        };
        let client = read(stream).await;
        begun.ended();
        let named = client.map_err(|error| match error {
            ReadError::Refused(refusal) => {
                self.counts.count_proxy_refused(proxy, refusal);
                io::Error::other(refusal)
            }
            ReadError::Io(error) => error,
        })?;
        let client = named.map_or(proxy, Peer::from);
        let entered = client.tcp().map(|from| self.addresses.enter(from.ip()));
        let place = entered.unwrap_or(Ok(None)).map_err(|refusal| {
            self.counts.count_address_refused(client, refusal);
            io::Error::other(refusal)
        })?;
        Ok((named, place))
    }
}

/// A header that has begun. Dropped, it has met its deadline, or the node went away.
struct Begun<'a> {
    counts: &'a ConnectionCounts,
    proxy: Peer,
}

impl Begun<'_> {
    fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.counts
            .count_proxy_refused(self.proxy, ProxyRefusal::Late);
    }
}

/// Why a header was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is no header that is taken.
    #[error(transparent)]
    Refused(#[from] ProxyRefusal),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes a header, and nothing behind it, from the socket: the client that it names.
pub async fn read<T: AsyncRead + Unpin>(socket: &mut T) -> Result<Option<SocketAddr>, ReadError> {
    let mut begin = [0; BEGIN_BYTES_MAX];
    let mut read = 0;
    let Header { client, bytes } = loop {
        let progress = header::read(&begin[..read]).map_err(ProxyRefusal::from)?;
        let more = match progress {
            Progress::Unfinished(more) => more,
            Progress::Read(header) => break header,
        };
        read += some(socket, &mut begin[read..read + more]).await?;
    };
    // What is left says nothing that is used.
    let mut left = bytes.saturating_sub(read);
    while left > 0 {
        let most = left.min(begin.len());
        left -= some(socket, &mut begin[..most]).await?;
    }
    Ok(client)
}

/// At least a byte.
async fn some<T: AsyncRead + Unpin>(socket: &mut T, buffer: &mut [u8]) -> Result<usize, ReadError> {
    match socket.read(buffer).await? {
        0 => Err(ProxyRefusal::Cut.into()),
        count => Ok(count),
    }
}

/// Accepts the connections of TCP that come from proxies.
#[derive(Debug)]
pub(crate) struct ProxyListener {
    pub(crate) tcp: TcpListener,
    pub(crate) proxies: Arc<Proxies>,
}

impl Listener for ProxyListener {
    type Raw = TcpStream;
    type Socket = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        self.proxies.accept(&self.tcp).await
    }

    fn establish(
        &self,
        mut raw: TcpStream,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<TcpStream>>> + Send + use<> {
        let proxies = Arc::clone(&self.proxies);
        async move {
            let (named, place) = proxies.client_of(&mut raw, peer).await?;
            Ok(Established {
                named,
                place,
                ..Established::new(raw)
            })
        }
    }

    fn client(&self, _: Peer) -> Option<IpAddr> {
        None
    }

    fn prepare(raw: &TcpStream, settings: &AcceptorSettings) -> io::Result<()> {
        <TcpListener as Listener>::prepare(raw, settings)
    }

    fn queue(raw: &TcpStream) -> Option<SendQueue> {
        <TcpListener as Listener>::queue(raw)
    }
}
