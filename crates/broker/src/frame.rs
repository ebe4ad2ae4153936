//! An event as wire-ready bytes: the complete gRPC message `SubscribeResponse{event}` with its 5-byte prefix.
//! The same bytes are kept, shared and written to every subscriber. The one place of the broker that knows
//! the wire contracts.
//!
//! Does not: write the message inside a frame, which `event` does, or compress for those readers that asked for
//! it, which `compressor` does.

mod compression;
mod compressor;
mod encoded;
mod event;
mod legacy;
mod slice;

use std::{ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use longlived_topic::TopicName;

pub use compression::Compression;
pub use compressor::CompressionCounts;
pub(crate) use compressor::{COMPRESSED_BYTES_MIN, Compressor};
use encoded::{Encoded, Encodings, Write};
pub(crate) use event::topic_of;
pub use event::{EventWriter, event_len_max, events};
pub use slice::Slice;
pub use slice::join;

use crate::position::Sequence;

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
}

/// Consecutive frames with their index, in log order. Never empty.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    entries: Box<[Entry]>,
    largest_frame: u32,
    // Of contracts that do not read the frames as they are.
    others: Encodings,
}

impl Frames {
    fn new(bytes: Bytes, entries: Box<[Entry]>) -> Self {
        let largest_frame = entries.iter().map(|entry| entry.len).max().unwrap_or(0);
        Self {
            bytes,
            entries,
            largest_frame,
            others: Encodings::default(),
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

    /// The frames in another encoding than their own; `None` for their own.
    #[inline]
    fn other(&self, encoding: Encoding) -> Option<&Encoded> {
        let write = encoding.write()?;
        Some(self.others.get(encoding, self, write))
    }

    /// All frames in the messages of one contract.
    fn encoded(&self, encoding: Encoding) -> &Bytes {
        self.other(encoding)
            .map_or(&self.bytes, |other| &other.bytes)
    }

    /// Where the frame of an entry stands in [`Self::encoded`].
    fn place(&self, index: usize, encoding: Encoding) -> Range<usize> {
        match self.other(encoding) {
            None => self.entries[index].offset as usize..self.entries[index].end(),
            Some(other) => other.place(index),
        }
    }

    /// The largest frame in [`Self::encoded`].
    fn largest(&self, encoding: Encoding) -> usize {
        let largest = self
            .other(encoding)
            .map_or(self.largest_frame, |other| other.largest_frame);
        largest as usize
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

/// In which contract's messages a subscriber reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `longlived.v1.SubscribeResponse`.
    V1,
    /// `protos.Response`.
    Legacy,
}

impl Encoding {
    /// How a frame is written in this encoding; `None` where frames are read as they are.
    #[inline]
    fn write(self) -> Option<Write> {
        match self {
            Self::V1 => None,
            Self::Legacy => Some(legacy::write),
        }
    }

    /// The most bytes that a message of this size may have in this encoding.
    #[inline]
    fn bytes_max(self, message: usize) -> usize {
        match self {
            Self::V1 => message,
            Self::Legacy => message * legacy::GROWTH_MAX,
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

#[cfg(test)]
mod tests;
