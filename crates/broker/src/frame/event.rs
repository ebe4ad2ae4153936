//! The message inside a frame, `SubscribeResponse{event}`: its writer and its reader.
//!
//! It is written field by field, as prost would write it, because the generated type would need a copy of
//! topic, key and headers for every event.
//!
//! Does not: number events; the caller knows their numbers.

use std::sync::Arc;

use bytes::Bytes;
use longlived_api::v1;
use prost::{
    Message as _,
    encoding::{WireType, decode_varint, encoded_len_varint},
};

use super::{Entry, Frames, PREFIX_BYTES, TopicId};
use crate::message::Message;

// Field numbers of `longlived.v1.Event`; a test of `frame` holds them against the generated type.
const RESPONSE_EVENT: u32 = 1;
const TOPIC: u32 = 1;
const SEQUENCE: u32 = 2;
const PREVIOUS_SEQUENCE: u32 = 3;
const PAYLOAD: u32 = 4;
const PUBLISH_TIME: u32 = 5;
const KEY: u32 = 6;
const HEADERS: u32 = 7;
const DELETED: u32 = 8;

fn len_field(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn optional(len: usize) -> usize {
    if len == 0 { 0 } else { len_field(len) }
}

fn number(value: u64) -> usize {
    if value == 0 {
        0
    } else {
        1 + encoded_len_varint(value)
    }
}

fn headers_len(message: &Message) -> usize {
    message
        .headers
        .iter()
        .map(|(name, value)| len_field(optional(name.len()) + optional(value.len())))
        .sum()
}

#[inline]
fn event_len(message: &Message, sequence: u64, previous: u64, time: usize) -> usize {
    optional(message.topic.as_str().len())
        + number(sequence)
        + number(previous)
        + optional(message.payload.len())
        + len_field(time)
        + optional(message.key.len())
        + headers_len(message)
        + number(u64::from(message.deleted))
}

/// The most bytes that the encoded event can take, with any number and time.
pub fn event_len_max(message: &Message) -> usize {
    // Seconds and nanoseconds: a tag and at most 10 and 5 bytes.
    event_len(message, u64::MAX, u64::MAX, 17)
}

/// Encodes a batch where its numbers are known.
#[derive(Debug)]
pub struct EventWriter {
    joined: Vec<u8>,
    entries: Vec<Entry>,
    // The field `publish_time` of the last event, with its tag and length: most have the time of the one before.
    time: Short<19>,
    time_nanos: i64,
}

impl EventWriter {
    /// Begins a batch of about `count` events and `bytes`.
    pub fn new(count: usize, bytes: usize) -> Self {
        Self {
            joined: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(count),
            time: publish_time(0),
            time_nanos: 0,
        }
    }

    /// Appends one event, published at a time in nanoseconds since 1970.
    pub fn push(
        &mut self,
        message: &Message,
        topic: TopicId,
        sequence: u64,
        previous: u64,
        time_nanos: i64,
    ) {
        if time_nanos != self.time_nanos {
            self.time = publish_time(time_nanos);
            self.time_nanos = time_nanos;
        }
        let time = self.time.bytes().len();
        // The length of a time in `event_len` has its tag and length already.
        let event = event_len(message, sequence, previous, time - 2);
        let body = len_field(event);
        let offset = self.joined.len();
        let buf = &mut self.joined;
        buf.reserve(PREFIX_BYTES + body);
        // The bytes before and behind the texts are put together first: each part is one copy.
        let name = message.topic.as_str().as_bytes();
        let mut part = Short::<24>::default();
        part.push(&[0]);
        part.push(&(body as u32).to_be_bytes());
        part.len_field(RESPONSE_EVENT, event);
        part.len_field(TOPIC, name.len());
        buf.extend_from_slice(part.bytes());
        buf.extend_from_slice(name);
        let mut part = Short::<40>::default();
        part.number(SEQUENCE, sequence);
        part.number(PREVIOUS_SEQUENCE, previous);
        if !message.payload.is_empty() {
            part.len_field(PAYLOAD, message.payload.len());
        }
        buf.extend_from_slice(part.bytes());
        buf.extend_from_slice(&message.payload);
        buf.extend_from_slice(self.time.bytes());
        put_text(buf, KEY, &message.key);
        for (name, value) in &message.headers {
            let mut part = Short::<12>::default();
            part.len_field(HEADERS, optional(name.len()) + optional(value.len()));
            buf.extend_from_slice(part.bytes());
            put_text(buf, 1, name);
            put_text(buf, 2, value);
        }
        if message.deleted {
            let mut part = Short::<2>::default();
            part.number(DELETED, 1);
            buf.extend_from_slice(part.bytes());
        }
        self.entries.push(Entry {
            sequence,
            topic,
            offset: offset as u32,
            len: (buf.len() - offset) as u32,
        });
    }

    /// The batch. At least one event must have been pushed.
    pub fn finish(self) -> Arc<Frames> {
        assert!(!self.entries.is_empty(), "a batch holds an event");
        Arc::new(Frames::new(self.joined.into(), self.entries.into()))
    }
}

/// The field `publish_time`, with its tag and length.
fn publish_time(unix_nanos: i64) -> Short<19> {
    let time = u64::try_from(unix_nanos).unwrap_or(0);
    let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
    let mut field = Short::default();
    field.len_field(PUBLISH_TIME, number(seconds) + number(nanos));
    field.number(1, seconds);
    field.number(2, nanos);
    field
}

/// A few bytes that are put together before they are copied.
#[derive(Debug)]
struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Default for Short<MAX> {
    fn default() -> Self {
        Self {
            bytes: [0; MAX],
            len: 0,
        }
    }
}

impl<const MAX: usize> Short<MAX> {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.bytes[self.len] = value as u8;
        self.len += 1;
    }

    /// The tag and length of a field of `len` bytes.
    fn len_field(&mut self, field: u32, len: usize) {
        self.varint(u64::from(field << 3 | WireType::LengthDelimited as u32));
        self.varint(len as u64);
    }

    /// A field of a number, which is absent when it is 0.
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(field << 3 | WireType::Varint as u32));
            self.varint(value);
        }
    }
}

