//! The one timer of a connection: for its keepalive, its streams that must not be silent, and the times that HTTP/2 sets.
//!
//! A timer of tokio's is 112 bytes, and moving one costs a lock. So the earliest of all times sets it, a time that moves to later
//! leaves it, and when it fires all are looked at.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// It has fired, and was not set since.
    fired: bool,
}

impl Timer {
    /// It fires at this time or later.
    pub(super) fn new(at: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(at)),
            fired: false,
        }
    }

    /// Ready once when it fires.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.fired {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(cx);
        self.fired = polled.is_ready();
        polled
    }

    /// It is to fire no later than at this time. Whether it must be polled for that.
    pub(super) fn no_later_than(&mut self, at: Instant) -> bool {
        let moves = self.fired || at < self.sleep.deadline();
        if moves {
            self.sleep.as_mut().reset(at);
            self.fired = false;
        }
        moves
    }
}
