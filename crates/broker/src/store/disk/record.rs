//! One batch on disk: a header, an index, and the frames as they go to subscribers.
//!
//! The header has a checksum of its own, begun with a secret of the file, so that no payload can look like one. Index
//! and frames have one each, so that the lost events are known after damage in the payload.
//!
//! Records begin at multiples of [`ALIGN`], so a header never lies across two sectors: after a power cut it is there or
//! it is zeros.

use bytes::Bytes;

use crate::{
    frame::{Entry, Frames, TopicId},
    message::MessageKey,
    position::Sequence,
    store::clock::Stamp,
};

/// Every record begins at a multiple of this.
pub(super) const ALIGN: usize = 64;
/// Length of a header.
pub(super) const HEADER_BYTES: usize = 64;
const MAGIC: u32 = u32::from_le_bytes(*b"LLR2");
/// Of format 1, whose records say nothing of when they were taken.
const MAGIC_OF_FORMAT_1: u32 = u32::from_le_bytes(*b"LLR1");
const ENTRY_BYTES: usize = 12;
const TAKEN_BYTES: usize = 8;
const MARK_BYTES: usize = 24;
const MARK_BYTES_OF_FORMAT_1: usize = 16;
const KEY_BYTES: usize = 24;
/// Set in the count behind the entries when keys follow them; marks otherwise. No record needs both.
const KEYS: u32 = 1 << 31;

/// The fields of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Events.
    pub(super) count: u32,
    /// First sequence.
    pub(super) first: Sequence,
    /// Last sequence.
    pub(super) last: Sequence,
    /// Publish time of the first event, in nanoseconds since 1970.
    pub(super) time: i64,
    /// Last sequence of the record before this one; a reader that knows a lower one has lost something.
    pub(super) previous_last: Sequence,
    pub(super) index_bytes: u32,
    pub(super) frames_bytes: u32,
    index_crc: u32,
    pub(super) frames_crc: u32,
    extras: Extras,
    /// Whether the index says when its events were taken.
    says_taken: bool,
}

/// The part of an index behind its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extras {
    Marks(u32),
    Keys(u32),
}

impl Extras {
    fn bytes(self, says_taken: bool) -> usize {
        match self {
            Self::Marks(count) => count as usize * mark_bytes(says_taken),
            Self::Keys(count) => count as usize * KEY_BYTES,
        }
    }

    fn encode(self) -> u32 {
        match self {
            Self::Marks(count) => count,
            Self::Keys(count) => count | KEYS,
        }
    }

    fn decode(number: u32) -> Self {
        if number & KEYS == 0 {
            Self::Marks(number)
        } else {
            Self::Keys(number & !KEYS)
        }
    }
}

fn mark_bytes(says_taken: bool) -> usize {
    if says_taken {
        MARK_BYTES
    } else {
        MARK_BYTES_OF_FORMAT_1
    }
}

impl Header {
    /// Length of the whole record, up to where the next one begins.
    pub(super) fn record_bytes(&self) -> usize {
        let len = HEADER_BYTES + self.index_bytes as usize + self.frames_bytes as usize;
        len.next_multiple_of(ALIGN)
    }

    /// Where the frames begin, from the record's beginning.
    pub(super) fn frames_at(&self) -> usize {
        HEADER_BYTES + self.index_bytes as usize
    }

