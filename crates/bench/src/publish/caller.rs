//! One connection that publishes: a `PublishStream`, or a `Publish` call for each message.
//!
//! Holds: at most `in_flight` messages are unanswered, and both windows of the server are respected. Messages
//! that may go together leave in one write.
//! Does not: decode answers. It counts them, and reads the status at the end of a call.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

use hdrhistogram::Histogram;

use super::control::Plan;
use crate::http2::reader::{Reader, Sink, StreamEnd};
use crate::http2::send_windows::SendWindows;
use crate::http2::{flag, kind, request, stream_id};
use crate::load::{Output, describe, publish_request, receive, start_connecting};

const STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const UNARY: &str = "/longlived.v1.PublishService/Publish";
/// Times to the answer beyond it are counted as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Messages written before answers are looked at.
const BATCH_MAX: u64 = 2_048;

/// The requests of the load, encoded once: the cost of the load itself should not be measured.
#[derive(Debug)]
pub(super) struct Requests(Vec<Vec<u8>>);

impl Requests {
    pub(super) fn new(plan: &Plan) -> Self {
        let request = |topic| {
            let mut bytes = Vec::new();
            let topic = format!("bench.publish.{topic}");
            publish_request(&mut bytes, &topic, 0, plan.payload_bytes as usize);
            bytes
        };
        Self((0..plan.topics).map(request).collect())
    }

    fn of(&self, number: u64) -> &[u8] {
        // As many as fit a u32.
        &self.0[(number % self.0.len() as u64) as usize]
    }
}

#[derive(Debug)]
pub(super) struct Caller {
    requests: Rc<Requests>,
    authority: String,
    in_flight_max: u64,
    unary: bool,
    socket: TcpStream,
    established: bool,
    /// The socket takes no more until it says so.
    full: bool,
    reader: Reader,
    answers: Answers,
    /// gRPC messages of the stream that the windows have no capacity for yet.
    unframed: Vec<u8>,
    output: Output,
    sent: u64,
    /// How many messages may be sent altogether, so far.
    wanted: u64,
}

/// The server's error.
#[derive(Debug)]
struct Answers {
    unary: bool,
    answered: u64,
    windows: SendWindows,
    /// When messages were written that are not answered, and how many together, oldest first.
    written: VecDeque<(u64, u64)>,
    now_ns: u64,
    sample_every: u64,
    latencies: Histogram<u64>,
    trouble: Option<String>,
}

