//! Publishes at a rate, on a connection of its own, in one of the protocols.
//!
//! Holds: at most `in_flight_max` messages are unacknowledged, so a server that does not keep up slows the publisher
//! and nothing piles up here. A message is stamped when it is written, and messages scheduled together leave in one
//! write.

use std::io;
use std::net::TcpStream;

use super::authorization::Authorization;
use super::connection::inbox;
use super::control::{Plan, PublishPlan, Published, SHARED_TOPIC};
use super::socket::{Dialer, Socket};
use super::tcp::Output;
use super::voice::Voice;
use super::voices;
use crate::args::Topics;
use crate::clock::monotonic_ns;

/// Messages written at once; the loop must come back to its readers.
const BATCH_MAX: u64 = 1_000;
/// How long to wait for acknowledgements after the last message.
const LINGER_NS: u64 = 5_000_000_000;

#[derive(Debug)]
pub(super) struct Publisher {
    plan: PublishPlan,
    topics: Topics,
    subscribers_total: u64,
    socket: Socket,
    voice: Box<dyn Voice>,
    output: Output,
    sent: u64,
    established: bool,
    finished: bool,
    reported: bool,
    /// How the connection failed.
    failure: Option<String>,
}

impl Publisher {
    pub(super) fn connect(
        plan: &Plan,
        dialer: &Dialer,
        authorization: &Authorization,
        publish: PublishPlan,
    ) -> io::Result<Self> {
        let mut output = Output::default();
        let voice = voices::open(
            plan,
            authorization,
            publish.in_flight_max,
            &mut output.bytes,
        );
        Ok(Self {
            plan: publish,
            topics: plan.topics,
            subscribers_total: plan.subscribers_total,
            socket: dialer.dial(None)?,
            voice,
            output,
            sent: 0,
            established: false,
            finished: false,
            reported: false,
            failure: None,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.socket.tcp()
    }

    /// When [`Self::tick`] has something to do next; `None` when only the server can change that.
    pub(super) fn due_ns(&self) -> Option<u64> {
        if self.finished || self.trouble().is_some() || self.is_blocked() {
            return None;
        }
        if self.plan.rate == 0 {
            return Some(self.plan.begin_ns);
        }
        let due = u128::from(self.sent) * 1_000_000_000 / u128::from(self.plan.rate);
        let due = u64::try_from(due).expect("a run is shorter than centuries");
        Some(self.plan.begin_ns + due.next_multiple_of(self.plan.interval_ns.max(1)))
    }

    fn is_blocked(&self) -> bool {
        !self.established
            || !self.socket.is_ready()
            || self.voice.is_held()
            || self.in_flight() >= self.plan.in_flight_max
    }

    fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.voice.acknowledged())
    }

    /// Writes the scheduled messages. True when nothing is left to write.
    pub(super) fn tick(&mut self, now_ns: u64) -> io::Result<bool> {
        if self.trouble().is_some() {
            return Ok(true);
        }
        if now_ns >= self.plan.end_ns {
            self.finish();
        } else if now_ns >= self.plan.begin_ns && !self.is_blocked() {
            self.write_due(now_ns);
        }
        self.pump()
    }

    fn write_due(&mut self, now_ns: u64) {
        let free = (self.plan.in_flight_max - self.in_flight()).min(BATCH_MAX);
        let due = match self.plan.rate {
            0 => free,
            rate => {
                let elapsed = now_ns - self.plan.begin_ns;
                let counted = elapsed - elapsed % self.plan.interval_ns.max(1);
                let due = u128::from(counted) * u128::from(rate) / 1_000_000_000 + 1;
                u64::try_from(due)
                    .expect("a run is shorter than centuries")
                    .saturating_sub(self.sent)
                    .min(free)
            }
        };
        for _ in 0..due {
            let payload_bytes = self.plan.payload_bytes as usize;
            let out = &mut self.output.bytes;
            match self.topics {
                Topics::One => self.voice.message(out, SHARED_TOPIC, now_ns, payload_bytes),
                Topics::Inbox => {
                    let topic = inbox(self.sent % self.subscribers_total);
                    self.voice.message(out, &topic, now_ns, payload_bytes);
                }
            }
            self.sent += 1;
        }
    }

    /// No more messages; the server answers those that it has.
    fn finish(&mut self) {
        if self.established && !self.voice.is_held() && !self.finished {
            self.voice.finish(&mut self.output.bytes);
            self.finished = true;
        }
    }

    /// Writes as much as the windows allow and the socket takes.
    fn pump(&mut self) -> io::Result<bool> {
        self.voice.pump(&mut self.output.bytes);
        if !self.established {
            return Ok(false);
        }
        let done = self.socket.send(&mut self.output)?;
        if done && self.output.bytes.is_empty() {
            self.voice.flushed();
        }
        Ok(done)
    }

    /// The socket can take bytes. True when nothing is left to write.
    pub(super) fn writable(&mut self) -> io::Result<bool> {
        if !self.established {
            if let Some(error) = self.socket.tcp().take_error()? {
                return Err(error);
            }
            self.established = true;
        }
        self.pump()
    }

    /// The socket has bytes, or has ended. True when nothing is left to write.
    pub(super) fn readable(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let (voice, reply) = (&mut self.voice, &mut self.output.bytes);
        self.socket
            .receive(scratch, |bytes| voice.read(bytes, reply))?;
        self.pump()
    }

    pub(super) fn fail(&mut self, error: &io::Error) {
        if self.trouble().is_none() {
            self.failure = Some(format!("publishing: {error}"));
        }
    }

    /// The first: later troubles are mostly its consequence.
    fn trouble(&self) -> Option<&str> {
        self.failure.as_deref().or_else(|| self.voice.trouble())
    }

    /// The result, once: when the time is over and all is acknowledged, or waiting is of no use.
    pub(super) fn take_result(&mut self) -> Option<Published> {
        let now_ns = monotonic_ns();
        let answered = now_ns >= self.plan.end_ns && self.in_flight() == 0;
        let hopeless = self.trouble().is_some() || now_ns >= self.plan.end_ns + LINGER_NS;
        if self.reported || !(answered || hopeless) {
            return None;
        }
        self.reported = true;
        Some(Published {
            sent: self.sent,
            acknowledged: self.voice.acknowledged(),
            trouble: self.trouble().map(ToOwned::to_owned),
        })
    }
}