    fn encode(&self, secret: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields = [
            self.index_bytes,
            self.frames_bytes,
            self.count,
            self.index_crc,
            self.frames_crc,
            self.extras.encode(),
        ];
        let magic = if self.says_taken {
            MAGIC
        } else {
            MAGIC_OF_FORMAT_1
        };
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        for (field, place) in fields.iter().zip(bytes[8..32].chunks_exact_mut(4)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let wide = [
            self.first,
            self.last,
            self.time.cast_unsigned(),
            self.previous_last,
        ];
        for (field, place) in wide.iter().zip(bytes[32..].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = header_crc(&bytes, secret);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` when this is no header written under this secret.
    pub(super) fn decode(bytes: &[u8], secret: u64) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let narrow = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let wide = |at: usize| u64::from(narrow(at)) | u64::from(narrow(at + 4)) << 32;
        let says_taken = match narrow(0) {
            MAGIC => true,
            MAGIC_OF_FORMAT_1 => false,
            _ => return None,
        };
        if narrow(4) != header_crc(bytes, secret) {
            return None;
        }
        let header = Self {
            index_bytes: narrow(8),
            frames_bytes: narrow(12),
            count: narrow(16),
            index_crc: narrow(20),
            frames_crc: narrow(24),
            extras: Extras::decode(narrow(28)),
            first: wide(32),
            last: wide(40),
            time: wide(48).cast_signed(),
            previous_last: wide(56),
            says_taken,
        };
        let taken = if says_taken { TAKEN_BYTES } else { 0 };
        let extras = header.extras.bytes(says_taken);
        let expected = header.count as usize * ENTRY_BYTES + taken + extras;
        let lawful = header.count > 0
            && header.first <= header.last
            && header.previous_last < header.first
            && header.index_bytes as usize == expected;
        lawful.then_some(header)
    }
}

fn header_crc(bytes: &[u8; HEADER_BYTES], secret: u64) -> u32 {
    let crc = crc32c::crc32c(&secret.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &bytes[..4]);
    crc32c::crc32c_append(crc, &bytes[8..])
}

/// From this entry on, events have these times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) entry: u32,
    pub(super) stamp: Stamp,
}

/// The index of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Its events; the topic is the number that the file uses.
    pub(super) entries: Vec<Entry>,
    /// Times of the first event.
    pub(super) stamp: Stamp,
    /// Changes of the times after the first event.
    pub(super) marks: Vec<Mark>,
    /// Entries with message ids.
    pub(super) keys: Vec<(u32, MessageKey)>,
}

impl Index {
    /// Times of an entry.
    pub(super) fn stamp_of(&self, entry: usize) -> Stamp {
        let marks = self
            .marks
            .partition_point(|mark| mark.entry as usize <= entry);
        marks
            .checked_sub(1)
            .map_or(self.stamp, |last| self.marks[last].stamp)
    }
}

/// A record to be written: the part before the frames, and the padding after them.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) header_and_index: Vec<u8>,
    pub(super) header: Header,
}

impl Encoded {
    /// The parts of the record, in order.
    pub(super) fn parts<'a>(&'a self, frames: &'a [u8]) -> [&'a [u8]; 3] {
        const PADDING: [u8; ALIGN] = [0; ALIGN];
        let padding = self.header.record_bytes() - self.header.frames_at() - frames.len();
        [&self.header_and_index, frames, &PADDING[..padding]]
    }
}

/// The part of an index beside its entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beside<'a> {
    Marks(&'a [Mark]),
    Keys(&'a [(u32, MessageKey)]),
}

/// Encodes everything of a record but its frames. `topic` gives the number that the file uses for a topic.
pub(super) fn encode(
    frames: &Frames,
    stamp: Stamp,
    beside: Beside<'_>,
    previous_last: Sequence,
    secret: u64,
    topic: impl Fn(TopicId) -> u32,
) -> Encoded {
    let entries = frames.entries();
    let first = frames.first();
    let extras = match beside {
        Beside::Marks(marks) => Extras::Marks(marks.len() as u32),
        Beside::Keys(keys) => Extras::Keys(keys.len() as u32),
    };
    let index_bytes = entries.len() * ENTRY_BYTES + TAKEN_BYTES + extras.bytes(true);
    let mut header_and_index = Vec::with_capacity(HEADER_BYTES + index_bytes);
    header_and_index.resize(HEADER_BYTES, 0);
    for entry in entries {
        header_and_index.extend(((entry.sequence - first) as u32).to_le_bytes());
        header_and_index.extend(entry.offset.to_le_bytes());
        header_and_index.extend(topic(entry.topic).to_le_bytes());
    }
    header_and_index.extend(stamp.taken.to_le_bytes());
    match beside {
        Beside::Marks(marks) => {
            for mark in marks {
                header_and_index.extend(u64::from(mark.entry).to_le_bytes());
                header_and_index.extend(mark.stamp.published.to_le_bytes());
                header_and_index.extend(mark.stamp.taken.to_le_bytes());
            }
        }
        Beside::Keys(keys) => {
            for (entry, key) in keys {
                header_and_index.extend(u64::from(*entry).to_le_bytes());
                header_and_index.extend(key.0.to_le_bytes());
            }
        }
    }
    let header = Header {
        count: entries.len() as u32,
        first,
        last: frames.last(),
        time: stamp.published,
        previous_last,
        index_bytes: index_bytes as u32,
        frames_bytes: frames.bytes().len() as u32,
        index_crc: crc32c::crc32c(&header_and_index[HEADER_BYTES..]),
        frames_crc: crc32c::crc32c(frames.bytes()),
        extras,
        says_taken: true,
    };
    header_and_index[..HEADER_BYTES].copy_from_slice(&header.encode(secret));
    Encoded {
        header_and_index,
        header,
    }
}

/// Reads an index; `None` when it is damaged.
pub(super) fn decode_index(header: &Header, bytes: &[u8]) -> Option<Index> {
    let bytes = bytes.get(..header.index_bytes as usize)?;
    if crc32c::crc32c(bytes) != header.index_crc {
        return None;
    }
    let narrow = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let wide = |bytes: &[u8]| u64::from(narrow(bytes)) | u64::from(narrow(&bytes[4..])) << 32;
    let (entries, rest) = bytes.split_at(header.count as usize * ENTRY_BYTES);
    let (taken, rest) = rest.split_at(if header.says_taken { TAKEN_BYTES } else { 0 });
    // Before format 2 the time that subscribers see was all there was.
    let taken_or = |published: i64, bytes: &[u8]| match bytes {
        [] => published,
        bytes => wide(bytes).cast_signed(),
    };
    let (marks, keys): (&[u8], &[u8]) = match header.extras {
        Extras::Marks(_) => (rest, &[]),
        Extras::Keys(_) => (&[], rest),
    };
    let ends = entries
        .chunks_exact(ENTRY_BYTES)
        .skip(1)
        .map(|next| narrow(&next[4..]))
        .chain([header.frames_bytes]);
    let entries = entries
        .chunks_exact(ENTRY_BYTES)
        .zip(ends)
        .map(|(entry, end)| {
            let offset = narrow(&entry[4..]);
            Some(Entry {
                sequence: header.first + u64::from(narrow(entry)),
                offset,
                len: end.checked_sub(offset)?,
                topic: narrow(&entry[8..]),
            })
        })
        .collect::<Option<_>>()?;
    let mark = |mark: &[u8]| {
        let published = wide(&mark[8..]).cast_signed();
        Mark {
            entry: narrow(mark),
            stamp: Stamp {
                published,
                taken: taken_or(published, &mark[16..]),
            },
        }
    };
    Some(Index {
        entries,
        stamp: Stamp {
            published: header.time,
            taken: taken_or(header.time, taken),
        },
        marks: marks
            .chunks_exact(mark_bytes(header.says_taken))
            .map(mark)
            .collect(),
        keys: keys
            .chunks_exact(KEY_BYTES)
            .map(|key| {
                let low = u128::from(wide(&key[8..]));
                let high = u128::from(wide(&key[16..]));
                (narrow(key), MessageKey(low | high << 64))
            })
            .collect(),
    })
}

/// Whether frames are the written ones.
pub(super) fn frames_are_whole(header: &Header, frames: &Bytes) -> bool {
    frames.len() == header.frames_bytes as usize && crc32c::crc32c(frames) == header.frames_crc
}

#[cfg(test)]
mod tests {
    use longlived_topic::TopicName;
    use proptest::prelude::*;

    use super::*;
    use crate::{Message, frame::EventWriter};

    fn frames(first: Sequence, steps: &[u64]) -> std::sync::Arc<Frames> {
        let message = Message::new(TopicName::parse("a.b").unwrap(), vec![7; 50]);
        let mut writer = EventWriter::new(steps.len(), 0);
        let mut sequence = first;
        for (topic, step) in (0..).zip(steps) {
            sequence += step;
            writer.push(&message, topic % 3, sequence, 0, 5);
        }
        writer.finish()
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_every_flipped_bit_is_noticed(
            first in 1..1_000_000u64,
            steps in prop::collection::vec(1..50u64, 1..20),
            keys in prop::collection::vec(any::<u128>(), 0..4),
            flip in any::<prop::sample::Index>(),
        ) {
            let frames = frames(first, &steps);
            let keys: Vec<_> = (0..).zip(keys).map(|(entry, key)| (entry, MessageKey(key))).collect();
            let stamp = Stamp { published: 9, taken: 8 };
            let marks = [Mark { entry: 0, stamp: Stamp { published: 11, taken: 10 } }];
            let beside = if keys.is_empty() { Beside::Marks(&marks) } else { Beside::Keys(&keys) };
            let encoded = encode(&frames, stamp, beside, first - 1, 77, |topic| topic + 10);
            let mut bytes = encoded.parts(frames.bytes()).concat();
            prop_assert_eq!(bytes.len(), encoded.header.record_bytes());
            let read = |bytes: &[u8]| {
                let header = Header::decode(bytes, 77)?;
                let index = decode_index(&header, &bytes[HEADER_BYTES..])?;
                let at = header.frames_at();
                let body = Bytes::copy_from_slice(&bytes[at..at + header.frames_bytes as usize]);
                frames_are_whole(&header, &body).then_some((header, index))
            };
            let (header, index) = read(&bytes).unwrap();
            prop_assert_eq!(header, encoded.header);
            prop_assert_eq!(index.stamp, stamp);
            prop_assert_eq!(&index.marks[..], if keys.is_empty() { &marks[..] } else { &[] });
            prop_assert_eq!(index.keys, keys);
            let expected: Vec<_> = frames.entries().iter()
                .map(|entry| Entry { topic: entry.topic + 10, ..*entry }).collect();
            prop_assert_eq!(index.entries, expected);
            prop_assert_eq!(Header::decode(&bytes, 78), None, "another file's record");

            let used = header.frames_at() + header.frames_bytes as usize;
            let bit = flip.index(used * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(read(&bytes), None);
        }
    }
}
