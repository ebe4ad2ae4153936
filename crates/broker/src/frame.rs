//! An event as wire-ready bytes: the complete gRPC message `SubscribeResponse{event}` with its 5-byte prefix.
//! The same bytes are kept, shared and written to every subscriber. The one file of the broker that knows
//! the wire contracts.
//!
//! The event is written field by field, as prost would write it, because the generated type would need a
//! copy of topic, key and headers for every event.
//!
//! Does not: compress for those readers that asked for it; `compressor` does.

mod compression;
mod compressor;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::{BufMut, Bytes, BytesMut};
use longlived_api::{protos, v1};
use prost::{
    Message as _,
    encoding::{WireType, decode_varint, encoded_len_varint},
};

pub use compression::Compression;
pub(crate) use compressor::Compressor;
pub use compressor::{
    COMPRESSED_BYTES_MIN, COMPRESSED_MESSAGE_BYTES_MAX, COMPRESSED_MESSAGE_BYTES_MIN,
    CompressionCounts,
};

use crate::{message::Message, position::Sequence, topic::TopicName};

/// Bytes before each message: one for "compressed", four for the length.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub const PREFIX_BYTES: usize = 5;

/// The most a frame has beside its event: the prefix, a tag and a length.
pub const FRAME_OVERHEAD_BYTES: usize = PREFIX_BYTES + 1 + 5;

/// Number of a topic inside one store.
pub type TopicId = u32;

/// Where one event stands in [`Frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence.
    pub sequence: Sequence,
    /// Its topic.
    pub topic: TopicId,
    /// Where its frame begins.
    pub offset: u32,
    /// Length of its frame, prefix included.
    pub len: u32,
}

impl Entry {
    fn end(&self) -> usize {
        self.offset as usize + self.len as usize
    }

    /// Size of the encoded event inside the frame, which is what `max_event_bytes` bounds.
    pub fn event_bytes(&self) -> usize {
        // Prefix, one byte of tag, and the length of the event itself.
        let body = self.len as usize - PREFIX_BYTES - 1;
        let mut length_bytes = 1;
        while encoded_len_varint((body - length_bytes) as u64) > length_bytes {
            length_bytes += 1;
        }
        body - length_bytes
    }
}

/// Consecutive frames with their index, in log order. Never empty.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    entries: Box<[Entry]>,
    largest_frame: u32,
    // Made on first need, then shared by every subscriber of the frozen contract.
    legacy: OnceLock<Legacy>,
}

/// The frames of the frozen contract, and where each begins.
#[derive(Debug)]
struct Legacy {
    bytes: Bytes,
    ends: Box<[u32]>,
    largest_frame: u32,
}

impl Frames {
    fn new(bytes: Bytes, entries: Box<[Entry]>) -> Self {
        let largest_frame = entries.iter().map(|entry| entry.len).max().unwrap_or(0);
        Self {
            bytes,
            entries,
            largest_frame,
            legacy: OnceLock::new(),
        }
    }

    /// The index, rising by sequence.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sequence of the first event.
    pub fn first(&self) -> Sequence {
        self.entries[0].sequence
    }

    /// Sequence of the last event.
    pub fn last(&self) -> Sequence {
        self.entries[self.entries.len() - 1].sequence
    }

    /// Frames as they were read back; every entry lies within the bytes. `None` when one does not, or there is none.
    pub(crate) fn from_parts(bytes: Bytes, entries: Vec<Entry>) -> Option<Arc<Self>> {
        let lawful = entries.iter().all(|entry| entry.end() <= bytes.len());
        (lawful && !entries.is_empty()).then(|| Arc::new(Self::new(bytes, entries.into())))
    }

    /// All frames, one after the other.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The topic of an entry, as its frame says it.
    pub(crate) fn topic(&self, index: usize) -> Option<TopicName> {
        let entry = self.entries[index];
        let frame = &self.bytes[entry.offset as usize..entry.end()];
        TopicName::parse(topic_of(frame)?).ok()
    }

    /// Bytes of all frames.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Index of the first entry after `sequence`.
    pub fn index_after(&self, sequence: Sequence) -> usize {
        self.entries
            .partition_point(|entry| entry.sequence <= sequence)
    }

    /// The chosen entries (rising indices, at least one) as frames of their own: a view when they stand side
    /// by side and `share` allows it, a copy otherwise.
    pub fn select(self: &Arc<Self>, chosen: &[u32], share: bool) -> Arc<Self> {
        if share && chosen.len() == self.entries.len() {
            return self.clone();
        }
        let first = chosen[0] as usize;
        let last = chosen[chosen.len() - 1] as usize;
        if share && last - first + 1 == chosen.len() {
            let begin = self.entries[first].offset;
            let bytes = self.bytes.slice(begin as usize..self.entries[last].end());
            let entries = self.entries[first..=last]
                .iter()
                .map(|entry| Entry {
                    offset: entry.offset - begin,
                    ..*entry
                })
                .collect();
            return Arc::new(Self::new(bytes, entries));
        }
        let size = chosen
            .iter()
            .map(|&index| self.entries[index as usize].len as usize)
            .sum();
        let mut joined = Joined::with_capacity(size, chosen.len());
        for &index in chosen {
            joined.push(self, self.entries[index as usize]);
        }
        joined.finish()
    }

