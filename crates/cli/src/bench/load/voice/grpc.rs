//! `PublishStream` of our own contract.
//!
//! Holds: both windows of the server are respected.
//! Does not: read what it is answered beyond counting it.

use std::io;

use super::Voice;
use crate::bench::args::PayloadKind;
use crate::bench::http2::reader::{Reader, Sink, StreamEnd};
use crate::bench::http2::{
    FRAME_BYTES_MAX, WINDOW_DEFAULT, flag, kind, request, setting, stream_id,
};
use crate::bench::load::control::Plan;
use crate::bench::load::json;
use crate::bench::load::message::publish_request;
use crate::bench::load::tally::describe;

/// The time of sending, which a payload begins with.
const STAMP_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct Grpc {
    reader: Reader,
    answers: Answers,
    /// gRPC messages that the server's windows have no room for yet.
    unframed: Vec<u8>,
    payload_kind: PayloadKind,
    /// The payload of each message behind its stamp, where it is no dots.
    filler: Vec<u8>,
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

impl Grpc {
    pub(super) fn open(plan: &Plan, out: &mut Vec<u8>) -> Self {
        request::open_connection(out, plan.windows());
        request::call_headers(
            out,
            stream_id(0),
            &plan.server.to_string(),
            "/longlived.v1.PublishService/PublishStream",
        );
        Self {
            reader: Reader::new(1, plan.windows()),
            answers: Answers {
                acknowledged: 0,
                connection_room: WINDOW_DEFAULT.into(),
                stream_room: WINDOW_DEFAULT.into(),
                stream_window: WINDOW_DEFAULT,
                trouble: None,
            },
            unframed: Vec::new(),
            payload_kind: plan.payload_kind,
            filler: Vec::new(),
        }
    }
}

impl Voice for Grpc {
    fn message(&mut self, _out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize) {
        publish_request(&mut self.unframed, topic, sent_ns, payload_bytes);
        if self.payload_kind == PayloadKind::Json {
            let bytes = payload_bytes - STAMP_BYTES;
            if self.filler.len() != bytes {
                self.filler = json::payload(bytes);
            }
            // The payload stands last.
            let begin = self.unframed.len() - bytes;
            self.unframed[begin..].copy_from_slice(&self.filler);
        }
    }

    fn pump(&mut self, out: &mut Vec<u8>) {
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
            request::frame_header(out, length, kind::DATA, 0, stream_id(0));
            out.extend_from_slice(&self.unframed[framed..framed + length]);
            framed += length;
            let length = i64::try_from(length).expect("at most a frame");
            self.answers.connection_room -= length;
            self.answers.stream_room -= length;
        }
        self.unframed.drain(..framed);
    }

    fn is_held(&self) -> bool {
        !self.unframed.is_empty()
    }

    /// The server answers what it has and ends the call.
    fn finish(&mut self, out: &mut Vec<u8>) {
        request::frame_header(out, 0, kind::DATA, flag::END_STREAM, stream_id(0));
    }

    fn read(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> io::Result<()> {
        self.reader
            .read(bytes, &mut self.answers, reply)
            .map_err(io::Error::other)
    }

    fn acknowledged(&self) -> u64 {
        self.answers.acknowledged
    }

    fn trouble(&self) -> Option<&str> {
        self.answers.trouble.as_deref()
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
