//! The socket as HTTP/2 sees it, and the place where DATA joins its frames.
//!
//! HTTP/2 writes and flushes frame by frame, so its flush is not honoured once `stage` was called; the
//! connection's task calls `write` when it has nothing more to do, and that is one write. DATA does not go
//! through HTTP/2 at all: `send` writes its frames behind what was collected, within the windows that the peer gave.
//!
//! Holds: whole frames only, so that what HTTP/2 writes and DATA never mix within one; about `STAGED_BYTES_MAX` are
//! collected, and nothing more is taken while the socket is full; an idle connection holds no buffer.
//! Does not: know whether a stream's head went out before its DATA; the streams do.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::inbound::{HELD_BYTES_MAX, Inbound};
use super::windows::{NoRoom, Spent, Windows};
use crate::limits;

/// Bytes of DATA in one frame: what every peer takes (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Of a frame's head (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;

/// Frames that are given to the socket in one call.
const FRAMES_AT_ONCE: usize = limits::STAGED_BYTES_MAX / FRAME_BYTES_MAX;

thread_local! {
    /// The buffer that the thread's connections use in turn: it is empty again when one has written, and warm in
    /// the cache for the next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// What was read and is about to be looked at; all of one length.
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The half that HTTP/2 owns.
pub(super) struct Io<T> {
    shared: Arc<Mutex<Staged<T>>>,
    vectored: bool,
}

/// The half that the connection's task keeps. Both run in that task, so the lock is never waited for.
pub(super) struct IoHandle<T> {
    shared: Arc<Mutex<Staged<T>>>,
}

// In this order in memory: a delivery touches the first lines of it only.
#[repr(C)]
struct Staged<T> {
    /// Collected and not yet written.
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// The socket took less than it was given: nothing more is collected until it took the rest.
    full: bool,
    /// The last write found no room; it is tried again when the socket says so.
    blocked: bool,
    /// HTTP/2 was told "not now" and still has what it wanted to write.
    refused: bool,
    windows: Windows,
    socket: T,
    /// What a write of DATA failed with.
    failed: Option<io::Error>,
    /// Is woken when a socket that was full takes more. Writes are collected once it is there.
    task: Option<Waker>,
    inbound: Inbound,
    // What was held back, passed, and found no room with HTTP/2.
    passed: SmallVec<[u8; HELD_BYTES_MAX]>,
    // Received, and to pass when the calls before are taken up.
    waiting: Vec<u8>,
    last_received: Instant,
}

/// Both halves over `socket`; nothing is collected until `IoHandle::stage`.
pub(super) fn split<T: AsyncWrite>(socket: T) -> (Io<T>, IoHandle<T>) {
    let vectored = socket.is_write_vectored();
    let staged = Staged {
        socket,
        inbound: Inbound::new(),
        windows: Windows::new(),
        passed: SmallVec::new(),
        waiting: Vec::new(),
        task: None,
        buffer: Vec::new(),
        written: 0,
        full: false,
        blocked: false,
        refused: false,
        failed: None,
        last_received: Instant::now(),
    };
    let shared = Arc::new(Mutex::new(staged));
    (
        Io {
            shared: Arc::clone(&shared),
            vectored,
        },
        IoHandle { shared },
    )
}

impl<T> IoHandle<T> {
    /// From now on writes are collected until `write`. `task` is woken when a full socket takes more.
    pub(super) fn stage(&self, task: Waker) {
        self.shared.lock().task = Some(task);
    }

    /// Whether HTTP/2 still has frames that it could not write.
    pub(super) fn has_refused(&self) -> bool {
        self.shared.lock().refused
    }

    /// The windows, for as long as the guard lives.
    pub(super) fn windows(&self) -> MappedMutexGuard<'_, Windows> {
        MutexGuard::map(self.shared.lock(), |staged| &mut staged.windows)
    }

    /// Whether what was written last still waits for the socket, so that more would only wait behind it.
    pub(super) fn is_blocked(&self) -> bool {
        self.shared.lock().blocked
    }

    /// All calls that HTTP/2 has read were taken up; whether there may be others that it was not shown yet.
    pub(super) fn calls_taken(&self) -> bool {
        self.shared.lock().inbound.calls_taken()
    }

    /// When the peer last sent anything.
    pub(super) fn last_received(&self) -> Instant {
        self.shared.lock().last_received
    }
}

