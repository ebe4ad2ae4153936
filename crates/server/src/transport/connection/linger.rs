//! The end of a connection whose peer is to read what was said last.
//!
//! A socket that is closed with unread bytes takes the last frames with it. So nothing more is written, and what the peer still sends is
//! dropped, until it has closed its side. A peer that does not is not waited for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::Ended;
use super::io::Io;
use crate::limits;

pub(super) struct Lingering<T> {
    io: Io<T>,
    patience: Pin<Box<Sleep>>,
    ended: Option<Ended>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Lingering<T> {
    /// With the reason why the connection has ended.
    pub(super) fn new(io: Io<T>, ended: Ended) -> Self {
        Self {
            io,
            patience: Box::pin(sleep(limits::GOAWAY_GRACE)),
            ended: Some(ended),
        }
    }

    /// Ready once, with that reason.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if self.io.poll_linger(cx).is_pending() && self.patience.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(self.ended.take().expect("it ends once"))
    }
}
