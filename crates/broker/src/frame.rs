//! An event as wire-ready bytes: the complete gRPC message `SubscribeResponse{event}` with its 5-byte prefix.
//! The same bytes are kept, shared and written to every subscriber. The one file of the broker that knows
//! the wire contracts.
//!
//! The event is written field by field, as prost would write it, because the generated type would need a
//! copy of topic, key and headers for every event.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use longlived_api::{protos, v1};
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::{message::Message, position::Sequence};

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
            let ends = self
                .entries
                .iter()
                .map(|entry| {
                    let frame = &self.bytes[entry.offset as usize..entry.end()];
                    encode_message(&legacy_response(frame), &mut bytes);
                    bytes.len() as u32
                })
                .collect();
            Legacy {
                bytes: bytes.freeze(),
                ends,
            }
        })
    }
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

    fn v1(&self) -> Bytes {
        let entries = self.entries();
        self.frames
            .bytes
            .slice(entries[0].offset as usize..entries[entries.len() - 1].end())
    }

    fn legacy(&self) -> Bytes {
        let legacy = self.frames.legacy();
        let begin = match self.begin {
            0 => 0,
            begin => legacy.ends[begin as usize - 1] as usize,
        };
        legacy
            .bytes
            .slice(begin..legacy.ends[self.end as usize - 1] as usize)
    }
}

/// In which contract's messages a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `longlived.v1.SubscribeResponse`.
    V1,
    /// `protos.Response`.
    Legacy,
}

/// The bytes of several slices as one: shared when there is one slice that is most of its batch, copied together
/// otherwise, since HTTP/2 would write one frame for each.
pub fn join(slices: &[Slice], encoding: Encoding) -> Bytes {
    let bytes = |slice: &Slice| match encoding {
        Encoding::V1 => slice.v1(),
        Encoding::Legacy => slice.legacy(),
    };
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
    joined: BytesMut,
    entries: Vec<Entry>,
    seconds: u64,
    nanos: u64,
}

impl EventWriter {
    /// Begins a batch whose events carry this publish time, in nanoseconds since 1970.
    pub fn new(publish_time_nanos: i64, count: usize, bytes: usize) -> Self {
        let time = u64::try_from(publish_time_nanos).unwrap_or(0);
        Self {
            joined: BytesMut::with_capacity(bytes),
            entries: Vec::with_capacity(count),
            seconds: time / 1_000_000_000,
            nanos: time % 1_000_000_000,
        }
    }

    /// Appends one event.
    pub fn push(&mut self, message: &Message, topic: TopicId, sequence: u64, previous: u64) {
        let time = number(self.seconds) + number(self.nanos);
        let event = event_len(message, sequence, previous, time);
        let body = len_field(event);
        let offset = self.joined.len();
        let buf = &mut self.joined;
        buf.reserve(PREFIX_BYTES + body);
        buf.put_u8(0);
        buf.put_u32(body as u32);
        put_len(buf, RESPONSE_EVENT, event);
        put_bytes(buf, TOPIC, message.topic.as_str().as_bytes());
        put_number(buf, SEQUENCE, sequence);
        put_number(buf, PREVIOUS_SEQUENCE, previous);
        put_bytes(buf, PAYLOAD, &message.payload);
        put_len(buf, PUBLISH_TIME, time);
        put_number(buf, 1, self.seconds);
        put_number(buf, 2, self.nanos);
        put_bytes(buf, KEY, message.key.as_bytes());
        for (name, value) in &message.headers {
            put_len(buf, HEADERS, optional(name.len()) + optional(value.len()));
            put_bytes(buf, 1, name.as_bytes());
            put_bytes(buf, 2, value.as_bytes());
        }
        put_number(buf, DELETED, u64::from(message.deleted));
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
        Arc::new(Frames::new(self.joined.freeze(), self.entries.into()))
    }
}

fn put_len(buf: &mut BytesMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(len as u64, buf);
}

fn put_bytes(buf: &mut BytesMut, tag: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_len(buf, tag, bytes.len());
        buf.put_slice(bytes);
    }
}

fn put_number(buf: &mut BytesMut, tag: u32, value: u64) {
    if value != 0 {
        encode_key(tag, WireType::Varint, buf);
        encode_varint(value, buf);
    }
}

#[cfg(test)]
mod tests;
