//! The socket as HTTP/2 sees it, and the place where DATA joins its frames.
//!
//! HTTP/2 writes and flushes frame by frame, so its flush is not honoured once `stage` was called. The connection's
//! task calls `write` when it has nothing more to do, and that is one write. DATA does not go through HTTP/2 at all:
//! `data` writes its frames behind the collected ones.
//!
//! Holds: whole frames only, so that frames of HTTP/2 and DATA never mix within one; about `STAGED_BYTES_MAX` are
//! collected, and nothing more is taken while the socket is full; an idle connection holds no buffer.
//! Does not: know whether a stream's head went out before its DATA; the streams do.

mod data;
mod received;

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub(super) use data::{Sender, Sending};

use super::inbound::{HELD_BYTES_MAX, Inbound};
use super::windows::{NoCapacity, Spent, Windows};
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

// In this order in memory: a delivery touches the first lines of it only.
#[repr(C)]
struct Staged<T> {
    /// Collected and not yet written.
    buffer: Vec<u8>,
    /// How much of `buffer` is written.
    written: usize,
    /// Bytes that the socket has taken since writes are collected.
    taken: u64,
    /// The socket took less than it was given: nothing more is collected until it took the rest.
    full: bool,
    /// The last write or flush found the socket full; it is tried again when the socket is ready.
    blocked: bool,
    /// The socket took bytes that it may hold in a buffer of its own, as TLS does, until it is flushed.
    unflushed: bool,
    /// HTTP/2 was told "not now" and still has its frame.
    refused: bool,
    windows: Windows,
    socket: T,
    /// The error of a write of DATA.
    failed: Option<io::Error>,
    /// Is woken when a socket that was full takes more. Writes are collected once it is there.
    task: Option<Waker>,
    inbound: Inbound,
    // Received bytes that were held back, passed, and did not fit into HTTP/2's buffer.
    passed: SmallVec<[u8; HELD_BYTES_MAX]>,
    // Received, and to pass at the begin, or when the calls before are taken up.
    waiting: Vec<u8>,
    last_received: Instant,
}

/// Both halves over `socket`, of which `received` was read already; nothing is collected until `IoHandle::stage`.
pub(super) fn split<T: AsyncWrite>(socket: T, received: &[u8]) -> (Io<T>, IoHandle<T>) {
    let vectored = socket.is_write_vectored();
    let staged = Staged {
        socket,
        inbound: Inbound::new(),
        windows: Windows::new(),
        passed: SmallVec::new(),
        waiting: received.to_vec(),
        task: None,
        buffer: Vec::new(),
        written: 0,
        taken: 0,
        full: false,
        blocked: false,
        unflushed: false,
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

    /// Whether the last written bytes still wait for the socket, so that more would only wait behind them.
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

    /// Bytes that the socket has taken.
    pub(super) fn taken(&self) -> u64 {
        self.shared.lock().taken
    }
}

impl<T: AsyncWrite + Unpin> IoHandle<T> {
    /// Writes the collected bytes, as many as the socket takes. Returns the work that is left.
    pub(super) fn write(&self, cx: &mut Context<'_>) -> io::Result<Left> {
        let staged = &mut *self.shared.lock();
        if let Some(error) = staged.failed.take() {
            return Err(error);
        }
        staged.give_back();
        if let Poll::Ready(written) = staged.poll_written(cx) {
            written?;
            // The bytes that did not fit before.
            if staged.give_back()
                && let Poll::Ready(Err(error)) = staged.poll_written(cx)
            {
                return Err(error);
            }
        }
        Ok(Left {
            blocked: staged.blocked,
            refused: staged.refused,
            capacity_for_a_waiter: staged.windows.has_capacity_for_a_waiter(),
        })
    }

    /// Whether a stream may send anything now as far as the windows go.
    pub(super) fn has_window(&self, stream: u32, spent: &mut Spent) -> bool {
        let capacity = self.shared.lock().windows.capacity(stream, spent, 1);
        // A stream with too large a window is told when it sends.
        capacity != Err(NoCapacity::Now)
    }

    /// For several sends in a row.
    pub(super) fn sender(&self) -> Sender<'_, T> {
        Sender(self.shared.lock())
    }
}

/// The work that a write leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// The socket took less than it was given, so that more would only wait behind it.
    pub(super) blocked: bool,
    /// HTTP/2 still has frames that it could not write.
    pub(super) refused: bool,
    /// The connection's window has capacity, and a stream or group waits for it.
    pub(super) capacity_for_a_waiter: bool,
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

    /// Collects WINDOW_UPDATEs for the peer, unless the socket is full; returns whether it did.
    fn give_back(&mut self) -> bool {
        // HTTP/2 may be waiting to write the rest of a head, which no other frame may precede.
        if self.windows.returned.is_empty() || self.full || self.refused {
            return false;
        }
        let total = self.windows.returned.frame_bytes();
        let mut frames = Vec::with_capacity(total);
        (self.windows.returned).take(&mut |frame| frames.extend_from_slice(&frame));
        self.collect(&[IoSlice::new(&frames)], total);
        true
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

    /// The socket takes no more: only the rest is kept, and the large buffer serves others.
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
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.taken += count as u64;
                    self.unflushed = true;
                }
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
        if self.unflushed {
            return self.poll_flushed(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Has the socket pass on the bytes that it holds. Until it has, it counts as full.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        if flushed.is_pending() {
            self.blocked = true;
            self.full = true;
        } else {
            self.unflushed = false;
            if self.blocked {
                self.blocked = false;
                self.full = false;
            }
        }
        flushed
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
mod tests;
