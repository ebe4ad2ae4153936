//! TLS over TCP: the handshake of each connection, in its own task, with the certificate that holds when it begins.
//!
//! Holds: one crypto provider (aws-lc-rs); TLS 1.2 and 1.3; no early data, which could be played again by others.
//! Does not: read files; `files` does. Nor look for new ones; `reload` does.

mod certificate;
mod clients;
mod files;
mod reload;
mod socket;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use self::certificate::Configs;
pub use self::clients::{ClientCertificate, ClientFiles};
use self::files::Fingerprint;
pub use self::files::{TlsConfig, TlsError};
use self::socket::TlsSocket;
use super::connection::{ClientCertificateDer, SendQueue, begins_with_proxy, close_after};
use super::connection_counts::FORGED;
use super::listener::{Established, Listener, Peer};
use super::openings::{Handshakes, TURN_OVER};
use super::proxy::Proxies;
use super::settings::AcceptorSettings;
use crate::limits;
use crate::throttle::Seldom;

/// The content type of a record with a part of a handshake, the first byte of a client (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// A record with the fatal alert `unexpected_message` (RFC 8446, 6): what a client without TLS can read of the trouble.
const NO_TLS: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// The certificate of a node, which all its TLS listeners present.
pub(crate) struct Tls {
    files: TlsConfig,
    current: Mutex<Current>,
    handshakes: Handshakes,
    /// Somebody asks to read the files again.
    asked: Arc<Notify>,
    failed_handshakes: AtomicU64,
    failed_log: Mutex<Seldom>,
}

struct Current {
    configs: Configs,
    /// When the certificate ends, in seconds since 1970-01-01 UTC.
    not_after: i64,
    /// The content of the files from which it was made.
    loaded: Fingerprint,
    /// Why that cannot be used, so that `configs` is older.
    trouble: Option<String>,
}

impl Tls {
    /// Reads the files. Takes some time, and waits for the disk.
    pub(crate) fn load(files: TlsConfig, handshakes: Handshakes) -> Result<Self, TlsError> {
        let (seen, content) = files.read_settled();
        let loaded = content?.load(&files)?;
        let (subject, not_after) = (&loaded.facts.subject, &loaded.facts.end);
        tracing::info!(%subject, %not_after, "certificate loaded");
        loaded.facts.warn();
        Ok(Self {
            handshakes,
            files,
            current: Mutex::new(Current {
                configs: loaded.configs,
                not_after: loaded.facts.not_after,
                loaded: seen,
                trouble: None,
            }),
            asked: Arc::default(),
            failed_handshakes: AtomicU64::new(0),
            failed_log: Mutex::new(Seldom::new(limits::ACCEPT_LOG_INTERVAL)),
        })
    }

    /// Whether certificates of clients can be judged.
    pub(crate) fn knows_clients(&self) -> bool {
        self.files.clients.is_some()
    }

    /// When the certificate ends, in seconds since 1970-01-01 UTC.
    pub(crate) fn not_after(&self) -> i64 {
        self.current.lock().not_after
    }

    /// Whether the files have another content that cannot be used.
    pub(crate) fn is_stale(&self) -> bool {
        self.current.lock().trouble.is_some()
    }

    /// Handshakes that failed since the start.
    pub(crate) fn failed_handshakes(&self) -> u64 {
        self.failed_handshakes.load(Ordering::Relaxed)
    }

    /// Counts it, and says so once a second.
    fn count_failed(&self, peer: Peer, error: &dyn fmt::Display) {
        self.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        if let Some(unlogged) = self.failed_log.lock().now() {
            tracing::warn!(%peer, %error, unlogged, "TLS handshake failed");
        }
    }

