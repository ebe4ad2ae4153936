//! Publishes at a rate through `PublishStream`, on a connection of its own.
//!
//! Holds: at most `in_flight_max` messages are unacknowledged, so a server that does not keep up slows the
//! publisher and nothing piles up here; both windows of the server are respected. A message is stamped when
//! it is written, and messages that are due together leave in one write.
//! Does not: read what it is answered beyond counting it.

use std::io::{self, Read as _};
use std::net::TcpStream;

use super::connection::{Output, inbox, start_connecting};
use super::control::{Plan, PublishPlan, Published, SHARED_TOPIC};
use super::message::publish_request;
use super::tally::describe;
use crate::bench::args::Topics;
use crate::bench::clock::monotonic_ns;
use crate::bench::http2::reader::{Reader, Sink, StreamEnd};
use crate::bench::http2::{
    FRAME_BYTES_MAX, WINDOW_DEFAULT, flag, kind, request, setting, stream_id,
};

/// Messages written at once; the loop must come back to its readers.
const BATCH_MAX: u64 = 1_000;
/// How long to wait for acknowledgements after the last message.
const LINGER_NS: u64 = 5_000_000_000;

#[derive(Debug)]
pub(super) struct Publisher {
    plan: PublishPlan,
    topics: Topics,
    subscribers_total: u64,
    socket: TcpStream,
    reader: Reader,
    answers: Answers,
    /// gRPC messages that the server's windows have no room for yet.
    unframed: Vec<u8>,
    output: Output,
    sent: u64,
    established: bool,
    half_closed: bool,
    reported: bool,
}

/// What the server said about this call.
#[derive(Debug)]
struct Answers {
    acknowledged: u64,
    connection_room: i64,
    stream_room: i64,
    stream_window: u32,
    trouble: Option<String>,
}

