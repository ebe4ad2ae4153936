//! The first bytes of a connection: HTTP/2, or another protocol, which gets one plain answer.
//!
//! We send nothing before the peer has: frames of ours would be garbage to a peer of another protocol.
//!
//! Holds: at most the preface is read of a peer of HTTP/2, and it is handed on; a peer of another protocol is heard for
//! `STRANGER_LINGER` at most.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits;
use crate::transport::openings::{Handshakes, TURN_OVER};
use crate::transport::proxy::header;

/// The preface of an HTTP/2 client, before its first frame (RFC 9113, 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest that a method of HTTP/1 has: OPTIONS.
const METHOD_BYTES_MAX: usize = 7;

/// The protocol of a peer that does not speak HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// A browser, curl, or a balancer's health check.
    Http1,
    /// A client with TLS, at a listener that does not speak it.
    Tls,
    /// A proxy that names its client first, by the PROXY protocol, at a listener that takes no such header.
    ProxyProtocol,
    /// Anything else.
    Other,
}

impl Stranger {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Tls, Self::ProxyProtocol, Self::Other];

    /// One word, as metrics and the log say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Tls => "tls",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Other => "other",
        }
    }

    /// The protocol that begins so; `None` when it is too early to tell.
    fn of(begin: &[u8]) -> Option<Self> {
        const HANDSHAKE: u8 = 0x16;
        let letters = begin.iter().take_while(|byte| byte.is_ascii_uppercase());
        let letters = letters.count();
        match begin {
            [HANDSHAKE, ..] => Some(Self::Tls),
            [] => None,
            _ if header::begins(begin) == Some(true) => Some(Self::ProxyProtocol),
            _ if header::begins(begin).is_none() => None,
            _ if letters == 0 || letters > METHOD_BYTES_MAX => Some(Self::Other),
            _ if letters == begin.len() => None,
            _ if begin[letters] != b' ' => Some(Self::Other),
            // The target of a request of HTTP/1: a path, `*`, a URI or a host (RFC 9112, 3.2). Prose is none.
            _ => match begin.get(letters + 1)? {
                b'A'..=b'Z' | b' ' => Some(Self::Other),
                _ => Some(Self::Http1),
            },
        }
    }
}

/// How a connection began.
pub(super) enum Begin {
    /// With the preface, these bytes.
    Http2(&'static [u8]),
    /// It was closed before it was clear.
    Closed,
    /// With something else.
    Stranger(Stranger, SmallBegin),
}

/// The first bytes of a stranger.
pub(super) type SmallBegin = smallvec::SmallVec<[u8; PREFACE.len()]>;

/// Reads until it is clear how the connection begins. A peer whose first bytes come in parts waits for its turn after the first.
pub(super) async fn begin<T: AsyncRead + Unpin>(
    socket: &mut T,
    handshakes: &Handshakes,
) -> io::Result<Begin> {
    let mut first = Bytes::default();
    if let Some(begin) = first.read(socket).await? {
        return Ok(begin);
    }
    let turn = handshakes.turn().await;
    let rest = async {
        loop {
            if let Some(begin) = first.read(socket).await? {
                return Ok(begin);
            }
        }
    };
    tokio::select! {
        biased;
        begin = rest => begin,
        () = turn.is_over() => Err(io::Error::new(io::ErrorKind::TimedOut, TURN_OVER)),
    }
}

/// The first bytes, as far as they have come.
#[derive(Default)]
struct Bytes {
    bytes: [u8; PREFACE.len()],
    read: usize,
}

impl Bytes {
    /// Reads more of them. `None` while it is not clear how the connection begins.
    async fn read<T: AsyncRead + Unpin>(&mut self, socket: &mut T) -> io::Result<Option<Begin>> {
        let count = socket.read(&mut self.bytes[self.read..]).await?;
        if count == 0 {
            return Ok(Some(Begin::Closed));
        }
        self.read += count;
        let bytes = &self.bytes[..self.read];
        if bytes != &PREFACE[..self.read] {
            let stranger = match Stranger::of(bytes) {
                None if self.read == PREFACE.len() => Some(Stranger::Other),
                stranger => stranger,
            };
            return Ok(stranger.map(|stranger| Begin::Stranger(stranger, bytes.into())));
        }
        Ok((self.read == PREFACE.len()).then_some(Begin::Http2(&PREFACE)))
    }
}

/// Whether the peer begins with a header of the PROXY protocol, whose begin is taken if it does.
pub(crate) async fn begins_with_proxy<T: AsyncRead + Unpin>(socket: &mut T) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    let mut read = 0;
    loop {
        if let Some(begins) = header::begins(&bytes[..read]) {
            return Ok(begins);
        }
        // As long as it may be one it is shorter than that.
        match socket.read(&mut bytes[read..]).await? {
            0 => return Ok(false),
            count => read += count,
        }
    }
}