impl<T: AsyncWrite + Unpin> IoHandle<T> {
    /// Writes what was collected, as much as the socket takes, and says what is left to do.
    pub(super) fn write(&self, cx: &mut Context<'_>) -> io::Result<Left> {
        let staged = &mut *self.shared.lock();
        if let Some(error) = staged.failed.take() {
            return Err(error);
        }
        if let Poll::Ready(Err(error)) = staged.poll_written(cx) {
            return Err(error);
        }
        Ok(Left {
            blocked: staged.blocked,
            refused: staged.refused,
            room_waited_for: staged.windows.has_room_waited_for(),
        })
    }

    /// Whether a stream may send anything now as far as the windows go.
    pub(super) fn has_window(&self, stream: u32, spent: &mut Spent) -> bool {
        let room = self.shared.lock().windows.room(stream, spent, 1);
        // Who was given too much is told when it sends.
        room != Err(NoRoom::Now)
    }

    /// For several sends in a row.
    pub(super) fn sender(&self) -> Sender<'_, T> {
        Sender(self.shared.lock())
    }
}

/// What a write leaves to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// The socket took less than it was given, so that more would only wait behind it.
    pub(super) blocked: bool,
    /// HTTP/2 still has frames that it could not write.
    pub(super) refused: bool,
    /// The connection's window has room for which somebody waits.
    pub(super) room_waited_for: bool,
}

/// Writes DATA frames.
pub(super) struct Sender<'a, T>(MutexGuard<'a, Staged<T>>);

/// What became of bytes that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it is on its way.
    All,
    /// So much of it; for the rest the stream waits for room in a window.
    Part(usize),
    /// So much of it; for the rest the socket has no room.
    Blocked(usize),
    /// So much of it; the stream is to end, since its peer breaks the rules.
    Overflown(usize),
}

impl<T: AsyncWrite + Unpin> Sender<'_, T> {
    /// Sends as much as may go now.
    pub(super) fn send(&mut self, stream: u32, spent: &mut Spent, bytes: &[u8]) -> Sent {
        let mut done = 0;
        while done < bytes.len() {
            match self.send_frames(stream, spent, &bytes[done..]) {
                Ok(count) => done += count,
                Err(Stop::Blocked) => return Sent::Blocked(done),
                Err(Stop::NoRoom(NoRoom::Now)) => return Sent::Part(done),
                Err(Stop::NoRoom(NoRoom::Overflown)) => return Sent::Overflown(done),
            }
        }
        Sent::All
    }

    /// Whether what was written last still waits for the socket, so that more would only wait behind it.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.blocked
    }

    /// Whether the connection's window is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.0.windows.is_used_up()
    }

    fn send_frames(&mut self, stream: u32, spent: &mut Spent, rest: &[u8]) -> Result<usize, Stop> {
        let staged = &mut *self.0;
        // What HTTP/2 waits to write may be the rest of a head, which nothing must come before.
        if staged.refused {
            return Err(Stop::Blocked);
        }
        let wanted = rest.len().min(FRAMES_AT_ONCE * FRAME_BYTES_MAX);
        let room = staged
            .windows
            .room(stream, spent, wanted)
            .map_err(Stop::NoRoom)?;
        let count = staged.put(stream, &rest[..room]).ok_or(Stop::Blocked)?;
        staged.windows.spend(spent, count);
        Ok(count)
    }
}

enum Stop {
    Blocked,
    NoRoom(NoRoom),
}

