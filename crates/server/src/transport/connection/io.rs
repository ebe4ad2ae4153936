//! The socket of a connection, and the buffers that the connections of a thread use in turn.
//!
//! Frames for the peer are collected in one buffer and written in one call, at the end of a round or some turns later. A buffer is lent
//! for one poll of the connection's task. What the socket did not take or was not offered, and what was read and not yet looked at, is
//! kept with the connection, at its size.
//!
//! Holds: an idle connection has no buffer; written means flushed.
//! Does not: know frames.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use longlived_http2::{DATA_BYTES_MAX, HEADS_MAX, Heads, Output};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::limits;

thread_local! {
    static INPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTPUT: Cell<Option<Box<Output>>> = const { Cell::new(None) };
}

/// The socket, and what was read and is to be written.
pub(super) struct Io<T> {
    socket: T,
    /// Is woken when a socket that was full takes more, and when there is something to read.
    task: Waker,
    /// Frames for the peer, while the task is polled.
    lent: Option<Box<Output>>,
    /// What is left between the polls; most connections have nothing.
    kept: Option<Box<Kept>>,
    /// The socket takes nothing now.
    blocked: bool,
    /// The socket took bytes that it may hold in a buffer of its own, as TLS does, until it is flushed.
    unflushed: bool,
    /// Bytes that the socket has taken.
    taken: u64,
    /// The most that the next read takes.
    read_max: u32,
    last_received: Instant,
}

#[derive(Default)]
struct Kept {
    /// What the socket did not take in an earlier poll or was not offered, and how much of it is control frames.
    rest: Box<[u8]>,
    rest_control: usize,
    /// Read, and how much of it was looked at.
    unseen: Vec<u8>,
    seen: usize,
    /// The socket failed while room was made.
    failed: Option<io::Error>,
}

/// What there is to look at.
pub(super) enum Input {
    /// Those in this range of the buffer.
    Bytes(Vec<u8>, Range<usize>),
    /// The peer has closed its side.
    Closed,
}

impl<T> Io<T> {
    /// `received` was read already.
    pub(super) fn new(socket: T, received: &[u8], task: Waker) -> Self {
        Self {
            socket,
            task,
            lent: None,
            kept: Some(Box::new(Kept {
                unseen: received.to_vec(),
                ..Kept::default()
            })),
            blocked: false,
            unflushed: false,
            taken: 0,
            read_max: limits::READ_BYTES_MIN,
            last_received: Instant::now(),
        }
    }

    /// The task's poll begins: the thread's buffer is lent.
    pub(super) fn begin(&mut self) {
        let mut out = OUTPUT
            .take()
            .unwrap_or_else(|| Box::new(Output::with_capacity(limits::STAGED_BYTES_MAX)));
        if let Some(kept) = &mut self.kept {
            let (rest, control) = (&mut kept.rest, &mut kept.rest_control);
            out.put_rest(&std::mem::take(rest), std::mem::take(control));
        }
        self.lent = Some(out);
    }

    /// The task's poll ends: what was not written is kept, and the buffer serves others.
    pub(super) fn end(&mut self) {
        let Some(mut out) = self.lent.take() else {
            return;
        };
        if !out.is_empty() {
            let kept = self.kept();
            (kept.rest, kept.rest_control) = out.take_rest();
        }
        OUTPUT.set(Some(out));
        if let Some(kept) = &self.kept
            && kept.rest.is_empty()
            && kept.unseen.is_empty()
            && kept.failed.is_none()
        {
            self.kept = None;
        }
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    /// Frames for the peer.
    #[inline]
    pub(super) fn out(&mut self) -> &mut Output {
        self.lent.as_mut().expect("lent while the task is polled")
    }

    /// Bytes that are collected, while the task is polled.
    #[inline]
    pub(super) fn staged_bytes(&self) -> usize {
        self.lent.as_ref().map_or(0, |out| out.len())
    }

    /// Whether more may be collected, without a write.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        let waiting = self.staged_bytes();
        waiting == 0 || (!self.blocked && waiting < limits::STAGED_BYTES_MAX)
    }

