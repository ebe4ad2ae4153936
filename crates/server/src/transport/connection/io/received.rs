//! The peer's bytes: read into a buffer that the thread's connections share, and passed to HTTP/2 without the frames
//! about windows.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::Staged;
use crate::limits;

thread_local! {
    /// Buffers of read bytes that are about to be looked at; all of one length.
    static RECEIVED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl<T: AsyncRead + Unpin> Staged<T> {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
            let free = into.remaining().min(received.len());
            if self.waiting.is_empty() {
                let mut buffer = ReadBuf::new(&mut received[..free]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    break;
                }
                self.last_received = Instant::now();
                let waits = self.pass(buffer.filled(), into);
                self.waiting = waits.to_vec();
            } else {
                let waiting = std::mem::take(&mut self.waiting);
                let (now, later) = waiting.split_at(free.min(waiting.len()));
                let waits = self.pass(now, into).len() + later.len();
                self.waiting = waiting[waiting.len() - waits..].to_vec();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The bytes that wait for their turn.
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
