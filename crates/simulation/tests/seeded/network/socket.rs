//! One end of a connection, as the real client and server use it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use rand::RngExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Network;
use super::pipe::{Piece, Reader};

/// One read in this number is cut short, so that the reader meets halves of everything.
const SHORT_READ_IN: u32 = 4;

/// One end of a connection.
pub(crate) struct Socket {
    network: Network,
    link: usize,
    side: usize,
    /// Until the next piece arrives.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(network: Network, link: usize, side: usize) -> Self {
        Self {
            network,
            link,
            side,
            timer: None,
        }
    }

    /// Ready, or not before then, or when woken.
    fn try_read(
        &self,
        cx: &Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Result<io::Result<()>, Option<Instant>> {
        let now = Instant::now();
        let inner = &mut *self.network.inner.lock();
        let link = &mut inner.links[self.link];
        if link.dead[self.side] {
            return Ok(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = (link.hosts[1 - self.side], link.hosts[self.side]);
        let held = link.lost || inner.held.contains(&way);
        let pipe = &mut link.pipes[1 - self.side];
        pipe.wait_to_read(cx.waker());
        let Some((arrives, piece)) = pipe.front().filter(|_| !held) else {
            return Err(None);
        };
        if *arrives > now {
            return Err(Some(*arrives));
        }
        let count = match piece {
            Piece::Fin => return Ok(Ok(())),
            Piece::Reset => return Ok(Err(io::ErrorKind::ConnectionReset.into())),
            Piece::Data(data) => {
                let mut count = data.len().min(buf.remaining());
                if count > 1 && inner.rng.random_ratio(1, SHORT_READ_IN) {
                    count = inner.rng.random_range(1..count);
                }
                buf.put_slice(&data[..count]);
                data.advance(count);
                count
            }
        };
        pipe.took(count);
        inner.bytes_read += count as u64;
        Ok(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_read(cx, buf) {
                Ok(result) => return Poll::Ready(result),
                Err(None) => return Poll::Pending,
                Err(Some(at)) => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    timer.as_mut().reset(at);
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let inner = &mut *self.network.inner.lock();
        let latency = inner.latency();
        let link = &mut inner.links[self.link];
        if link.dead[self.side] {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let way = (link.hosts[self.side], link.hosts[1 - self.side]);
        let held = link.lost || inner.held.contains(&way);
        if !held && link.pipes[1 - self.side].is_reset(now) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let pipe = &mut link.pipes[self.side];
        match pipe.reader {
            Reader::Gone(since) if !held && since + latency <= now => {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            Reader::Gone(_) => {
                // Taken by this machine, and answered by the other with a reset.
                link.pipes[1 - self.side].end(now + 2 * latency, true);
                return Poll::Ready(Ok(data.len()));
            }
            Reader::There | Reader::Silent => {}
        }
        let free = inner.weather.buffer_bytes.saturating_sub(pipe.bytes());
        if free == 0 {
            pipe.wait_to_write(cx.waker());
            return Poll::Pending;
        }
        let count = free.min(data.len());
        pipe.send(now + latency, Bytes::copy_from_slice(&data[..count]));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        let inner = &mut *self.network.inner.lock();
        let arrives = now + inner.latency();
        let link = &mut inner.links[self.link];
        if !link.dead[self.side] {
            link.pipes[self.side].end(arrives, false);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let now = Instant::now();
        let inner = &mut *self.network.inner.lock();
        let arrives = now + inner.latency();
        let link = &mut inner.links[self.link];
        if std::mem::replace(&mut link.dead[self.side], true) {
            return;
        }
        // As the kernel does: unread bytes make the end a reset.
        let unread = link.pipes[1 - self.side].bytes() > 0;
        link.pipes[self.side].end(arrives, unread);
        link.pipes[1 - self.side].leave(Reader::Gone(now));
    }
}
