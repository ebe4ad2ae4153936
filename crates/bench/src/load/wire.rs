//! How the subscribers of one connection speak to the server, in each protocol.
//!
//! Holds: in every protocol each subscriber's Welcome and deliveries are counted in the same place.

use std::io;
use std::ops::Range;

use longlived_api::v1::Position;

use super::authorization::Authorization;
use super::control::{Plan, Protocol};
use super::tally::{Subscriber, Tally, code_name, describe};
use crate::http2::reader::{Reader, Sink, StreamEnd};
use crate::http2::request::{self, Head};
use crate::http2::{setting, stream_id};
use crate::wire::{nats, records, resp};

#[derive(Debug)]
pub(super) struct Wire {
    /// Numbers of this connection's subscribers.
    subscribers: Range<u64>,
    reader: Readers,
}

#[derive(Debug)]
enum Readers {
    Grpc(Reader),
    Resp(resp::Reader),
    Nats(nats::Reader),
    Records {
        reader: records::Reader,
        /// Whose record comes next: they have their turns.
        turn: usize,
    },
}

/// The counters for the reads of a connection.
pub(super) struct Seen<'a> {
    pub(super) subscribers: &'a mut [Subscriber],
    pub(super) tally: &'a mut Tally,
    pub(super) now_ns: u64,
}

impl Wire {
    pub(super) fn new(plan: &Plan, subscribers: Range<u64>) -> Self {
        let reader = match plan.protocol {
            Protocol::Grpc => Readers::Grpc(Reader::new(plan.streams, plan.windows())),
            Protocol::Resp => Readers::Resp(resp::Reader::default()),
            Protocol::Nats => Readers::Nats(nats::Reader::default()),
            Protocol::Records { bytes } => Readers::Records {
                reader: records::Reader::new(bytes as usize),
                turn: 0,
            },
        };
        Self {
            subscribers,
            reader,
        }
    }

    /// The first request of every subscriber of the connection.
    pub(super) fn open(
        &self,
        plan: &Plan,
        authorization: &Authorization,
        resume_after: Option<Position>,
        out: &mut Vec<u8>,
    ) {
        let numbers = self.subscribers.clone();
        match &self.reader {
            Readers::Grpc(_) => {
                out.reserve(96 + plan.streams as usize * 224);
                open_calls(out, plan, authorization, numbers, resume_after);
            }
            Readers::Resp(_) => {
                let topics: Vec<_> = numbers.map(|number| plan.topic(number)).collect();
                resp::subscribe(out, topics.into_iter());
            }
            Readers::Nats(_) => {
                nats::connect(out);
                for (index, number) in (0..).zip(numbers) {
                    nats::subscribe(out, &plan.topic(number), index);
                }
                // Answered when all of them stand.
                out.extend_from_slice(nats::PING);
            }
            Readers::Records { .. } => records::hello(out, numbers.start),
        }
    }

    /// The server's windows are used up and not filled again; only HTTP/2 has any.
    pub(super) fn stop_crediting(&mut self) {
        if let Readers::Grpc(reader) = &mut self.reader {
            reader.stop_crediting();
        }
    }

    /// Takes the next bytes of the connection; answers are appended to `reply`.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        seen: &mut Seen<'_>,
        reply: &mut Vec<u8>,
    ) -> io::Result<()> {
        match &mut self.reader {
            Readers::Grpc(reader) => reader.read(bytes, seen, reply).map_err(io::Error::other),
            Readers::Resp(reader) => read_resp(reader, bytes, self.subscribers.start, seen),
            Readers::Nats(reader) => read_nats(reader, bytes, seen, reply),
            Readers::Records { reader, turn } => {
                reader.read(bytes, &mut |heard| match heard {
                    records::Heard::Greeting => seen.welcome_all(),
                    records::Heard::Record { sent_ns } => {
                        seen.delivered(*turn, sent_ns);
                        *turn = (*turn + 1) % seen.subscribers.len();
                    }
                });
                Ok(())
            }
        }
    }
}

