//! Connections in memory between the server and its clients. The test decides when each side is woken for the bytes
//! that arrived.
//!
//! Holds: nothing that one side writes wakes the other before [`Network::deliver_to_clients`] or
//! [`Network::deliver_to_server`], so the work of a side in its turn is its own alone.
//! Does not: lose, delay or bound anything; flow control is left to HTTP/2.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Connections that may wait to be accepted.
const BACKLOG: usize = 1_024;
/// The bytes that a socket takes without an allocation, so that none is counted.
const ROOM_BYTES: usize = 16 << 10;

/// The network; clones are the same one.
#[derive(Clone)]
pub(crate) struct Network {
    links: Arc<Mutex<Vec<Link>>>,
    backlog: mpsc::Sender<(Socket, SocketAddr)>,
}

/// Both directions of a connection, by the side that writes.
type Link = [Arc<Mutex<Pipe>>; 2];

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// One direction of a connection.
struct Pipe {
    bytes: Vec<u8>,
    // How much of `bytes` was read.
    read: usize,
    // Something was written since this was delivered last.
    written: bool,
    ended: bool,
    reader: Option<Waker>,
}

impl Network {
    /// Without connections, and the door through which the server gets them.
    pub(crate) fn new() -> (Self, Door) {
        let (backlog, incoming) = mpsc::channel(BACKLOG);
        let links = Arc::default();
        (Self { links, backlog }, incoming)
    }

    /// A connection to the server.
    pub(crate) fn connect(&self) -> Socket {
        let link = [Pipe::new(), Pipe::new()];
        let [ours, theirs] = [CLIENT, SERVER].map(|side| Socket {
            reads: link[1 - side].clone(),
            writes: link[side].clone(),
        });
        self.links.lock().push(link);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let accepted = self.backlog.try_send((theirs, peer));
        accepted.expect("the backlog has room for all connections");
        ours
    }

    /// Wakes the clients that have something to read; whether there were any.
    pub(crate) fn deliver_to_clients(&self) -> bool {
        self.deliver(SERVER)
    }

    /// Wakes the server's connections that have something to read; whether there were any.
    pub(crate) fn deliver_to_server(&self) -> bool {
        self.deliver(CLIENT)
    }

    fn deliver(&self, writer: usize) -> bool {
        let links = self.links.lock();
        let wake = |link: &Link| link[writer].lock().wake();
        links.iter().filter(|link| wake(link)).count() > 0
    }
}

impl Pipe {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            bytes: Vec::with_capacity(ROOM_BYTES),
            read: 0,
            written: false,
            ended: false,
            reader: None,
        }))
    }

    fn wake(&mut self) -> bool {
        let written = std::mem::take(&mut self.written);
        if written && let Some(reader) = self.reader.take() {
            reader.wake();
        }
        written
    }
}

/// One end of a connection.
pub(crate) struct Socket {
    reads: Arc<Mutex<Pipe>>,
    writes: Arc<Mutex<Pipe>>,
}

impl Socket {
    /// Writes bytes; they come with the next delivery.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let pipe = &mut *self.writes.lock();
        pipe.bytes.extend_from_slice(bytes);
        pipe.written = true;
    }

    /// Whether the other side has read all that was said, or has ended the connection.
    pub(crate) fn is_heard(&self) -> bool {
        self.writes.lock().bytes.is_empty() || self.reads.lock().ended
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self.reads.lock();
        let unread = &pipe.bytes[pipe.read..];
        // Bytes that were written and not yet delivered.
        if pipe.written || (unread.is_empty() && !pipe.ended) {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..count]);
        pipe.read += count;
        if pipe.read == pipe.bytes.len() {
            pipe.bytes.clear();
            pipe.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pipe = &mut *self.writes.lock();
        let before = pipe.bytes.len();
        for slice in slices {
            pipe.bytes.extend_from_slice(slice);
        }
        pipe.written = true;
        Poll::Ready(Ok(pipe.bytes.len() - before))
    }

    // As a kernel's socket: whole turns are one call.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = &mut *self.writes.lock();
        pipe.ended = true;
        pipe.written = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let pipe = &mut *self.writes.lock();
        pipe.ended = true;
        pipe.written = true;
    }
}

/// The server's end of the network.
pub(crate) type Door = mpsc::Receiver<(Socket, SocketAddr)>;
