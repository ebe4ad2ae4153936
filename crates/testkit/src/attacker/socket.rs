//! The socket of an attacker: TCP, or TLS over it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What TLS keeps of bytes that TCP does not take.
const UNSENT_BYTES: usize = 16 << 10;

thread_local! {
    static TLS: RefCell<Option<TlsConnector>> = const { RefCell::new(None) };
}

/// Those of this thread are TLS from now on.
pub(super) fn trust(authority: CertificateDer<'static>) {
    let mut trusted = RootCertStore::empty();
    trusted.add(authority).expect("a certificate");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("they are known");
    let mut config = config.with_root_certificates(trusted).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TLS.set(Some(TlsConnector::from(Arc::new(config))));
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    // Far larger.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    pub(super) async fn over(tcp: TcpStream, address: SocketAddr) -> Self {
        let Some(connector) = TLS.with_borrow(Clone::clone) else {
            return Self::Tcp(tcp);
        };
        let name = address.ip().into();
        let connecting = connector.connect_with(name, tcp, |session| {
            session.set_buffer_limit(Some(UNSENT_BYTES));
        });
        Self::Tls(Box::new(connecting.await.expect("a handshake")))
    }

    /// How many bytes are taken at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> usize {
        let written = match self {
            Self::Tcp(tcp) => tcp.try_write(bytes),
            Self::Tls(tls) => {
                let write = poll_fn(|cx| {
                    let written = ready!(Pin::new(&mut *tls).poll_write(cx, bytes));
                    let _ = Pin::new(&mut *tls).poll_flush(cx);
                    Poll::Ready(written)
                });
                let mut cx = Context::from_waker(Waker::noop());
                match pin!(unconstrained(write)).poll(&mut cx) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Ok(0),
                }
            }
        };
        written.unwrap_or(0)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
