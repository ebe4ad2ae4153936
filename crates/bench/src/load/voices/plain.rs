//! Protocols without windows: Redis, NATS and the bare sender.
//!
//! Holds: each acknowledges in the way that costs its server least, so that all of them have the same number of
//! messages in flight. Redis answers every PUBLISH anyway, NATS is asked now and then by a PING, and the bare sender
//! has a message as soon as the socket has it.

use std::collections::VecDeque;
use std::io;

use crate::load::voice::Voice;
use crate::load::wire::refusal;
use crate::wire::{nats, records, resp};

/// NATS is asked for its progress after at most this many messages: seldom enough to cost it nothing.
const PING_EVERY_MAX: u64 = 1_024;
/// And so often that the answer comes before all that may be in flight is.
const PINGS_IN_FLIGHT: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct Resp {
    reader: resp::Reader,
    acknowledged: u64,
}

impl Voice for Resp {
    fn message(&mut self, out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize) {
        resp::publish(out, topic, sent_ns, payload_bytes);
    }

    fn read(&mut self, bytes: &[u8], _reply: &mut Vec<u8>) -> io::Result<()> {
        let mut refused = None;
        let acknowledged = &mut self.acknowledged;
        self.reader
            .read(bytes, &mut |heard| match heard {
                resp::Heard::Number(_) => *acknowledged += 1,
                resp::Heard::Error(words) => refused = Some(refusal(words)),
                resp::Heard::Message { .. } | resp::Heard::Subscribed { .. } => {}
            })
            .map_err(io::Error::other)?;
        refused.map_or(Ok(()), Err)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

#[derive(Debug)]
pub(super) struct Nats {
    reader: nats::Reader,
    ping_every: u64,
    sent: u64,
    /// Messages sent before each PING that is not answered, oldest first.
    asked: VecDeque<u64>,
    acknowledged: u64,
}

impl Nats {
    pub(super) fn open(in_flight_max: u64, out: &mut Vec<u8>) -> Self {
        nats::connect(out);
        Self {
            reader: nats::Reader::default(),
            ping_every: in_flight_max.div_ceil(PINGS_IN_FLIGHT).min(PING_EVERY_MAX),
            sent: 0,
            asked: VecDeque::new(),
            acknowledged: 0,
        }
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(nats::PING);
        self.asked.push_back(self.sent);
    }
}

impl Voice for Nats {
    fn message(&mut self, out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize) {
        nats::publish(out, topic, sent_ns, payload_bytes);
        self.sent += 1;
        if self.sent.is_multiple_of(self.ping_every) {
            self.ask(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.ask(out);
    }

    fn read(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        let Self {
            reader,
            asked,
            acknowledged,
            ..
        } = self;
        let mut refused = None;
        reader
            .read(bytes, &mut |heard| match heard {
                nats::Heard::Ping => reply.extend_from_slice(nats::PONG),
                nats::Heard::Pong => {
                    *acknowledged = asked.pop_front().unwrap_or(*acknowledged);
                }
                nats::Heard::Error(words) => refused = Some(refusal(words)),
                nats::Heard::Message { .. } => {}
            })
            .map_err(io::Error::other)?;
        refused.map_or(Ok(()), Err)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}

#[derive(Debug)]
pub(super) struct Records {
    record_bytes: usize,
    sent: u64,
    flushed: u64,
}

impl Records {
    pub(super) fn open(record_bytes: usize, out: &mut Vec<u8>) -> Self {
        records::hello(out, records::PUBLISHER);
        Self {
            record_bytes,
            sent: 0,
            flushed: 0,
        }
    }
}

impl Voice for Records {
    fn message(&mut self, out: &mut Vec<u8>, _topic: &str, sent_ns: u64, _payload_bytes: usize) {
        records::record(out, sent_ns, self.record_bytes);
        self.sent += 1;
    }

    fn flushed(&mut self) {
        self.flushed = self.sent;
    }

    fn read(&mut self, _bytes: &[u8], _reply: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn acknowledged(&self) -> u64 {
        self.flushed
    }
}