    /// Whether the last written bytes still wait for the socket, so that more would only wait behind them.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether the socket has taken everything.
    pub(super) fn is_written(&self) -> bool {
        let waiting = self
            .lent
            .as_ref()
            .map_or(self.rest_bytes(), |out| out.len());
        !self.unflushed && waiting == 0
    }

    /// When the peer last sent anything.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Bytes that the socket has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Puts back the buffer of [`Io::poll_read`], in which these bytes were not looked at.
    pub(super) fn put_back(&mut self, buffer: Vec<u8>, unseen: Range<usize>) {
        if buffer.len() == limits::READ_BYTES_MAX {
            if !unseen.is_empty() {
                // The kernel keeps what is not read, and counts it: a million connections may have more to say at once.
                self.read_max = limits::READ_BYTES_MIN;
                let kept = self.kept();
                kept.unseen = buffer[unseen].to_vec();
                kept.seen = 0;
            }
            INPUT.set(buffer);
        } else if !unseen.is_empty() {
            // It is what was kept before.
            let kept = self.kept();
            (kept.unseen, kept.seen) = (buffer, unseen.start);
        }
    }

    /// Bytes that the socket did not take or was not offered, between the polls of the task.
    pub(super) fn rest_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.rest.len())
    }

    /// Bytes that were read and not looked at.
    pub(super) fn unseen_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.unseen.len())
    }

    /// Whether bytes were read that nobody has looked at.
    pub(super) fn has_unseen(&self) -> bool {
        (self.kept.as_ref()).is_some_and(|kept| !kept.unseen.is_empty())
    }
}

impl<T: AsyncRead + Unpin> Io<T> {
    /// The next bytes of the peer, those first that were read before.
    pub(super) fn poll_read(&mut self) -> Poll<io::Result<Input>> {
        if let Some(kept) = &mut self.kept
            && !kept.unseen.is_empty()
        {
            let unseen = std::mem::take(&mut kept.unseen);
            let range = std::mem::take(&mut kept.seen)..unseen.len();
            return Poll::Ready(Ok(Input::Bytes(unseen, range)));
        }
        let mut buffer = INPUT.take();
        // Zeros once a thread, and not once a read.
        buffer.resize(limits::READ_BYTES_MAX, 0);
        let most = self.read_max as usize;
        let mut into = ReadBuf::new(&mut buffer[..most]);
        let polled =
            Pin::new(&mut self.socket).poll_read(&mut Context::from_waker(&self.task), &mut into);
        let count = into.filled().len();
        match polled {
            Poll::Ready(Ok(())) if count > 0 => {
                self.last_received = Instant::now();
                if count == most {
                    let next = self.read_max * limits::READ_BYTES_GROWTH;
                    self.read_max = next.min(limits::READ_BYTES_MAX as u32);
                }
                Poll::Ready(Ok(Input::Bytes(buffer, 0..count)))
            }
            polled => {
                self.put_back(buffer, 0..0);
                polled.map_ok(|()| Input::Closed)
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Io<T> {
    /// Writes what is collected, as much as the socket takes. An error is that of the socket.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if let Some(error) = self.kept.as_mut().and_then(|kept| kept.failed.take()) {
            return Err(error);
        }
        match self.poll_written() {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(()),
        }
    }

    /// Writes because too much is collected. `false` if the socket is full or has failed.
    pub(super) fn make_room(&mut self) -> bool {
        if self.blocked {
            return false;
        }
        match self.poll_written() {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.fail(error);
                false
            }
            Poll::Pending => false,
        }
    }

    /// Whether the socket takes several pieces in one call, and takes some now.
    pub(super) fn takes_pieces(&self) -> bool {
        !self.blocked && self.socket.is_write_vectored()
    }

    /// Writes what is collected, and after it frames of these heads and bytes, in one call. What the socket does not take is collected: a copy of
    /// bytes that are shared is made for a socket that is full, and for no other.
    pub(super) fn write_frames(&mut self, heads: &Heads, bytes: &[u8]) {
        let polled = self.poll_write_pieces(heads, bytes);
        self.blocked = polled.is_pending();
        let mut taken = match polled {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                self.fail(error);
                return;
            }
            Poll::Pending => 0,
        };
        self.taken += taken as u64;
        self.unflushed |= taken > 0;
        let out = self.out();
        let collected = taken.min(out.len());
        out.written(collected);
        taken -= collected;
        for (head, part) in heads.iter().zip(bytes.chunks(DATA_BYTES_MAX)) {
            for piece in [head, part] {
                let gone = taken.min(piece.len());
                out.put_data(&piece[gone..]);
                taken -= gone;
            }
        }
    }

