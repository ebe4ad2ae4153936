//! Finds out that a silent peer is gone.
//!
//! Holds: after `keepalive_interval` without a byte from it the peer is asked by a PING; without an answer within
//! `keepalive_timeout` it is gone. A peer that sends is never asked. A server that was busy for as long finds the time over
//! and the answer unread, so the socket is read before the verdict.
//!
//! A reader that only reads sends nothing for long, and its kernel tells as much as a PING would: while the bytes that it has
//! acknowledged rise from one look to the next, one look an interval, the question is put off. Not for longer than
//! `KEEPALIVE_PUT_OFF_MAX`: the kernel of a proxy, or of a program that hangs, acknowledges too.
//!
//! The PING to a slow reader stands behind all bytes that were written since its last answer. Some of them wait here,
//! some in the peer's kernel, which has acknowledged them. So the peer gets as long as the slowest tolerated reader
//! needs for them, at most `KEEPALIVE_BEHIND_MAX`. That time begins anew when the peer's kernel was full and
//! acknowledges more, which shows that the peer reads. An acknowledgement of a kernel that was not full says nothing:
//! the kernel of a program that hangs sends it too. A kernel that acknowledges no byte in flight for `keepalive_interval` and
//! `keepalive_timeout` is gone.
//!
//! Does not: have a timer; the connection's one timer asks it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::send_queue::Queued;
use super::{ConnectionSettings, SendQueue};
use crate::limits;

/// What is to be done about a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before [`Keepalive::due`].
    Wait,
    /// A PING is to be sent.
    Ask,
    /// The peer did not answer.
    Gone,
}

pub(super) struct Keepalive {
    due: Instant,
    /// The question that is open. In a box: most connections have none most of the time.
    question: Option<Box<Question>>,
    /// The bytes that the socket had taken by the last question that was answered, all of which the peer has read.
    read: u64,
    /// The same by the last look at the peer's kernel, ...
    looked_at: u64,
    /// ... and the bytes that it had acknowledged then.
    acknowledged: u64,
    /// The question to the kernel.
    queue: Option<SendQueue>,
}

struct Question {
    asked: Instant,
    /// The bytes that the socket had taken by then, all of which come before the question.
    before: u64,
    /// The time for its answer is over; unread bytes are still waited for.
    overdue: bool,
    /// The kernel's last answer, and when the peer was last known to read: then, or when it was asked.
    seen: Option<(Queued, Instant)>,
}

/// What is known of the peer.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    pub(super) peer: SocketAddr,
    /// When the peer last sent something.
    pub(super) last_received: Instant,
    /// Bytes that the socket has taken.
    pub(super) taken: u64,
}

impl Keepalive {
    pub(super) fn new(settings: &ConnectionSettings, queue: Option<SendQueue>) -> Self {
        Self {
            due: Instant::now() + settings.keepalive_interval,
            question: None,
            read: 0,
            looked_at: 0,
            acknowledged: 0,
            queue,
        }
    }

    /// When [`Keepalive::look`] is to be called at the latest.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The answer to the question has come.
    pub(super) fn answered(&mut self, settings: &ConnectionSettings, now: Instant) {
        if let Some(question) = self.question.take() {
            self.read = question.before;
            self.due = now + settings.keepalive_interval;
        }
    }

    /// What is to be done, now that [`Keepalive::due`] may be over.
    pub(super) fn look(
        &mut self,
        settings: &ConnectionSettings,
        now: Instant,
        traffic: Traffic,
    ) -> Verdict {
        if now < self.due {
            return Verdict::Wait;
        }
        let (interval, timeout) = (settings.keepalive_interval, settings.keepalive_timeout);
        let Some(question) = &mut self.question else {
            let silent = now.duration_since(traffic.last_received);
            if silent < interval {
                self.due = traffic.last_received + interval;
                return Verdict::Wait;
            }
            if silent < limits::KEEPALIVE_PUT_OFF_MAX && self.acknowledges(traffic) {
                self.due = now + interval;
                return Verdict::Wait;
            }
            self.question = Some(Box::new(Question {
                asked: now,
                before: traffic.taken,
                overdue: false,
                seen: None,
            }));
            self.due = now + timeout;
            return Verdict::Ask;
        };
        if traffic.last_received > question.asked {
            // It talks, but its answer stands behind other things.
            question.overdue = false;
            question.seen = None;
            question.asked = now;
            self.due = now + timeout;
        } else if !question.overdue {
            question.overdue = true;
            self.due = now + timeout.min(limits::KEEPALIVE_GRACE);
        } else {
            let behind = traffic.taken - self.read;
            let look = || self.queue.as_ref()?.look(traffic.peer);
            if !question.may_be_read(settings, look, now, behind) {
                return Verdict::Gone;
            }
            self.due = now + timeout;
        }
        Verdict::Wait
    }

    /// Whether the peer's kernel has acknowledged more than when it was last looked at. It is not asked if nothing was sent since, nor
    /// the first time: then there is no earlier count.
    fn acknowledges(&mut self, traffic: Traffic) -> bool {
        let before = std::mem::replace(&mut self.looked_at, traffic.taken);
        if before == traffic.taken {
            return false;
        }
        let queue = self.queue.as_ref();
        let Some(queued) = queue.and_then(|queue| queue.look(traffic.peer)) else {
            return false;
        };
        let acknowledged = std::mem::replace(&mut self.acknowledged, queued.acknowledged);
        acknowledged > 0 && queued.acknowledged > acknowledged
    }
}

impl Question {
    /// Whether the peer may still be on its way to the question, `behind` bytes before which it has perhaps not read.
    fn may_be_read(
        &mut self,
        settings: &ConnectionSettings,
        look: impl FnOnce() -> Option<Queued>,
        now: Instant,
        behind: u64,
    ) -> bool {
        if behind <= limits::KEEPALIVE_QUEUE_BYTES.into() {
            return false;
        }
        let Some(queued) = look() else {
            return false;
        };
        if queued.unanswered >= Some(settings.keepalive_interval + settings.keepalive_timeout) {
            return false;
        }
        let since = match self.seen {
            None => self.asked,
            Some((before, _))
                if before.peer_is_full() && queued.acknowledged > before.acknowledged =>
            {
                now
            }
            Some((_, since)) => since,
        };
        self.seen = Some((queued, since));
        let slowest = u64::from(settings.keepalive_slowest_reader.max(1));
        let allowed = Duration::from_millis(behind * 1_000 / slowest);
        let allowed = allowed.min(limits::KEEPALIVE_BEHIND_MAX);
        now.duration_since(since) < settings.keepalive_timeout + allowed
    }
}
