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

use std::time::Duration;

use tokio::time::Instant;

use super::ConnectionSettings;
use super::send_queue::Queued;
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
    /// ... and the bytes that it had acknowledged then. Both are moved on by a question that is answered: its own acknowledgement says nothing
    /// new. 0: it was never looked at.
    acknowledged: u64,
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

/// What a connection has received and sent.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    /// When the peer last sent something.
    pub(super) last_received: Instant,
    /// Bytes that the socket has taken.
    pub(super) taken: u64,
}

impl Keepalive {
    pub(super) fn new(settings: &ConnectionSettings) -> Self {
        Self {
            due: Instant::now() + settings.keepalive_interval,
            question: None,
            read: 0,
            looked_at: 0,
            acknowledged: 0,
        }
    }

    /// When [`Keepalive::look`] is to be called at the latest.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The answer to the question has come, when the socket had taken `taken` bytes.
    pub(super) fn answered(&mut self, settings: &ConnectionSettings, now: Instant, taken: u64) {
        if let Some(question) = self.question.take() {
            self.read = question.before;
            self.due = now + settings.keepalive_interval;
            if self.acknowledged > 0 {
                self.acknowledged += taken - self.looked_at;
            }
            self.looked_at = taken;
        }
    }

    /// What is to be done, now that [`Keepalive::due`] may be over. `kernel` asks for the counts of the peer's kernel.
    pub(super) fn look(
        &mut self,
        settings: &ConnectionSettings,
        now: Instant,
        traffic: Traffic,
        kernel: impl FnOnce() -> Option<Queued>,
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
            if silent < limits::KEEPALIVE_PUT_OFF_MAX && self.acknowledges(traffic, kernel) {
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
            if !question.may_be_read(settings, kernel, now, behind) {
                return Verdict::Gone;
            }
            self.due = now + timeout;
        }
        Verdict::Wait
    }

    /// Whether the peer's kernel has acknowledged more than when it was last looked at. It is not asked if nothing was sent since, nor
    /// the first time: then there is no earlier count.
    fn acknowledges(&mut self, traffic: Traffic, kernel: impl FnOnce() -> Option<Queued>) -> bool {
        let before = std::mem::replace(&mut self.looked_at, traffic.taken);
        if before == traffic.taken {
            return false;
        }
        let Some(queued) = kernel() else {
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
        kernel: impl FnOnce() -> Option<Queued>,
        now: Instant,
        behind: u64,
    ) -> bool {
        if behind <= limits::KEEPALIVE_QUEUE_BYTES.into() {
            return false;
        }
        let Some(queued) = kernel() else {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer whose kernel acknowledges all that it is sent, and which answers each question at once.
    struct Peer {
        keepalive: Keepalive,
        settings: ConnectionSettings,
        traffic: Traffic,
    }

    const PING_BYTES: u64 = 17;

    impl Peer {
        fn new() -> Self {
            let settings = ConnectionSettings::default();
            Self {
                keepalive: Keepalive::new(&settings),
                traffic: Traffic {
                    last_received: Instant::now(),
                    taken: 100,
                },
                settings,
            }
        }

        /// The seconds in `seconds` at which it is asked, when `sent` bytes are sent to it each second.
        async fn asked(&mut self, seconds: u64, sent: u64) -> Vec<u64> {
            let begin = Instant::now();
            let mut asked = Vec::new();
            for second in 1..=seconds {
                tokio::time::sleep_until(begin + Duration::from_secs(second)).await;
                self.traffic.taken += sent;
                let (settings, now) = (&self.settings, Instant::now());
                let acknowledged = self.traffic.taken;
                let kernel = || {
                    Some(Queued {
                        acknowledged,
                        waiting: 0,
                        unanswered: None,
                    })
                };
                let verdict = self.keepalive.look(settings, now, self.traffic, kernel);
                if verdict == Verdict::Ask {
                    asked.push(second);
                    self.traffic.taken += PING_BYTES;
                    self.traffic.last_received = now;
                    self.keepalive.answered(settings, now, self.traffic.taken);
                }
            }
            asked
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_to_which_nothing_is_sent_is_asked_each_interval() {
        let mut peer = Peer::new();
        assert_eq!(peer.asked(100, 0).await, [20, 40, 60, 80, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_whose_kernel_acknowledges_is_asked_every_five_minutes() {
        let mut peer = Peer::new();
        // The first look has none before it.
        assert_eq!(peer.asked(700, 1).await, [20, 320, 620]);
        assert_eq!(peer.asked(60, 0).await, [20, 40, 60]);
    }
}