    fn poll_write_pieces(&mut self, heads: &Heads, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let cx = &mut Context::from_waker(&self.task);
        let out = self.lent.as_ref().expect("lent while the task is polled");
        let mut pieces: SmallVec<[IoSlice<'_>; 1 + 2 * HEADS_MAX]> = SmallVec::new();
        pieces.push(IoSlice::new(out.bytes()));
        for (head, part) in heads.iter().zip(bytes.chunks(DATA_BYTES_MAX)) {
            pieces.extend([IoSlice::new(head), IoSlice::new(part)]);
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, &pieces)
    }

    /// Nothing is written any more, and the task ends with its next write.
    fn fail(&mut self, error: io::Error) {
        self.blocked = true;
        self.kept().failed = Some(error);
    }

    fn poll_written(&mut self) -> Poll<io::Result<()>> {
        let cx = &mut Context::from_waker(&self.task);
        let out = self.lent.as_mut().expect("lent while the task is polled");
        while !out.is_empty() {
            let polled = Pin::new(&mut self.socket).poll_write(cx, out.bytes());
            self.blocked = polled.is_pending();
            match ready!(polled) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    out.written(count);
                    self.taken += count as u64;
                    self.unflushed = true;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.unflushed {
            // Until the socket has passed on what it holds, it counts as full.
            let flushed = Pin::new(&mut self.socket).poll_flush(cx);
            self.blocked = flushed.is_pending();
            ready!(flushed)?;
            self.unflushed = false;
        }
        self.blocked = false;
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written, and drops what the peer still sends: a socket that is closed with unread bytes takes
    /// the last frames with it. Ready when the peer has closed its side.
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()>
    where
        T: AsyncRead,
    {
        self.task = cx.waker().clone();
        self.begin();
        let written = self.poll_written();
        self.end();
        match ready!(written) {
            Ok(()) => {}
            Err(_) => return Poll::Ready(()),
        }
        if ready!(Pin::new(&mut self.socket).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        self.kept = None;
        loop {
            match ready!(self.poll_read()) {
                Ok(Input::Bytes(buffer, _)) => self.put_back(buffer, 0..0),
                Ok(Input::Closed) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longlived_http2::{Config, Connection};

    use super::*;

    #[tokio::test]
    async fn what_was_written_no_longer_waits_while_other_bytes_are_kept() {
        let (_near, far) = tokio::io::duplex(1_024);
        let mut io = Io::new(far, b"read and not looked at", Waker::noop().clone());
        let mut http2 = Connection::<()>::new(Arc::new(Config::default()));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        io.begin();
        let received = http2.receive(preface, Instant::now().into_std(), io.out());
        assert!(received.is_ok() && io.out().control_bytes() > 0);
        io.end();
        io.begin();
        assert!(io.out().control_bytes() > 0, "SETTINGS wait for the socket");
        io.write().expect("there is room");
        io.end();
        assert!(io.has_unseen());
        io.begin();
        assert_eq!(io.out().control_bytes(), 0);
    }
}
