//! Checks the first bytes of a server. HTTP/2 servers send a SETTINGS frame first (RFC 9113, 3.4), which is never
//! longer than a client allows, so its first byte is 0. Any other first byte ends the connection here, with words for a
//! person: the HTTP/2 library would report a broken frame, or wait for the rest of one.
//!
//! From then on only the headers of frames are looked at, for the one that says that the connection takes no more streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::{Service, ServiceExt as _};

use crate::goaway::Frames;
use crate::subscriber::Lost;
use crate::tls;

/// Of an answer that is not HTTP/2, this much is quoted.
const QUOTED_BYTES_MAX: usize = 60;

/// How the server of a connection began. Written by the socket, read when a call is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preface(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing has come yet.
    #[default]
    Awaited,
    /// A frame of HTTP/2.
    Http2,
    /// The same, and later a GOAWAY.
    GoesAway,
    /// The connection ended before anything came.
    Closed,
    /// TLS ended it, in words: a server judges the client's certificate after its own part of the handshake.
    Ended(String),
    /// Something else, in words.
    Other(String),
}

impl Preface {
    /// A connector whose connections are watched.
    pub(crate) fn watching<C, S>(
        &self,
        connector: C,
    ) -> impl Service<Uri, Response = TokioIo<Watched<S>>, Error = C::Error, Future: Send>
    + Send
    + use<C, S>
    where
        C: Service<Uri, Response = TokioIo<S>, Future: Send> + Send,
    {
        let preface = self.clone();
        connector.map_response(move |socket| TokioIo::new(preface.watch(socket.into_inner())))
    }

    /// A new connection, watched; the verdict on the one before is forgotten.
    pub(crate) fn watch<S>(&self, inner: S) -> Watched<S> {
        self.set(State::Awaited);
        Watched {
            inner,
            awaited: Some(self.clone()),
            frames: None,
        }
    }

    /// Why there is no answer, when that lies in how the server began.
    pub(crate) fn lost(&self) -> Option<Lost> {
        match &*self.0.lock() {
            State::Awaited | State::Http2 | State::GoesAway => None,
            State::Closed => Some(Lost::Transport(
                "it was closed before the server sent anything: no gRPC server listens there, or one that takes \
                 no more connections"
                    .to_owned(),
            )),
            State::Ended(why) => Some(Lost::Transport(why.clone())),
            State::Other(what) => Some(Lost::NotHttp2(what.clone())),
        }
    }

    /// Whether the server has said that the connection takes no more streams.
    pub(crate) fn goes_away(&self) -> bool {
        *self.0.lock() == State::GoesAway
    }

    fn set(&self, state: State) {
        *self.0.lock() = state;
    }
}

impl State {
    /// The verdict on a connection that failed before anything came.
    fn after(error: &io::Error) -> Self {
        match tls::alert_in_words(error) {
            Some(why) => Self::Ended(why),
            None => Self::Closed,
        }
    }

    /// The verdict on the first bytes.
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Closed,
            [0, ..] => Self::Http2,
            // A record of TLS: an alert, or a handshake.
            [0x15 | 0x16, 3, ..] => Self::Other("it speaks TLS".to_owned()),
            _ => {
                let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
                let line = line.unwrap_or_default();
                let quoted = &line[..line.len().min(QUOTED_BYTES_MAX)];
                Self::Other(format!("it answered \"{}\"", quoted.escape_ascii()))
            }
        }
    }
}

/// A socket whose first bytes are looked at, and then the headers of its frames.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    /// Until something has come.
    awaited: Option<Preface>,
    /// Since a frame of HTTP/2 came, until a GOAWAY.
    frames: Option<(Frames, Preface)>,
}

