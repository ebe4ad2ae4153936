//! `PublishStream` of our own contract.
//!
//! Holds: both windows of the server are respected.
//! Does not: read answers beyond counting them.

use std::io;

use crate::args::PayloadKind;
use crate::http2::reader::{Reader, Sink, StreamEnd};
use crate::http2::request::{self, Head};
use crate::http2::send_windows::SendWindows;
use crate::http2::{flag, kind, stream_id};
use crate::load::authorization::Authorization;
use crate::load::control::Plan;
use crate::load::json;
use crate::load::message::publish_request;
use crate::load::tally::describe;
use crate::load::voice::Voice;

/// The time of sending, which a payload begins with.
const STAMP_BYTES: usize = 8;

#[derive(Debug)]
pub(super) struct Grpc {
    reader: Reader,
    answers: Answers,
    /// gRPC messages that the server's windows have no capacity for yet.
    unframed: Vec<u8>,
    payload_kind: PayloadKind,
    /// The payload of each message behind its stamp, where it is no dots.
    filler: Vec<u8>,
}

/// The server's status of this call.
#[derive(Debug)]
struct Answers {
    acknowledged: u64,
    windows: SendWindows,
    trouble: Option<String>,
}

impl Grpc {
    pub(super) fn open(plan: &Plan, authorization: &Authorization, out: &mut Vec<u8>) -> Self {
        request::open_connection(out, plan.windows());
        let head = Head {
            authority: &plan.server.to_string(),
            path: "/longlived.v1.PublishService/PublishStream",
            over_tls: plan.tls.is_some(),
            encoding: None,
            authorization: authorization.publisher(),
        };
        request::call_head(out, stream_id(0), &head);
        Self {
            reader: Reader::new(1, plan.windows()),
            answers: Answers {
                acknowledged: 0,
                windows: SendWindows::default(),
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
        let windows = &mut self.answers.windows;
        windows.frame(&mut self.unframed, stream_id(0), out);
    }

    fn is_held(&self) -> bool {
        !self.unframed.is_empty()
    }

    /// The server answers the messages that it has and ends the call.
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
        self.windows.set(id, value);
    }

    fn window_update(&mut self, stream: Option<u32>, increment: u32) {
        self.windows.give(stream, increment);
    }

    fn going_away(&mut self, code: u32) {
        if code != 0 {
            self.trouble
                .get_or_insert_with(|| format!("publishing: GOAWAY with HTTP/2 code {code}"));
        }
    }
}
