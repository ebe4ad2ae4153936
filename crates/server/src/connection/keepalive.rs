//! Finds out that a silent peer is gone.
//!
//! Holds: after `interval` without a byte from it the peer is asked; if then nothing comes for `timeout`, it is
//! gone. A peer that talks is never asked. A server that was busy for as long finds the time over and the answer
//! unread; so whatever lies at the socket is read before the verdict.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use crate::limits;

/// The peer did not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

pub(super) struct Keepalive {
    ping_pong: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the question that is open was asked.
    asked: Option<Instant>,
    /// The time for its answer is over; what may lie unread is still waited for.
    overdue: bool,
}

impl Keepalive {
    pub(super) fn new(ping_pong: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self {
            ping_pong,
            interval,
            timeout,
            timer: Box::pin(sleep(interval)),
            asked: None,
            overdue: false,
        }
    }

    /// Ready when the peer is gone.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>, last_received: Instant) -> Poll<Gone> {
        if self.asked.is_some() && self.ping_pong.poll_pong(cx).is_ready() {
            self.asked = None;
            self.timer.as_mut().reset(last_received + self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.asked {
                None if last_received.elapsed() < self.interval => {
                    self.timer.as_mut().reset(last_received + self.interval);
                }
                None => {
                    self.overdue = false;
                    // It fails only on a connection that is closing, whose end the same timer then forces.
                    let _ = self.ping_pong.send_ping(Ping::opaque());
                    self.asked = Some(Instant::now());
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                    // Registers for the answer.
                    if self.ping_pong.poll_pong(cx).is_ready() {
                        self.asked = None;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                    }
                }
                // It talks, but its answer stands behind other things.
                Some(asked) if last_received > asked => {
                    self.overdue = false;
                    self.asked = Some(Instant::now());
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
                Some(_) if !self.overdue => {
                    self.overdue = true;
                    let grace = self.timeout.min(limits::KEEPALIVE_GRACE);
                    self.timer.as_mut().reset(Instant::now() + grace);
                }
                Some(_) => return Poll::Ready(Gone),
            }
        }
        Poll::Pending
    }
}