/// A DATA frame's head (RFC 9113, 4.1 and 6.1), without flags: the end of a stream is HTTP/2's to say.
fn data_head(stream: u32, bytes: usize) -> [u8; HEAD_BYTES] {
    let [_, high, middle, low] = (bytes as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [high, middle, low, 0, 0, a, b, c, d]
}

impl<T> Staged<T> {
    fn is_empty(&self) -> bool {
        self.written == self.buffer.len()
    }

    fn collect(&mut self, slices: &[IoSlice<'_>], total: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
        }
        if self.buffer.capacity() - self.buffer.len() < total {
            // Grown in one step: a burst would otherwise copy its way up.
            self.buffer
                .reserve_exact(limits::STAGED_BYTES_MAX.max(total));
        }
        for slice in slices {
            self.buffer.extend_from_slice(slice);
        }
    }

    /// Everything collected was written: the buffer goes to the thread's next connection.
    fn release(&mut self) {
        self.written = 0;
        self.full = false;
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() >= limits::STAGED_BYTES_MAX {
            buffer.clear();
            SPARE.set(buffer);
        }
    }

    /// The socket takes no more: only what is left is kept, and the large buffer serves others.
    fn keep_rest(&mut self) {
        if self.full {
            return;
        }
        self.full = true;
        let rest = self.buffer[self.written..].to_vec();
        self.release();
        self.buffer = rest;
        self.full = true;
    }
}

impl<T: AsyncWrite + Unpin> Staged<T> {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let polled = Pin::new(&mut self.socket).poll_write(cx, &self.buffer[self.written..]);
            self.blocked = polled.is_pending();
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.keep_rest();
                    return Poll::Pending;
                }
            }
        }
        if self.buffer.capacity() > 0 {
            self.release();
        }
        Poll::Ready(Ok(()))
    }

    /// HTTP/2 wants to write, always whole frames: they are taken as they are, or not at all.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.task.is_none() {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.full || self.buffer.len() + total > limits::STAGED_BYTES_MAX {
            self.refused = true;
            ready!(self.poll_written(cx))?;
        }
        self.refused = false;
        self.collect(slices, total);
        Poll::Ready(Ok(total))
    }

    /// Takes bytes of a stream in whole frames, the first at least; how many, or none if the socket has no room for them.
    fn put(&mut self, stream: u32, bytes: &[u8]) -> Option<usize> {
        let first = bytes.len().min(FRAME_BYTES_MAX);
        let total = HEAD_BYTES + first;
        let through = bytes.len() >= limits::STAGED_WRITE_BYTES_MAX;
        let fits = self.buffer.len() + total <= limits::STAGED_BYTES_MAX;
        if !self.full && fits && !through {
            let head = data_head(stream, first);
            self.collect(&[IoSlice::new(&head), IoSlice::new(bytes)], total);
            return Some(first);
        }
        let task = self.task.clone();
        let mut cx = Context::from_waker(task.as_ref().unwrap_or(Waker::noop()));
        if self.full || !fits {
            match self.poll_written(&mut cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    return None;
                }
                Poll::Pending => return None,
            }
        }
        Some(self.write_through(&mut cx, stream, bytes))
    }

    /// What was collected and frames behind it, in one write and without copying them. Of what the socket does not take,
    /// the frame that it is in the middle of is kept, or the first.
    fn write_through(&mut self, cx: &mut Context<'_>, stream: u32, bytes: &[u8]) -> usize {
        let collected = self.buffer.len() - self.written;
        let payloads = || bytes.chunks(FRAME_BYTES_MAX);
        let heads: SmallVec<[_; FRAMES_AT_ONCE]> = payloads()
            .map(|payload| data_head(stream, payload.len()))
            .collect();
        let mut slices = SmallVec::<[_; 1 + 2 * FRAMES_AT_ONCE]>::new();
        if collected > 0 {
            slices.push(IoSlice::new(&self.buffer[self.written..]));
        }
        for (head, payload) in heads.iter().zip(payloads()) {
            slices.extend([IoSlice::new(head), IoSlice::new(payload)]);
        }
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, &slices);
        drop(slices);
        self.blocked = polled.is_pending();
        let count = match polled {
            Poll::Ready(Ok(0)) => {
                self.failed = Some(io::ErrorKind::WriteZero.into());
                return bytes.len();
            }
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                return bytes.len();
            }
            Poll::Pending => 0,
        };
        self.written += count.min(collected);
        let sent = count.saturating_sub(collected);
        let last = sent.div_ceil(HEAD_BYTES + FRAME_BYTES_MAX).max(1) - 1;
        let sent_of_last = sent - last * (HEAD_BYTES + FRAME_BYTES_MAX);
        let payload = &bytes[last * FRAME_BYTES_MAX..];
        let payload = &payload[..payload.len().min(FRAME_BYTES_MAX)];
        let taken = last * FRAME_BYTES_MAX + payload.len();
        let head = &heads[last][sent_of_last.min(HEAD_BYTES)..];
        let payload = &payload[sent_of_last.saturating_sub(HEAD_BYTES)..];
        if head.len() + payload.len() > 0 {
            let rest = [IoSlice::new(head), IoSlice::new(payload)];
            self.collect(&rest, head.len() + payload.len());
        }
        if self.is_empty() {
            self.release();
        } else if self.blocked {
            self.keep_rest();
        }
        taken
    }
}

