//! Any bytes in the place of a header of the PROXY protocol.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use longlived_server::testkit::proxy::{
    ProxyRefusal, ReadError,
    header::{self, BEGIN_BYTES_MAX, Header, Progress},
    read,
};
use tokio::io::{AsyncRead, ReadBuf};

/// As OPERATIONS promises it.
const HEADER_BYTES_MAX: usize = 4_096;

/// A socket with these bytes, which gives at most a piece at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    taken: usize,
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = *self.sizes.next().expect("it begins again");
        let left = &self.bytes[self.taken..];
        let count = size.min(left.len()).min(buf.remaining());
        buf.put_slice(&left[..count]);
        self.taken += count;
        Poll::Ready(Ok(()))
    }
}

/// What a reader of these bytes, in pieces of these sizes, says, and how many it took.
pub fn taken(bytes: &[u8], sizes: &[usize]) -> (Result<Option<SocketAddr>, ProxyRefusal>, usize) {
    let mut socket = Pieces {
        bytes,
        taken: 0,
        sizes: sizes.iter().cycle(),
    };
    let client = read(&mut socket)
        .now_or_never()
        .expect("nothing is waited for");
    let client = client.map_err(|error| match error {
        ReadError::Refused(refusal) => refusal,
        ReadError::Io(error) => panic!("{error}"),
    });
    (client, socket.taken)
}

/// Holds what must be true of any bytes. What they mean, if they begin with a header.
pub fn judge(bytes: &[u8], sizes: &[usize]) -> Option<Header> {
    for end in 0..=bytes.len().min(BEGIN_BYTES_MAX) {
        if let Ok(Progress::Unfinished(more)) = header::read(&bytes[..end]) {
            let fits = more > 0 && end + more <= BEGIN_BYTES_MAX;
            assert!(fits, "{more} more after {end}");
        }
    }
    let (client, took) = taken(bytes, sizes);
    assert_eq!(
        client,
        taken(bytes, &[usize::MAX]).0,
        "in pieces and at once"
    );
    assert!(took <= HEADER_BYTES_MAX, "{took}");
    match header::read(bytes) {
        Ok(Progress::Read(header)) if header.bytes <= bytes.len() => {
            assert_eq!((client, took), (Ok(header.client), header.bytes));
            Some(header)
        }
        Ok(_) => {
            assert_eq!((client, took), (Err(ProxyRefusal::Cut), bytes.len()));
            None
        }
        Err(error) => {
            assert_eq!(client, Err(error.into()));
            None
        }
    }
}

/// The first byte is the length of the pieces in which the others arrive.
///
/// However they are cut, they have one meaning; a reader takes no byte behind the header, and none above the limit. A header that is
/// read means the same with anything behind it, and is none if its last byte is missing.
pub fn proxy_header(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let Some(header) = judge(bytes, &[usize::from(*size).max(1)]) else {
        return;
    };
    let (whole, rest) = bytes.split_at(header.bytes);
    let alone = taken(whole, &[usize::MAX]);
    assert_eq!(alone, (Ok(header.client), whole.len()), "{rest:?} counts");
    let (cut, _) = taken(&whole[..whole.len() - 1], &[usize::MAX]);
    assert_eq!(cut, Err(ProxyRefusal::Cut));
    let client = header.client.map(|client| client.ip());
    assert_eq!(client, client.map(|client| client.to_canonical()));
}
