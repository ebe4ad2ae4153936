//! Finds out that a silent peer is gone.
//!
//! Holds: after `interval` without a byte from it the peer is asked; if then nothing comes for `timeout`, it is
//! gone. A peer that talks is never asked. A server that was busy for as long finds the time over and the answer
//! unread; so whatever lies at the socket is read before the verdict. A peer that reads slowly has the question behind
//! megabytes; so one whose kernel acknowledges some of them in each further `interval` is there.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::SendQueue;
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
    /// What the kernel is asked when the time is over, ...
    queue: Option<SendQueue>,
    /// ... and how much had been acknowledged when it was.
    acknowledged: Option<u64>,
}

impl Keepalive {
    pub(super) fn new(
        ping_pong: PingPong,
        interval: Duration,
        timeout: Duration,
        queue: Option<SendQueue>,
    ) -> Self {
        Self {
            ping_pong,
            interval,
            timeout,
            timer: Box::pin(sleep(interval)),
            asked: None,
            overdue: false,
            queue,
            acknowledged: None,
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
                    self.acknowledged = None;
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
                    self.acknowledged = None;
                    self.asked = Some(Instant::now());
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
                Some(_) if !self.overdue => {
                    self.overdue = true;
                    let grace = self.timeout.min(limits::KEEPALIVE_GRACE);
                    self.timer.as_mut().reset(Instant::now() + grace);
                }
                Some(_) => {
                    if !self.takes() {
                        return Poll::Ready(Gone);
                    }
                    self.timer.as_mut().reset(Instant::now() + self.interval);
                }
            }
        }
        Poll::Pending
    }

    /// Whether the peer's kernel has acknowledged something since the last look; at the first, whether there is anything
    /// that it could.
    fn takes(&mut self) -> bool {
        let Some(queued) = self.queue.as_ref().and_then(SendQueue::look) else {
            return false;
        };
        match self.acknowledged.replace(queued.acknowledged) {
            None => queued.waiting > limits::KEEPALIVE_QUEUE_BYTES,
            Some(before) => queued.acknowledged > before,
        }
    }
}
