//! DATA, written past HTTP/2: whole frames behind the collected ones, within the peer's windows.
//!
//! Does not: know whether a stream's head went out before; the streams do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use super::Staged;
use crate::limits;
use crate::transport::connection::outlet::{Outlet, Sent};
use crate::transport::connection::windows::{NoCapacity, Spent};

/// Bytes of DATA in one frame: every peer takes this size (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Of a frame header (RFC 9113, 4.1).
const FRAME_HEADER_BYTES: usize = 9;

/// Frames that are given to the socket in one call.
const FRAMES_AT_ONCE: usize = 4;

/// Writes DATA frames.
pub(in crate::transport::connection) struct Sender<'a, T>(pub(super) MutexGuard<'a, Staged<T>>);

/// A stream and the bytes that it has sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport::connection) struct Sending {
    pub(in crate::transport::connection) number: u32,
    pub(in crate::transport::connection) spent: Spent,
}

impl<T: AsyncWrite + Unpin> Outlet for Sender<'_, T> {
    type Member = Sending;

    fn send(&mut self, member: &mut Sending, bytes: &[u8]) -> Sent {
        Sender::send(self, member.number, &mut member.spent, bytes)
    }

    fn is_blocked(&self) -> bool {
        self.0.blocked
    }

    fn has_too_much_unread(&mut self, member: &mut Sending) -> bool {
        let (number, spent) = (member.number, &mut member.spent);
        self.0.windows.has_too_much_unread(number, spent)
    }

    fn is_used_up(&self) -> bool {
        self.0.windows.is_used_up()
    }

    fn wait_as_group(&mut self, group: u32) {
        self.0.windows.wait_as_group(group);
    }

    fn forget_group(&mut self, group: u32) {
        self.0.windows.forget_group(group);
    }
}

impl<T: AsyncWrite + Unpin> Sender<'_, T> {
    /// Sends as much as may go now.
    pub(in crate::transport::connection) fn send(
        &mut self,
        stream: u32,
        spent: &mut Spent,
        bytes: &[u8],
    ) -> Sent {
        let mut done = 0;
        while done < bytes.len() {
            match self.send_frames(stream, spent, &bytes[done..]) {
                Ok(count) => done += count,
                Err(Stop::Blocked) => return Sent::Blocked(done),
                Err(Stop::NoCapacity(NoCapacity::Now)) => return Sent::Part(done),
                Err(Stop::NoCapacity(NoCapacity::Overflown)) => return Sent::Overflown(done),
            }
        }
        Sent::All
    }

    fn send_frames(&mut self, stream: u32, spent: &mut Spent, rest: &[u8]) -> Result<usize, Stop> {
        let staged = &mut *self.0;
        // HTTP/2 may be waiting to write the rest of a head, which no other frame may precede. A socket that has failed
        // is given nothing more.
        if staged.refused || staged.failed.is_some() {
            return Err(Stop::Blocked);
        }
        let wanted = rest.len().min(FRAMES_AT_ONCE * FRAME_BYTES_MAX);
        let capacity = staged
            .windows
            .capacity(stream, spent, wanted)
            .map_err(Stop::NoCapacity)?;
        let count = staged.put(stream, &rest[..capacity]).ok_or(Stop::Blocked)?;
        staged.windows.spend(spent, count);
        Ok(count)
    }
}

enum Stop {
    Blocked,
    NoCapacity(NoCapacity),
}

/// A DATA frame's header (RFC 9113, 4.1 and 6.1), without flags: the end of a stream is HTTP/2's to say.
fn data_header(stream: u32, bytes: usize) -> [u8; FRAME_HEADER_BYTES] {
    let [_, high, middle, low] = (bytes as u32).to_be_bytes();
    let [a, b, c, d] = stream.to_be_bytes();
    [high, middle, low, 0, 0, a, b, c, d]
}

impl<T: AsyncWrite + Unpin> Staged<T> {
    /// Takes bytes of a stream in whole frames, the first at least; how many, or none if the socket is full.
    fn put(&mut self, stream: u32, bytes: &[u8]) -> Option<usize> {
        let first = bytes.len().min(FRAME_BYTES_MAX);
        let total = FRAME_HEADER_BYTES + first;
        let through = bytes.len() >= limits::STAGED_WRITE_BYTES_MAX;
        let fits = self.buffer.len() + total <= limits::STAGED_BYTES_MAX;
        if !self.full && fits && !through {
            self.collect_frame(stream, bytes);
            return Some(bytes.len());
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
        if through {
            Some(self.write_through(&mut cx, stream, bytes))
        } else {
            self.collect_frame(stream, bytes);
            Some(bytes.len())
        }
    }

    fn collect_frame(&mut self, stream: u32, payload: &[u8]) {
        let header = data_header(stream, payload.len());
        let frame = [IoSlice::new(&header), IoSlice::new(payload)];
        self.collect(&frame, header.len() + payload.len());
    }

    /// Writes the collected bytes, and frames of `bytes` behind them, in one call and without copying the frames. If the
    /// socket takes only a part, the rest of the frame in which it stopped is collected; if it takes none of the frames, the
    /// first one. Returns how many of `bytes` were written or collected.
    fn write_through(&mut self, cx: &mut Context<'_>, stream: u32, bytes: &[u8]) -> usize {
        let collected = self.buffer.len() - self.written;
        let payloads = || bytes.chunks(FRAME_BYTES_MAX);
        let headers: SmallVec<[_; FRAMES_AT_ONCE]> = payloads()
            .map(|payload| data_header(stream, payload.len()))
            .collect();
        let mut slices = SmallVec::<[_; 1 + 2 * FRAMES_AT_ONCE]>::new();
        if collected > 0 {
            slices.push(IoSlice::new(&self.buffer[self.written..]));
        }
        for (header, payload) in headers.iter().zip(payloads()) {
            slices.extend([IoSlice::new(header), IoSlice::new(payload)]);
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
        self.taken += count as u64;
        self.unflushed |= count > 0;
        self.written += count.min(collected);
        let sent = count.saturating_sub(collected);
        let last = sent.div_ceil(FRAME_HEADER_BYTES + FRAME_BYTES_MAX).max(1) - 1;
        let sent_of_last = sent - last * (FRAME_HEADER_BYTES + FRAME_BYTES_MAX);
        let payload = &bytes[last * FRAME_BYTES_MAX..];
        let payload = &payload[..payload.len().min(FRAME_BYTES_MAX)];
        let taken = last * FRAME_BYTES_MAX + payload.len();
        let header = &headers[last][sent_of_last.min(FRAME_HEADER_BYTES)..];
        let payload = &payload[sent_of_last.saturating_sub(FRAME_HEADER_BYTES)..];
        if header.len() + payload.len() > 0 {
            let rest = [IoSlice::new(header), IoSlice::new(payload)];
            self.collect(&rest, header.len() + payload.len());
        }
        if self.is_empty() {
            self.release();
        } else if self.blocked {
            self.keep_rest();
        }
        taken
    }
}