impl<T: AsyncRead + Unpin> Staged<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.passed.is_empty() {
            let count = self.passed.len().min(into.remaining());
            into.put_slice(&self.passed[..count]);
            self.passed.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let mut received = RECEIVED.take();
        received.resize(limits::READ_BYTES_MAX, 0);
        let polled = self.poll_received(cx, into, &mut received);
        RECEIVED.set(received);
        polled
    }

    fn poll_received(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        received: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        // To have read nothing would look like the end of the connection.
        while into.filled().len() == before {
            if self.inbound.is_full() {
                // The connection's task goes on when it has taken the calls up.
                return Poll::Pending;
            }
            let room = into.remaining().min(received.len());
            if self.waiting.is_empty() {
                let mut buffer = ReadBuf::new(&mut received[..room]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    break;
                }
                self.last_received = Instant::now();
                let waits = self.pass(buffer.filled(), into);
                self.waiting = waits.to_vec();
            } else {
                let waiting = std::mem::take(&mut self.waiting);
                let (now, later) = waiting.split_at(room.min(waiting.len()));
                let waits = self.pass(now, into).len() + later.len();
                self.waiting = waiting[waiting.len() - waits..].to_vec();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What waits for its turn.
    fn pass<'a>(&mut self, bytes: &'a [u8], into: &mut ReadBuf<'_>) -> &'a [u8] {
        let passed = &mut self.passed;
        let mut out = |part: &[u8]| {
            let (fits, rest) = part.split_at(part.len().min(into.remaining()));
            into.put_slice(fits);
            passed.extend_from_slice(rest);
        };
        self.inbound.pass(bytes, &mut self.windows, &mut out)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.lock().poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Io<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut staged = self.shared.lock();
        if staged.task.is_some() {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut staged.socket).poll_flush(cx)
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut staged = self.shared.lock();
        ready!(staged.poll_written(cx))?;
        Pin::new(&mut staged.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Takes what its script says, then everything.
    struct Socket {
        taken: Vec<u8>,
        writes: usize,
        /// How much each write takes; 0 is "not now".
        script: VecDeque<usize>,
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
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let limit = self.script.pop_front().unwrap_or(usize::MAX);
            if limit == 0 {
                return Poll::Pending;
            }
            self.writes += 1;
            let before = self.taken.len();
            for slice in slices {
                let room = limit - (self.taken.len() - before);
                let part = &slice[..slice.len().min(room)];
                self.taken.extend_from_slice(part);
            }
            Poll::Ready(Ok(self.taken.len() - before))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn over(script: &[usize]) -> (Io<Socket>, IoHandle<Socket>) {
        let (io, handle) = split(Socket {
            taken: Vec::new(),
            writes: 0,
            script: script.iter().copied().collect(),
        });
        handle.stage(Waker::noop().clone());
        handle.windows().give_connection(1 << 30);
        (io, handle)
    }

    /// With all the room that a stream can have.
    fn stream(handle: &IoHandle<Socket>) -> Spent {
        let mut windows = handle.windows();
        windows.open(1, 0);
        windows.give(1, 1 << 30);
        Spent::default()
    }

    #[test]
    fn many_small_frames_are_one_write() {
        let (mut io, handle) = over(&[]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut spent = stream(&handle);
        for _ in 0..30 {
            let written = Pin::new(&mut io).poll_write(&mut cx, &[7; 1000]);
            assert!(matches!(written, Poll::Ready(Ok(1000))));
            assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
            assert_eq!(handle.sender().send(1, &mut spent, &[8; 991]), Sent::All);
        }
        assert_eq!(handle.shared.lock().socket.writes, 0);
        assert!(!handle.write(&mut cx).unwrap().blocked);
        assert_eq!(handle.shared.lock().socket.writes, 1);
        assert_eq!(handle.shared.lock().socket.taken.len(), 60_000);
    }

    #[test]
    fn an_idle_connection_holds_no_buffer() {
        let (mut io, handle) = over(&[]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_write(&mut cx, b"frame").is_ready());
        assert!(!handle.write(&mut cx).unwrap().blocked);
        assert_eq!(handle.shared.lock().buffer.capacity(), 0);
    }

    #[test]
    fn a_full_socket_stops_collecting() {
        let (mut io, handle) = over(&[100, 0, 0, 0, 0]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut spent = stream(&handle);
        assert!(Pin::new(&mut io).poll_write(&mut cx, &[1; 150]).is_ready());
        assert!(handle.write(&mut cx).unwrap().blocked);
        assert!(Pin::new(&mut io).poll_write(&mut cx, &[2; 10]).is_pending());
        assert!(handle.has_refused());
        let refused = handle.sender().send(1, &mut spent, &[3; 10]);
        assert_eq!(refused, Sent::Blocked(0));
        assert!(
            handle.shared.lock().buffer.capacity() < 100,
            "only the rest is kept"
        );
    }

    /// What was sent on stream 1, as its peer would put it together, and what came between.
    fn taken_apart(mut taken: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut sent, mut between) = (Vec::new(), Vec::new());
        while let [first, ..] = taken {
            if *first == b'h' {
                let (marked, rest) = taken.split_at(100);
                assert!(marked.iter().all(|byte| *byte == b'h'), "a frame is whole");
                between.extend(marked);
                taken = rest;
                continue;
            }
            let (head, rest) = taken.split_at(9);
            assert_eq!(head[3..], [0, 0, 0, 0, 0, 1]);
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            sent.extend(&rest[..length]);
            taken = &rest[length..];
        }
        (sent, between)
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_in_order_and_in_whole_frames(
            script in prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..100, 1_usize..100_000], 0..40),
            chunks in prop::collection::vec(
                (prop_oneof![1_usize..300, 1_usize..40_000, 1_usize..200_000], any::<bool>(), any::<bool>()),
                1..40,
            ),
        ) {
            let (mut io, handle) = over(&script);
            let mut cx = Context::from_waker(Waker::noop());
            let mut spent = stream(&handle);
            let (mut expected, mut expected_between) = (Vec::new(), Vec::new());
            for (number, (length, turn_ends, between)) in chunks.into_iter().enumerate() {
                let chunk = vec![number as u8; length];
                expected.extend_from_slice(&chunk);
                let mut rest = &chunk[..];
                while !rest.is_empty() {
                    match handle.sender().send(1, &mut spent, rest) {
                        Sent::All => rest = &[],
                        Sent::Blocked(count) => rest = &rest[count..],
                        other => prop_assert!(false, "{other:?}"),
                    }
                    // HTTP/2 tries again, and nothing comes before that.
                    if handle.has_refused()
                        && Pin::new(&mut io).poll_write(&mut cx, &[b'h'; 100]).is_ready()
                    {
                        expected_between.extend([b'h'; 100]);
                    }
                    prop_assert!(handle.shared.lock().buffer.len() <= limits::STAGED_BYTES_MAX);
                }
                if between
                    && let Poll::Ready(written) = Pin::new(&mut io).poll_write(&mut cx, &[b'h'; 100])
                {
                    prop_assert_eq!(written.expect("the socket does not fail"), 100);
                    expected_between.extend([b'h'; 100]);
                }
                if turn_ends {
                    handle.write(&mut cx).unwrap();
                }
            }
            while handle.write(&mut cx).unwrap().blocked {}
            let (sent, between) = taken_apart(&handle.shared.lock().socket.taken);
            prop_assert!(sent == expected);
            prop_assert_eq!(between, expected_between);
        }
    }
}