    /// Several frames as one, in their order.
    pub fn concat(parts: &[Arc<Self>]) -> Arc<Self> {
        let size = parts.iter().map(|part| part.len_bytes()).sum();
        let count = parts.iter().map(|part| part.entries.len()).sum();
        let mut joined = Joined::with_capacity(size, count);
        for part in parts {
            for &entry in &part.entries {
                joined.push(part, entry);
            }
        }
        joined.finish()
    }

    fn legacy(&self) -> &Legacy {
        self.legacy.get_or_init(|| {
            let mut bytes = BytesMut::with_capacity(self.bytes.len());
            let mut largest_frame = 0;
            let ends = self
                .entries
                .iter()
                .map(|entry| {
                    let frame = &self.bytes[entry.offset as usize..entry.end()];
                    let begin = bytes.len();
                    encode_message(&legacy_response(frame), &mut bytes);
                    largest_frame = largest_frame.max(bytes.len() - begin);
                    bytes.len() as u32
                })
                .collect();
            Legacy {
                bytes: bytes.freeze(),
                ends,
                largest_frame: largest_frame as u32,
            }
        })
    }

    /// All frames in the messages of one contract.
    fn encoded(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::V1 => &self.bytes,
            Encoding::Legacy => &self.legacy().bytes,
        }
    }

    /// Where the frame of an entry stands in [`Self::encoded`].
    fn place(&self, index: usize, encoding: Encoding) -> Range<usize> {
        match encoding {
            Encoding::V1 => self.entries[index].offset as usize..self.entries[index].end(),
            Encoding::Legacy => {
                let ends = &self.legacy().ends;
                let begin = index.checked_sub(1).map_or(0, |before| ends[before]);
                begin as usize..ends[index] as usize
            }
        }
    }

    /// The largest frame in [`Self::encoded`].
    fn largest(&self, encoding: Encoding) -> usize {
        let largest = match encoding {
            Encoding::V1 => self.largest_frame,
            Encoding::Legacy => self.legacy().largest_frame,
        };
        largest as usize
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

/// What subscribers of the frozen contract see of an event: its payload as text, lossy.
fn legacy_response(frame: &[u8]) -> protos::Response {
    let decoded = v1::SubscribeResponse::decode(&frame[PREFIX_BYTES..]);
    // Frames are only ever made by `EventWriter`, so they decode; an empty text is the harmless answer.
    let payload = match decoded.ok().and_then(|response| response.frame) {
        Some(v1::subscribe_response::Frame::Event(event)) => event.payload,
        _ => Bytes::new(),
    };
    protos::Response {
        data: String::from_utf8_lossy(&payload).into_owned(),
    }
}

struct Joined {
    bytes: BytesMut,
    entries: Vec<Entry>,
}

impl Joined {
    fn with_capacity(bytes: usize, entries: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(bytes),
            entries: Vec::with_capacity(entries),
        }
    }

    fn push(&mut self, from: &Frames, entry: Entry) {
        self.entries.push(Entry {
            offset: self.bytes.len() as u32,
            ..entry
        });
        self.bytes
            .put_slice(&from.bytes[entry.offset as usize..entry.end()]);
    }

    fn finish(self) -> Arc<Frames> {
        Arc::new(Frames::new(self.bytes.freeze(), self.entries.into()))
    }
}

/// A run of entries inside shared [`Frames`]. Never empty.
#[derive(Clone, Debug)]
pub struct Slice {
    frames: Arc<Frames>,
    begin: u32,
    end: u32,
}

impl Slice {
    /// Entries `begin..end` of `frames`.
    pub fn new(frames: Arc<Frames>, begin: usize, end: usize) -> Self {
        debug_assert!(begin < end && end <= frames.entries.len());
        Self {
            frames,
            begin: begin as u32,
            end: end as u32,
        }
    }

    /// The index of the run.
    pub fn entries(&self) -> &[Entry] {
        &self.frames.entries[self.begin as usize..self.end as usize]
    }

    /// Sequence of the first event.
    pub fn first(&self) -> Sequence {
        self.entries()[0].sequence
    }

    /// Sequence of the last event.
    pub fn last(&self) -> Sequence {
        self.frames.entries[self.end as usize - 1].sequence
    }