fn read_resp(
    reader: &mut resp::Reader,
    bytes: &[u8],
    first: u64,
    seen: &mut Seen<'_>,
) -> io::Result<()> {
    let mut refused = None;
    reader
        .read(bytes, &mut |heard| match heard {
            resp::Heard::Message { channel, sent_ns } => {
                if let Some(index) = seen.index_of(channel, first) {
                    seen.delivered(index, sent_ns);
                }
            }
            resp::Heard::Subscribed { channel } => {
                if let Some(index) = seen.index_of(channel, first) {
                    seen.tally
                        .welcome(&mut seen.subscribers[index], seen.now_ns);
                }
            }
            resp::Heard::Number(_) => {}
            resp::Heard::Error(words) => refused = Some(refusal(words)),
        })
        .map_err(io::Error::other)?;
    refused.map_or(Ok(()), Err)
}

fn read_nats(
    reader: &mut nats::Reader,
    bytes: &[u8],
    seen: &mut Seen<'_>,
    reply: &mut Vec<u8>,
) -> io::Result<()> {
    let mut refused = None;
    reader
        .read(bytes, &mut |heard| match heard {
            nats::Heard::Message {
                subscription,
                sent_ns,
            } => {
                if (subscription as usize) < seen.subscribers.len() {
                    seen.delivered(subscription as usize, sent_ns);
                }
            }
            nats::Heard::Ping => reply.extend_from_slice(nats::PONG),
            nats::Heard::Pong => seen.welcome_all(),
            nats::Heard::Error(words) => refused = Some(refusal(words)),
        })
        .map_err(io::Error::other)?;
    refused.map_or(Ok(()), Err)
}

/// An error in the server's own words.
pub(super) fn refusal(words: &[u8]) -> io::Error {
    let words = String::from_utf8_lossy(words);
    io::Error::other(format!("the server refused: {words}"))
}

/// Preface, windows, and one Subscribe for each subscriber.
fn open_calls(
    out: &mut Vec<u8>,
    plan: &Plan,
    authorization: &Authorization,
    subscribers: Range<u64>,
    resume_after: Option<Position>,
) {
    const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

    let authority = plan.server.to_string();
    request::open_connection(out, plan.windows());
    for (index, number) in (0..).zip(subscribers) {
        let head = Head {
            authority: &authority,
            path: SUBSCRIBE,
            over_tls: plan.tls.is_some(),
            encoding: plan.compression.encoding(),
            authorization: authorization.subscriber(plan, number),
        };
        request::call_head(out, stream_id(index), &head);
        let request = plan.subscribe_request(number, resume_after);
        request::call_message(out, stream_id(index), &request, true);
    }
}

impl Seen<'_> {
    fn delivered(&mut self, index: usize, sent_ns: Option<u64>) {
        let subscriber = &mut self.subscribers[index];
        self.tally.event(subscriber, self.now_ns, || sent_ns);
    }

    fn welcome_all(&mut self) {
        for subscriber in &mut *self.subscribers {
            self.tally.welcome(subscriber, self.now_ns);
        }
    }

    /// The subscriber whose topic this is. A single one follows every topic.
    fn index_of(&self, topic: &[u8], first: u64) -> Option<usize> {
        if self.subscribers.len() == 1 {
            return Some(0);
        }
        let name = std::str::from_utf8(topic).ok()?;
        let (_, number) = name.rsplit_once('-')?;
        let index = number.parse::<u64>().ok()?.checked_sub(first)?;
        let index = usize::try_from(index).ok()?;
        (index < self.subscribers.len()).then_some(index)
    }
}

impl Sink for Seen<'_> {
    fn message(&mut self, stream: u32, _length: u32, head: &[u8]) {
        self.tally
            .message(&mut self.subscribers[stream as usize], head, self.now_ns);
    }

    // Only events are compressed, and when they were sent cannot be seen.
    fn compressed_message(&mut self, stream: u32, _length: u32) {
        self.delivered(stream as usize, None);
    }

    fn stream_ended(&mut self, stream: u32, end: StreamEnd) {
        self.tally
            .stream_ended(&mut self.subscribers[stream as usize], || describe(end));
    }

    fn setting(&mut self, id: u16, value: u32) {
        let streams = self.subscribers.len();
        if id == setting::MAX_CONCURRENT_STREAMS && (value as usize) < streams {
            self.tally.note(|| {
                format!("the server allows {value} streams a connection, the load opens {streams}")
            });
        }
    }

    // Requests fit the default window (see `Plan::streams_max`), so WINDOW_UPDATEs are ignored.
    fn window_update(&mut self, _stream: Option<u32>, _increment: u32) {}

    fn going_away(&mut self, code: u32) {
        self.tally.note(|| {
            format!(
                "the server said GOAWAY with HTTP/2 code {code} ({})",
                code_name(code)
            )
        });
    }
}