impl Caller {
    pub(super) fn connect(plan: &Plan, requests: Rc<Requests>, index: u32) -> io::Result<Self> {
        let authority = plan.server.to_string();
        let mut output = Output::default();
        request::open_connection(&mut output.bytes, plan.windows());
        let calls = if plan.unary {
            u32::try_from(plan.share(plan.messages_total, index) + 1).map_err(io::Error::other)?
        } else {
            request::call_headers(&mut output.bytes, stream_id(0), &authority, STREAM);
            1
        };
        Ok(Self {
            requests,
            authority,
            in_flight_max: u64::from(plan.in_flight),
            unary: plan.unary,
            socket: start_connecting(plan.server)?,
            established: false,
            full: false,
            reader: Reader::new(calls, plan.windows()),
            answers: Answers {
                unary: plan.unary,
                answered: 0,
                windows: SendWindows::default(),
                written: VecDeque::new(),
                now_ns: 0,
                sample_every: u64::from(plan.sample_every.max(1)),
                latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
                    .map_err(io::Error::other)?,
                trouble: None,
            },
            unframed: Vec::new(),
            output,
            sent: 0,
            wanted: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Asks for `messages` more; times to the answer are taken anew.
    pub(super) fn want(&mut self, messages: u64) {
        self.wanted += messages;
        self.answers.latencies.reset();
    }

    pub(super) fn is_done(&self) -> bool {
        self.answers.answered >= self.wanted
    }

    pub(super) fn answered(&self) -> u64 {
        self.answers.answered
    }

    pub(super) fn latencies(&self) -> &Histogram<u64> {
        &self.answers.latencies
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.answers.trouble.clone()
    }

    pub(super) fn fail(&mut self, error: &io::Error) {
        let trouble = &mut self.answers.trouble;
        trouble.get_or_insert_with(|| format!("publishing: {error}"));
    }

    /// Whether [`Self::write`] would send something at once.
    pub(super) fn has_turn(&self) -> bool {
        self.established && !self.full && self.unframed.is_empty() && self.due() > 0
    }

    fn due(&self) -> u64 {
        let in_flight = self.sent - self.answers.answered;
        let mut due = (self.wanted - self.sent)
            .min(self.in_flight_max.saturating_sub(in_flight))
            .min(BATCH_MAX);
        if self.unary {
            let request = self.requests.of(self.sent).len() as u64;
            due = due.min(self.answers.windows.of_connection() / request);
        }
        due
    }

    /// Writes the scheduled messages, as far as the socket takes them.
    pub(super) fn write(&mut self, now_ns: u64) -> io::Result<()> {
        if self.has_turn() {
            let due = self.due();
            for _ in 0..due {
                if self.unary {
                    self.call();
                } else {
                    let request = self.requests.of(self.sent);
                    self.unframed.extend_from_slice(request);
                }
                self.sent += 1;
            }
            self.answers.written.push_back((now_ns, due));
        }
        self.pump()
    }

    /// One call with its one message.
    fn call(&mut self) {
        let out = &mut self.output.bytes;
        let stream = stream_id(u32::try_from(self.sent).expect("checked when it was connected"));
        request::call_headers(out, stream, &self.authority, UNARY);
        let message = self.requests.of(self.sent);
        request::frame_header(out, message.len(), kind::DATA, flag::END_STREAM, stream);
        out.extend_from_slice(message);
        self.answers.windows.spend_of_connection(message.len());
    }

    /// Frames as much of the stream as the windows allow and writes as much as the socket takes.
    fn pump(&mut self) -> io::Result<()> {
        let windows = &mut self.answers.windows;
        windows.frame(&mut self.unframed, stream_id(0), &mut self.output.bytes);
        if self.established && !self.full {
            self.full = !self.output.flush(&mut self.socket)?;
        }
        Ok(())
    }

    /// The socket can take bytes.
    pub(super) fn writable(&mut self) -> io::Result<()> {
        if !self.established {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.established = true;
        }
        self.full = false;
        self.pump()
    }

    /// The socket has bytes, or has ended: all there is is read.
    pub(super) fn readable(&mut self, scratch: &mut [u8], now_ns: u64) -> io::Result<()> {
        self.answers.now_ns = now_ns;
        while let Some(length) = receive(&mut self.socket, scratch)? {
            let reply = &mut self.output.bytes;
            self.reader
                .read(&scratch[..length], &mut self.answers, reply)
                .map_err(io::Error::other)?;
            if length < scratch.len() {
                break;
            }
        }
        Ok(())
    }
}

impl Answers {
    fn answer(&mut self) {
        self.answered += 1;
        let Some((written_ns, left)) = self.written.front_mut() else {
            return;
        };
        if self.answered.is_multiple_of(self.sample_every) {
            let took = self.now_ns.saturating_sub(*written_ns).max(1);
            self.latencies.saturating_record(took);
        }
        *left -= 1;
        if *left == 0 {
            self.written.pop_front();
        }
    }
}

impl Sink for Answers {
    fn message(&mut self, _stream: u32, _length: u32, _head: &[u8]) {
        // Calls of one connection are answered in any order; the oldest write is a fair stand-in, since those of
        // one batch are stored together.
        self.answer();
    }

    fn stream_ended(&mut self, _stream: u32, end: StreamEnd) {
        // The status of a later call may stand in a table that is not kept; a refusal has no message, and then
        // the count shows it.
        let fine = matches!(
            end,
            StreamEnd::Finished {
                grpc_status: None | Some(0)
            }
        );
        if !(self.unary && fine) {
            self.trouble
                .get_or_insert_with(|| format!("publishing: {}", describe(end)));
        }
    }

    fn setting(&mut self, id: u16, value: u32) {
        self.windows.set(id, value);
    }

    fn window_update(&mut self, stream: Option<u32>, increment: u32) {
        self.windows.give(stream, increment);
    }

    fn going_away(&mut self, code: u32) {
        self.trouble
            .get_or_insert_with(|| format!("publishing: GOAWAY with HTTP/2 code {code}"));
    }
}