    /// Bytes of the frames that it keeps in memory, its own among them.
    pub(crate) fn held_bytes(&self) -> usize {
        self.frames.len_bytes()
    }

    /// How many events.
    pub fn count(&self) -> usize {
        (self.end - self.begin) as usize
    }

    /// Bytes of the run in the encoding of version 1.
    pub fn len_bytes(&self) -> usize {
        let entries = self.entries();
        entries[entries.len() - 1].end() - entries[0].offset as usize
    }

    /// How many events from the first on fit in so many bytes; the first always does.
    pub fn count_within(&self, bytes: usize) -> usize {
        let entries = self.entries();
        let begin = entries[0].offset as usize;
        entries
            .partition_point(|entry| entry.end() - begin <= bytes)
            .max(1)
    }

    /// The largest frame of the whole batch, an upper bound for the run.
    pub fn largest_frame(&self) -> usize {
        self.frames.largest_frame as usize
    }

    /// Cuts after `count` entries: what comes before stays here, the rest is returned.
    pub fn split_off(&mut self, count: usize) -> Option<Self> {
        let at = self.begin + count as u32;
        if at >= self.end {
            return None;
        }
        let rest = Self {
            frames: self.frames.clone(),
            begin: at,
            end: self.end,
        };
        self.end = at;
        Some(rest)
    }

    /// Takes the entries that follow directly in the same frames; whether it could.
    pub fn extend_with(&mut self, next: &Self) -> bool {
        let adjacent = Arc::ptr_eq(&self.frames, &next.frames) && self.end == next.begin;
        if adjacent {
            self.end = next.end;
        }
        adjacent
    }

    fn encoded(&self, encoding: Encoding) -> Bytes {
        let begin = self.frames.place(self.begin as usize, encoding).start;
        let end = self.frames.place(self.end as usize - 1, encoding).end;
        self.frames.encoded(encoding).slice(begin..end)
    }
}

/// In which contract's messages a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `longlived.v1.SubscribeResponse`.
    V1,
    /// `protos.Response`.
    Legacy,
}

/// The bytes of several slices as one: shared when there is one slice that is most of its batch, copied together
/// otherwise, since HTTP/2 would write one frame for each.
pub fn join(slices: &[Slice], encoding: Encoding) -> Bytes {
    let bytes = |slice: &Slice| slice.encoded(encoding);
    match slices {
        // A small view would keep the whole batch in memory for as long as its reader is stalled.
        [one] if one.len_bytes() * 4 >= one.frames.len_bytes() => bytes(one),
        many => {
            let parts: Vec<_> = many.iter().map(bytes).collect();
            let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            for part in parts {
                joined.put_slice(&part);
            }
            joined.freeze()
        }
    }
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

/// A control message (anything but an event) with its prefix.
pub fn encode<M: prost::Message>(message: &M) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
    encode_message(message, &mut bytes);
    bytes.freeze()
}

fn encode_message<M: prost::Message>(message: &M, bytes: &mut BytesMut) {
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message
        .encode(bytes)
        .expect("a BytesMut grows as it needs to");
}

// Field numbers of `longlived.v1.Event`; the test below holds them against the generated type.
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

/// The most bytes the encoded event can take, whatever its number and time.
pub fn event_len_max(message: &Message) -> usize {
    // Seconds and nanoseconds: a tag and at most 10 and 5 bytes.
    event_len(message, u64::MAX, u64::MAX, 17)
}

/// Encodes a batch where its numbers are known.
#[derive(Debug)]
pub struct EventWriter {
    joined: Vec<u8>,
    entries: Vec<Entry>,
    // The field `publish_time`, which is the same for all of them, with its tag and length.
    time: Short<19>,
}

impl EventWriter {
    /// Begins a batch whose events carry this publish time, in nanoseconds since 1970.
    pub fn new(publish_time_nanos: i64, count: usize, bytes: usize) -> Self {
        let time = u64::try_from(publish_time_nanos).unwrap_or(0);
        let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
        let mut field = Short::default();
        field.len_field(PUBLISH_TIME, number(seconds) + number(nanos));
        field.number(1, seconds);
        field.number(2, nanos);
        Self {
            joined: Vec::with_capacity(bytes),
            entries: Vec::with_capacity(count),
            time: field,
        }
    }

    /// Appends one event.
    pub fn push(&mut self, message: &Message, topic: TopicId, sequence: u64, previous: u64) {
        let time = self.time.bytes().len();
        // What `event_len` says a time takes has its tag and length already.
        let event = event_len(message, sequence, previous, time - 2);
        let body = len_field(event);
        let offset = self.joined.len();
        let buf = &mut self.joined;
        buf.reserve(PREFIX_BYTES + body);
        // What stands before and behind the texts is put together first: each part is one copy.
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

    /// The tag and length of a field of so many bytes.
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

#[cfg(test)]
mod tests;