fn put_text(buf: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        let mut part = Short::<12>::default();
        part.len_field(field, text.len());
        buf.extend_from_slice(part.bytes());
        buf.extend_from_slice(text.as_bytes());
    }
}

/// The topic of a frame; `None` when it is not one that [`EventWriter`] made.
pub(crate) fn topic_of(frame: &[u8]) -> Option<&str> {
    fn len(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let mut rest = bytes;
        let len = decode_varint(&mut rest).ok()?;
        Some((usize::try_from(len).ok()?, rest))
    }
    let tag = |field: u32| (field << 3 | WireType::LengthDelimited as u32) as u8;
    let (_, event) = len(frame
        .get(PREFIX_BYTES..)?
        .strip_prefix(&[tag(RESPONSE_EVENT)])?)?;
    let (topic_bytes, topic) = len(event.strip_prefix(&[tag(TOPIC)])?)?;
    std::str::from_utf8(topic.get(..topic_bytes)?).ok()
}

/// The events of frames in the encoding of version 1, each with the bytes of its frame. Payloads share the bytes
/// they came in.
pub fn events(mut bytes: Bytes) -> impl Iterator<Item = (usize, v1::Event)> {
    std::iter::from_fn(move || {
        let prefix = bytes.get(1..PREFIX_BYTES)?;
        let len = u32::from_be_bytes(prefix.try_into().ok()?) as usize + PREFIX_BYTES;
        let frame = (len <= bytes.len()).then(|| bytes.split_to(len))?;
        let response = v1::SubscribeResponse::decode(frame.slice(PREFIX_BYTES..));
        match response.ok()?.frame {
            Some(v1::subscribe_response::Frame::Event(event)) => Some((len, event)),
            _ => None,
        }
    })
}
