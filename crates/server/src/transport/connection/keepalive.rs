//! Finds out that a silent peer is gone.
//!
//! Holds: after `interval` without a byte from it the peer is asked by a PING; without an answer within `timeout` it is
//! gone. A peer that sends is never asked. A server that was busy for as long finds the time over and the answer
//! unread, so the socket is read before the verdict.
//!
//! The PING to a slow reader stands behind all bytes that were written since its last answer. Some of them wait here,
//! some in the peer's kernel, which has acknowledged them. So the peer gets as long as the slowest tolerated reader
//! needs for them, at most `KEEPALIVE_BEHIND_MAX`. That time begins anew when the peer's kernel was full and
//! acknowledges more, which shows that the peer reads. An acknowledgement of a kernel that was not full says nothing:
//! the kernel of a program that hangs sends it too. A kernel that acknowledges no byte in flight for `interval` and
//! `timeout` is gone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::send_queue::Queued;
use super::{ConnectionSettings, SendQueue};
use crate::limits;

/// The peer did not answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

/// The PINGs of one connection, one at a time.
pub(super) trait Pings {
    /// Sends one. It fails only on a connection that is closing, whose end the keepalive's timer then forces.
    fn send(&mut self);

    /// Ready once when the answer has come.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

pub(super) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// Bytes a second that the slowest reader takes which is waited for.
    slowest: u32,
    /// When the question that is open was asked.
    asked: Option<Instant>,
    /// The bytes that the socket had taken by then, all of which come before the question, ...
    before: u64,
    /// ... and by the last question that was answered, all of which the peer has read.
    read: u64,
    /// The time for its answer is over; unread bytes are still waited for.
    overdue: bool,
    /// The question to the kernel when the time is over, ...
    queue: Option<SendQueue>,
    /// ... its last answer, and when the peer was last known to read: then, or when it was asked.
    seen: Option<(Queued, Instant)>,
}

impl Keepalive {
    pub(super) fn new(settings: &ConnectionSettings, queue: Option<SendQueue>) -> Self {
        Self {
            interval: settings.keepalive_interval,
            timeout: settings.keepalive_timeout,
            timer: Box::pin(sleep(settings.keepalive_interval)),
            slowest: settings.keepalive_slowest_reader.max(1),
            asked: None,
            before: 0,
            read: 0,
            overdue: false,
            queue,
            seen: None,
        }
    }

    /// Ready when the peer is gone, which last sent something at `last_received`. The socket has taken `taken` bytes.
    pub(super) fn poll_gone(
        &mut self,
        cx: &mut Context<'_>,
        pings: &mut impl Pings,
        last_received: Instant,
        taken: u64,
    ) -> Poll<Gone> {
        if self.asked.is_some() && pings.poll_answer(cx).is_ready() {
            self.asked = None;
            self.read = self.before;
            self.timer.as_mut().reset(last_received + self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            match self.asked {
                None if last_received.elapsed() < self.interval => {
                    self.timer.as_mut().reset(last_received + self.interval);
                }
                None => {
                    self.overdue = false;
                    self.seen = None;
                    self.before = taken;
                    pings.send();
                    self.asked = Some(Instant::now());
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                    // Registers for the answer.
                    if pings.poll_answer(cx).is_ready() {
                        self.asked = None;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                    }
                }
                // It talks, but its answer stands behind other things.
                Some(asked) if last_received > asked => {
                    self.overdue = false;
                    self.seen = None;
                    self.asked = Some(Instant::now());
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
                Some(_) if !self.overdue => {
                    self.overdue = true;
                    let grace = self.timeout.min(limits::KEEPALIVE_GRACE);
                    self.timer.as_mut().reset(Instant::now() + grace);
                }
                Some(asked) => {
                    if !self.may_read(asked, taken) {
                        return Poll::Ready(Gone);
                    }
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
            }
        }
        Poll::Pending
    }

    /// Whether the peer may still be on its way to the question, which stands within the first `taken` bytes.
    fn may_read(&mut self, asked: Instant, taken: u64) -> bool {
        let behind = taken - self.read;
        if behind <= limits::KEEPALIVE_QUEUE_BYTES.into() {
            return false;
        }
        let Some(queued) = self.queue.as_ref().and_then(SendQueue::look) else {
            return false;
        };
        if queued.unanswered >= Some(self.interval + self.timeout) {
            return false;
        }
        let since = match self.seen {
            None => asked,
            Some((before, _))
                if before.peer_is_full() && queued.acknowledged > before.acknowledged =>
            {
                Instant::now()
            }
            Some((_, since)) => since,
        };
        self.seen = Some((queued, since));
        let allowed = Duration::from_millis(behind * 1_000 / u64::from(self.slowest));
        since.elapsed() < self.timeout + allowed.min(limits::KEEPALIVE_BEHIND_MAX)
    }
}