impl Publisher {
    pub(super) fn connect(plan: &Plan, publish: PublishPlan) -> io::Result<Self> {
        let mut output = Output::default();
        request::open_connection(&mut output.bytes, plan.windows());
        request::call_headers(
            &mut output.bytes,
            stream_id(0),
            &plan.server.to_string(),
            "/longlived.v1.PublishService/PublishStream",
        );
        Ok(Self {
            plan: publish,
            topics: plan.topics,
            subscribers_total: plan.subscribers_total,
            socket: start_connecting(plan.server)?,
            reader: Reader::new(1, plan.windows()),
            answers: Answers {
                acknowledged: 0,
                connection_room: WINDOW_DEFAULT.into(),
                stream_room: WINDOW_DEFAULT.into(),
                stream_window: WINDOW_DEFAULT,
                trouble: None,
            },
            unframed: Vec::new(),
            output,
            sent: 0,
            established: false,
            half_closed: false,
            reported: false,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// When [`Self::tick`] has something to do next; `None` when only the server can change that.
    pub(super) fn due_ns(&self) -> Option<u64> {
        if self.half_closed || self.answers.trouble.is_some() || self.is_blocked() {
            return None;
        }
        if self.plan.rate == 0 {
            return Some(self.plan.begin_ns);
        }
        let due = u128::from(self.sent) * 1_000_000_000 / u128::from(self.plan.rate);
        Some(self.plan.begin_ns + u64::try_from(due).expect("a run is shorter than centuries"))
    }

    fn is_blocked(&self) -> bool {
        !self.established
            || !self.unframed.is_empty()
            || self.in_flight() >= self.plan.in_flight_max
    }

    fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answers.acknowledged)
    }

    /// Writes what is due. True when nothing is left to write.
    pub(super) fn tick(&mut self, now_ns: u64) -> io::Result<bool> {
        if self.answers.trouble.is_some() {
            return Ok(true);
        }
        if now_ns >= self.plan.end_ns {
            self.half_close();
        } else if now_ns >= self.plan.begin_ns && !self.is_blocked() {
            self.write_due(now_ns);
        }
        self.pump()
    }

    fn write_due(&mut self, now_ns: u64) {
        let room = (self.plan.in_flight_max - self.in_flight()).min(BATCH_MAX);
        let due = match self.plan.rate {
            0 => room,
            rate => {
                let elapsed = u128::from(now_ns - self.plan.begin_ns);
                let due = elapsed * u128::from(rate) / 1_000_000_000 + 1;
                u64::try_from(due)
                    .expect("a run is shorter than centuries")
                    .saturating_sub(self.sent)
                    .min(room)
            }
        };
        for _ in 0..due {
            let payload_bytes = self.plan.payload_bytes as usize;
            match self.topics {
                Topics::One => {
                    publish_request(&mut self.unframed, SHARED_TOPIC, now_ns, payload_bytes);
                }
                Topics::Inbox => {
                    let topic = inbox(self.sent % self.subscribers_total);
                    publish_request(&mut self.unframed, &topic, now_ns, payload_bytes);
                }
            }
            self.sent += 1;
        }
    }

    /// No more requests; the server answers what it has and ends the call.
    fn half_close(&mut self) {
        if self.established && self.unframed.is_empty() && !self.half_closed {
            request::frame_header(
                &mut self.output.bytes,
                0,
                kind::DATA,
                flag::END_STREAM,
                stream_id(0),
            );
            self.half_closed = true;
        }
    }

    /// Frames as much as the windows allow and writes as much as the socket takes.
    fn pump(&mut self) -> io::Result<bool> {
        let mut framed = 0;
        while framed < self.unframed.len() {
            let room = self.answers.connection_room.min(self.answers.stream_room);
            let length = usize::try_from(room)
                .unwrap_or(0)
                .min(FRAME_BYTES_MAX)
                .min(self.unframed.len() - framed);
            if length == 0 {
                break;
            }
            request::frame_header(&mut self.output.bytes, length, kind::DATA, 0, stream_id(0));
            self.output
                .bytes
                .extend_from_slice(&self.unframed[framed..framed + length]);
            framed += length;
            let length = i64::try_from(length).expect("at most a frame");
            self.answers.connection_room -= length;
            self.answers.stream_room -= length;
        }
        self.unframed.drain(..framed);
        if !self.established {
            return Ok(false);
        }
        self.output.flush(&mut self.socket)
    }

    /// The socket can take bytes. True when nothing is left to write.
    pub(super) fn writable(&mut self) -> io::Result<bool> {
        if !self.established {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.established = true;
        }
        self.pump()
    }

    /// The socket has bytes, or has ended. True when nothing is left to write.
    pub(super) fn readable(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let length = match self.socket.read(scratch) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed the connection",
                ));
            }
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.reader
            .read(
                &scratch[..length],
                &mut self.answers,
                &mut self.output.bytes,
            )
            .map_err(io::Error::other)?;
        self.pump()
    }

    pub(super) fn fail(&mut self, error: &io::Error) {
        self.answers
            .trouble
            .get_or_insert_with(|| format!("publishing: {error}"));
    }

    /// The result, once: when the time is over and all is acknowledged, or waiting is of no use.
    pub(super) fn take_result(&mut self) -> Option<Published> {
        let now_ns = monotonic_ns();
        let answered = now_ns >= self.plan.end_ns && self.in_flight() == 0;
        let hopeless = self.answers.trouble.is_some() || now_ns >= self.plan.end_ns + LINGER_NS;
        if self.reported || !(answered || hopeless) {
            return None;
        }
        self.reported = true;
        Some(Published {
            sent: self.sent,
            acknowledged: self.answers.acknowledged,
            trouble: self.answers.trouble.clone(),
        })
    }
}

impl Sink for Answers {
    fn message(&mut self, _stream: u32, _length: u32, _head: &[u8]) {
        self.acknowledged += 1;
    }

    fn stream_ended(&mut self, _stream: u32, end: StreamEnd) {
        if end
            != (StreamEnd::Finished {
                grpc_status: Some(0),
            })
        {
            self.trouble
                .get_or_insert_with(|| format!("publishing: {}", describe(end)));
        }
    }

    fn setting(&mut self, id: u16, value: u32) {
        if id == setting::INITIAL_WINDOW_SIZE {
            self.stream_room += i64::from(value) - i64::from(self.stream_window);
            self.stream_window = value;
        }
    }

    fn window_update(&mut self, stream: Option<u32>, increment: u32) {
        match stream {
            None => self.connection_room += i64::from(increment),
            Some(_) => self.stream_room += i64::from(increment),
        }
    }

    fn going_away(&mut self, code: u32) {
        if code != 0 {
            self.trouble
                .get_or_insert_with(|| format!("publishing: GOAWAY with HTTP/2 code {code}"));
        }
    }
}