impl<S> Watched<S> {
    /// Decides, once.
    fn decide(&mut self, state: State) -> io::Result<()> {
        let Some(preface) = self.awaited.take() else {
            return Ok(());
        };
        let is_other = matches!(state, State::Other(_));
        if state == State::Http2 {
            self.frames = Some((Frames::default(), preface.clone()));
        }
        preface.set(state);
        if is_other {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server does not speak HTTP/2",
            ));
        }
        Ok(())
    }

    /// Bytes that were read.
    fn look(&mut self, bytes: &[u8]) {
        if let Some((frames, preface)) = &mut self.frames
            && frames.look(bytes)
        {
            preface.set(State::GoesAway);
            self.frames = None;
        }
    }

    /// An outcome of writing: a connection that fails before anything came has been closed.
    fn written<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &outcome {
            self.decide(State::after(error))?;
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let is_watched = this.awaited.is_some() || this.frames.is_some();
        if !is_watched || buf.remaining() == 0 {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.inner).poll_read(cx, buf));
        if this.awaited.is_none() {
            this.look(&buf.filled()[before..]);
            return Poll::Ready(read);
        }
        let state = match &read {
            Ok(()) => State::of(&buf.filled()[before..]),
            Err(error) => State::after(error),
        };
        let decided = this.decide(state);
        if decided.is_err() {
            // Nothing was read where an error is the outcome.
            buf.set_filled(before);
        }
        this.look(&buf.filled()[before..]);
        Poll::Ready(decided.and(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes));
        Poll::Ready(this.written(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bytes));
        Poll::Ready(this.written(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.inner).poll_flush(cx));
        Poll::Ready(this.written(flushed))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// The verdict after a server has sent these bytes and closed.
    async fn after(bytes: &[u8]) -> (io::Result<Vec<u8>>, Option<String>) {
        let preface = Preface::default();
        let (near, mut far) = duplex(1 << 10);
        let mut watched = preface.watch(near);
        assert_eq!(preface.lost(), None, "nothing is known yet");
        far.write_all(bytes).await.unwrap();
        drop(far);
        let mut read = Vec::new();
        let outcome = watched.read_to_end(&mut read).await;
        let lost = preface.lost().map(|lost| lost.to_string());
        (outcome.map(|_| read), lost)
    }

    #[tokio::test]
    async fn a_server_of_http2_is_read_as_it_is() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        let (read, lost) = after(&settings).await;
        assert_eq!(read.unwrap(), settings);
        assert_eq!(lost, None);
    }

    #[tokio::test]
    async fn a_goaway_is_noticed_and_the_bytes_are_read_as_they_are() {
        let sent = [
            &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
            &[
                0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
        ]
        .concat();
        let preface = Preface::default();
        let (near, mut far) = duplex(1 << 10);
        let mut watched = preface.watch(near);
        far.write_all(&sent[..12]).await.unwrap();
        let mut read = [0; 12];
        watched.read_exact(&mut read).await.unwrap();
        assert!(!preface.goes_away());
        far.write_all(&sent[12..]).await.unwrap();
        drop(far);
        let mut rest = Vec::new();
        watched.read_to_end(&mut rest).await.unwrap();
        assert_eq!([&read[..], &rest].concat(), sent);
        assert!(preface.goes_away());
        assert_eq!(preface.lost(), None);
        drop(preface.watch(duplex(1).0));
        assert!(!preface.goes_away(), "the next one has said nothing");
    }

    #[tokio::test]
    async fn another_protocol_than_http2_is_refused_and_quoted() {
        let not_http2 = "the server does not speak gRPC over HTTP/2: ";
        for (bytes, said) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
                "it answered \"HTTP/1.1 400 Bad Request\"",
            ),
            (
                b"SSH-2.0-OpenSSH_9.2\r\n",
                "it answered \"SSH-2.0-OpenSSH_9.2\"",
            ),
            (b"-", "it answered \"-\""),
            (b"\xff\x01\n", "it answered \"\\xff\\x01\""),
            (&[0x15, 3, 1, 0, 2, 2, 70], "it speaks TLS"),
        ] {
            let (read, lost) = after(bytes).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(lost.unwrap(), format!("{not_http2}{said}"));
        }
        let (_, lost) = after(&[b'x'; 500]).await;
        assert!(lost.unwrap().len() < 150);
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_at_once_is_told_from_one_that_is_lost_later() {
        let (read, lost) = after(b"").await;
        assert_eq!(read.unwrap(), b"");
        let lost = lost.unwrap();
        assert!(
            lost.contains("closed before the server sent anything"),
            "{lost}"
        );
    }

    #[tokio::test]
    async fn the_next_connection_is_judged_by_itself() {
        let preface = Preface::default();
        for bytes in [&b"no"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]] {
            let (near, mut far) = duplex(1 << 10);
            let mut watched = preface.watch(near);
            far.write_all(bytes).await.unwrap();
            let _ = watched.read(&mut [0; 16]).await;
        }
        assert_eq!(preface.lost(), None);
    }
}
