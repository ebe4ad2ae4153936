//! The socket of a connection with TLS, which ends with the certificate of its client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

/// The longest that a timer is set for, some years: a certificate may last until the year 9999.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TlsStream<TcpStream>,
    /// When the certificate of the client ends, if it has one. In a box, which others do not pay for.
    ends: Option<Pin<Box<Sleep>>>,
}

impl TlsSocket {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        let ends = first_of_chain(&stream).map(|own| {
            let parsed = x509_parser::parse_x509_certificate(own);
            // One that cannot be read has been judged by another reader: it is not trusted for longer.
            let left = parsed.map_or(Duration::ZERO, |(_, own)| {
                left_until(own.validity().not_after.timestamp())
            });
            Box::pin(sleep_until(Instant::now() + left.min(FAR)))
        });
        Self { stream, ends }
    }

    /// The client's own certificate, if it has shown one.
    pub(super) fn client_certificate(&self) -> Option<&[u8]> {
        first_of_chain(&self.stream)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(ends) = &mut self.ends else {
            return Ok(());
        };
        match ends.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::other("the certificate of the client has ended")),
            Poll::Pending => Ok(()),
        }
    }
}

fn first_of_chain(stream: &TlsStream<TcpStream>) -> Option<&[u8]> {
    let chain = stream.get_ref().1.peer_certificates()?;
    chain.first().map(AsRef::as_ref)
}

/// From now to that many seconds after 1970-01-01 UTC.
fn left_until(timestamp: i64) -> Duration {
    let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0));
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