    /// Makes it TLS. The caller has a deadline for it.
    async fn handshake(
        &self,
        mut raw: TcpStream,
        peer: Peer,
        asked: ClientCertificate,
    ) -> io::Result<TlsSocket> {
        let mut first = [0];
        // A balancer's probe says nothing and is no handshake that failed.
        if raw.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begun = Begun { tls: self, peer };
        if first != [HANDSHAKE] {
            let error = if begins_with_proxy(&mut raw).await.unwrap_or(false) {
                FORGED
            } else {
                "the peer does not speak TLS"
            };
            let error = io::Error::other(error);
            begun.failed(&error);
            close_after(raw, &NO_TLS).await;
            return Err(error);
        }
        let turn = self.handshakes.turn().await;
        // The files that hold now, and not when it was accepted.
        let config = self.current.lock().configs.of(asked);
        // The start has seen to it that there is one.
        let config = config.ok_or_else(|| io::Error::other("no client is trusted"))?;
        let accept = TlsAcceptor::from(config).accept_with(raw, |session| {
            session.set_buffer_limit(Some(limits::TLS_UNSENT_BYTES));
        });
        let accepted = tokio::select! {
            biased;
            accepted = accept.into_fallible() => accepted,
            () = turn.is_over() => {
                let error = io::Error::new(io::ErrorKind::TimedOut, TURN_OVER);
                begun.failed(&error);
                return Err(error);
            }
        };
        match accepted {
            Ok(socket) => {
                begun.done();
                Ok(TlsSocket::new(socket))
            }
            Err((error, raw)) => {
                drop(turn);
                begun.failed(&error);
                // The peer may be sending, and would lose the alert that says why.
                close_after(raw, &[]).await;
                Err(error)
            }
        }
    }
}

/// A handshake that has begun. Dropped, it has met its deadline, or the node went away.
struct Begun<'a> {
    tls: &'a Tls,
    peer: Peer,
}

impl Begun<'_> {
    fn done(self) {
        std::mem::forget(self);
    }

    fn failed(self, error: &io::Error) {
        self.tls.count_failed(self.peer, error);
        self.done();
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.tls
            .count_failed(self.peer, &"it was not complete in time");
    }
}

/// Accepts the connections of TCP and makes them TLS.
pub(crate) struct TlsListener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Arc<Tls>,
    pub(crate) client_certificate: ClientCertificate,
    /// Those that name their clients before the handshake, where it is behind some.
    pub(crate) proxies: Option<Arc<Proxies>>,
}

impl Listener for TlsListener {
    type Raw = TcpStream;
    // In a box: a session of rustls has more than a thousand bytes, and the connection moves.
    type Socket = Box<TlsSocket>;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        match &self.proxies {
            Some(proxies) => proxies.accept(&self.tcp).await,
            None => <TcpListener as Listener>::accept(&mut self.tcp).await,
        }
    }

    fn establish(
        &self,
        mut raw: TcpStream,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<Self::Socket>>> + Send + use<> {
        let tls = Arc::clone(&self.tls);
        let asked = self.client_certificate;
        let proxies = self.proxies.clone();
        async move {
            let (named, place) = match proxies {
                Some(proxies) => proxies.client_of(&mut raw, peer).await?,
                None => (None, None),
            };
            let client = named.map_or(peer, Peer::from);
            let socket = Box::new(tls.handshake(raw, client, asked).await?);
            let certificate = socket.client_certificate().map(ClientCertificateDer::new);
            Ok(Established {
                named,
                place,
                certificate: certificate.map(Arc::new),
                ..Established::new(socket)
            })
        }
    }

    fn client(&self, peer: Peer) -> Option<IpAddr> {
        match self.proxies {
            Some(_) => None,
            None => peer.tcp().map(|address| address.ip()),
        }
    }

    fn prepare(raw: &TcpStream, settings: &AcceptorSettings) -> io::Result<()> {
        <TcpListener as Listener>::prepare(raw, settings)
    }

    fn queue(raw: &TcpStream) -> Option<SendQueue> {
        <TcpListener as Listener>::queue(raw)
    }
}
