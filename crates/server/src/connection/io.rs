//! The socket as HTTP/2 sees it: small writes are collected and go out together.
//!
//! HTTP/2 writes and flushes frame by frame, so its flush is not honoured once `stage` was called; the
//! connection's task calls `poll_written` when it has nothing more to do, and that is one write.
//!
//! Holds: at most `STAGED_BYTES_MAX` are collected, and nothing more is taken while the socket is full; an idle
//! connection holds no buffer.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::limits;

thread_local! {
    /// The buffer that the thread's connections use in turn: it is empty again when one has written, and warm in
    /// the cache for the next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
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

struct Staged<T> {
    socket: T,
    /// Collected and not yet written.
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// Whether writes are collected at all.
    staging: bool,
    /// The socket took less than it was given: nothing more is collected until it took the rest.
    full: bool,
    /// The last write found no room; it is tried again when the socket says so.
    blocked: bool,
    last_received: Instant,
}

/// Both halves over `socket`; nothing is collected until `IoHandle::stage`.
pub(super) fn split<T: AsyncWrite>(socket: T) -> (Io<T>, IoHandle<T>) {
    let vectored = socket.is_write_vectored();
    let staged = Staged {
        socket,
        buffer: Vec::new(),
        written: 0,
        staging: false,
        full: false,
        blocked: false,
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
    /// From now on writes are collected until `poll_written`.
    pub(super) fn stage(&self) {
        self.shared.lock().staging = true;
    }

    /// Whether what was written last still waits for the socket, so that more would only wait behind it.
    pub(super) fn is_blocked(&self) -> bool {
        self.shared.lock().blocked
    }

    /// When the peer last sent anything.
    pub(super) fn last_received(&self) -> Instant {
        self.shared.lock().last_received
    }
}

impl<T: AsyncWrite + Unpin> IoHandle<T> {
    /// Ready when everything collected was written.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_written(cx)
    }
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

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.staging {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        }
        if self.full {
            ready!(self.poll_written(cx))?;
        }
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if total < limits::STAGED_WRITE_BYTES_MAX {
            if self.buffer.len() + total > limits::STAGED_BYTES_MAX {
                ready!(self.poll_written(cx))?;
            }
            self.collect(slices, total);
            return Poll::Ready(Ok(total));
        }
        self.poll_write_through(cx, slices)
    }

    fn poll_write_socket(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.blocked = polled.is_pending();
        polled
    }

    /// What was collected and `slices` behind it, in one write and without copying them.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return self.poll_write_socket(cx, slices);
        }
        let collected = self.buffer.len() - self.written;
        let polled = {
            let mut all: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
            all.push(IoSlice::new(&self.buffer[self.written..]));
            all.extend(slices.iter().map(|slice| IoSlice::new(slice)));
            Pin::new(&mut self.socket).poll_write_vectored(cx, &all)
        };
        self.blocked = polled.is_pending();
        match polled {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) if count > collected => {
                self.release();
                Poll::Ready(Ok(count - collected))
            }
            Poll::Ready(Ok(count)) => {
                self.written += count;
                // Nothing of `slices` was taken, which has no other name than "not now".
                ready!(self.poll_written(cx))?;
                self.poll_write_socket(cx, slices)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.keep_rest();
                Poll::Pending
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let mut staged = self.shared.lock();
        let polled = Pin::new(&mut staged.socket).poll_read(cx, into);
        if into.filled().len() > before {
            staged.last_received = Instant::now();
        }
        polled
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
        if staged.staging {
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

    fn over(script: &[usize]) -> (Io<Socket>, IoHandle<Socket>) {
        let (io, handle) = split(Socket {
            taken: Vec::new(),
            writes: 0,
            script: script.iter().copied().collect(),
        });
        handle.stage();
        (io, handle)
    }

    #[test]
    fn many_small_frames_are_one_write() {
        let (mut io, handle) = over(&[]);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..60 {
            let written = Pin::new(&mut io).poll_write(&mut cx, &[7; 1000]);
            assert!(matches!(written, Poll::Ready(Ok(1000))));
            assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
        }
        assert_eq!(handle.shared.lock().socket.writes, 0);
        assert!(handle.poll_written(&mut cx).is_ready());
        assert_eq!(handle.shared.lock().socket.writes, 1);
        assert_eq!(handle.shared.lock().socket.taken.len(), 60_000);
    }

    #[test]
    fn an_idle_connection_holds_no_buffer() {
        let (mut io, handle) = over(&[]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_write(&mut cx, b"frame").is_ready());
        assert!(handle.poll_written(&mut cx).is_ready());
        assert_eq!(handle.shared.lock().buffer.capacity(), 0);
    }

    #[test]
    fn a_full_socket_stops_collecting() {
        let (mut io, handle) = over(&[100, 0, 0, 0]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_write(&mut cx, &[1; 150]).is_ready());
        assert!(handle.poll_written(&mut cx).is_pending());
        assert!(Pin::new(&mut io).poll_write(&mut cx, &[2; 10]).is_pending());
        assert!(
            handle.shared.lock().buffer.capacity() < 100,
            "only the rest is kept"
        );
    }

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order(
            script in prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..100, 1_usize..100_000], 0..40),
            frames in prop::collection::vec((prop_oneof![1_usize..300, 1_usize..40_000], any::<bool>()), 1..40),
        ) {
            let (mut io, handle) = over(&script);
            let mut cx = Context::from_waker(Waker::noop());
            let mut expected = Vec::new();
            for (number, (length, turn_ends)) in frames.into_iter().enumerate() {
                let frame = vec![number as u8; length];
                expected.extend_from_slice(&frame);
                let mut rest = &frame[..];
                while !rest.is_empty() {
                    let (head, tail) = rest.split_at(rest.len().min(9));
                    let slices = [IoSlice::new(head), IoSlice::new(tail)];
                    if let Poll::Ready(written) = Pin::new(&mut io).poll_write_vectored(&mut cx, &slices) {
                        let written = written.expect("the socket does not fail");
                        prop_assert!(written > 0 && written <= rest.len());
                        rest = &rest[written..];
                    }
                    let shared = handle.shared.lock();
                    prop_assert!(shared.buffer.len() <= limits::STAGED_BYTES_MAX);
                }
                if turn_ends {
                    let _ = handle.poll_written(&mut cx);
                }
            }
            while handle.poll_written(&mut cx).is_pending() {}
            prop_assert!(handle.shared.lock().socket.taken == expected);
        }
    }
}