/// Answers one that knows how to read an answer, and closes the connection.
pub(super) async fn turn_away<T>(socket: T, stranger: Stranger, begin: &[u8])
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let answer = match stranger {
        Stranger::Http1 => answer(begin),
        _ => String::new(),
    };
    close_after(socket, answer.as_bytes()).await;
}

/// Sends the answer and closes the connection of a peer that may still be sending. One that is gone, or goes on sending, is
/// not waited for.
pub(crate) async fn close_after<T>(mut socket: T, answer: &[u8])
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let answered = async {
        if !answer.is_empty() {
            socket.write_all(answer).await?;
        }
        socket.shutdown().await?;
        // The kernel would reset a connection that is closed while something of it is unread, and its peer lose the answer.
        let mut rest = [0; 512];
        while socket.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(limits::STRANGER_LINGER, answered).await;
}

fn answer(begin: &[u8]) -> String {
    const SAYS: &str = "this is gRPC over HTTP/2 (a longlived server); \
        it serves neither HTTP/1.1 nor gRPC-Web\n";
    let body = if begin.starts_with(b"HEAD ") {
        ""
    } else {
        SAYS
    };
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        SAYS.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol_of_a_peer() {
        for (begin, expected) in [
            (&b""[..], None),
            (b"P", None),
            (b"PO", None),
            (b"POST /", Some(Stranger::Http1)),
            (b"GET / HTTP/1.1", Some(Stranger::Http1)),
            (b"OPTIONS *", Some(Stranger::Http1)),
            (b"INVALID CONNECTION", Some(Stranger::Other)),
            (b"PROXY", None),
            (b"PROXY\t", Some(Stranger::Other)),
            (b"PROXY TCP4 1.2.3.4", Some(Stranger::ProxyProtocol)),
            (b"\r\n\r\n\0\r\nQUIT", None),
            (b"\r\n\r\n\0\r\nQUIT\n", Some(Stranger::ProxyProtocol)),
            (b"\r\n\r\nGET", Some(Stranger::Other)),
            (b"\x16\x03\x01", Some(Stranger::Tls)),
            (b"\x16", Some(Stranger::Tls)),
            (b"\0\0\0", Some(Stranger::Other)),
            (b"GET/", Some(Stranger::Other)),
            (b"HELLOWORLD", Some(Stranger::Other)),
            (b"hello", Some(Stranger::Other)),
        ] {
            assert_eq!(Stranger::of(begin), expected, "{begin:?}");
        }
    }

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        for cut in 1..PREFACE.len() {
            let (mut far, mut near) = tokio::io::duplex(64);
            far.write_all(&PREFACE[..cut]).await.expect("room");
            let rest = async {
                far.write_all(&PREFACE[cut..]).await.expect("room");
                far.write_all(b"frame").await.expect("room");
            };
            let handshakes = Handshakes::new(1);
            let (begun, ()) = tokio::join!(begin(&mut near, &handshakes), rest);
            assert!(matches!(begun, Ok(Begin::Http2(_))));
            let mut frame = [0; 5];
            near.read_exact(&mut frame).await.expect("it is left");
            assert_eq!(&frame, b"frame");
        }
    }
}
