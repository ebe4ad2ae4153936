//! The small files of a data directory, and the footers of sealed files: messages with a checksum before them.

use std::{io, path::Path};

use prost::Message;

use super::files::{self, Files, OpenMode};
use crate::store::clock::{Anchor, Correction, Lasting, Stamp};

/// Newest format this code reads and the one it writes.
pub(super) const FORMAT: u32 = 2;
const ENVELOPE_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"longlive";

/// `META`: the identity of a directory. The epoch changes only on request (`new-epoch`), and the format when a later
/// version of this program opens the directory.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Meta {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
    /// Begins the checksum of every record's header.
    #[prost(fixed64, tag = "3")]
    pub(super) record_secret: u64,
    #[prost(fixed64, repeated, tag = "4")]
    pub(super) message_key_secret: Vec<u64>,
    /// How often the epoch was changed: of two copies that differ, the one with more holds.
    #[prost(uint64, tag = "5")]
    pub(super) epoch_changes: u64,
}

/// `STATE`: the sealed files and the removed ranges. Replaced as a whole; the higher version holds.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct State {
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    /// Everything up to here is in sealed files, or gone.
    #[prost(uint64, tag = "2")]
    pub(super) sealed_through: u64,
    /// No event has a later publish time up to there.
    #[prost(int64, tag = "3")]
    pub(super) sealed_time: i64,
    #[prost(message, repeated, tag = "4")]
    pub(super) files: Vec<FileRef>,
    #[prost(message, repeated, tag = "5")]
    pub(super) classes: Vec<ClassState>,
    #[prost(message, repeated, tag = "6")]
    pub(super) topics: Vec<TopicState>,
    /// Topics that are not listed may have lost events up to here.
    #[prost(uint64, tag = "7")]
    pub(super) forgotten_through: u64,
    #[prost(message, repeated, tag = "8")]
    pub(super) holes: Vec<Hole>,
    /// No sealed file has had this number or a higher one.
    #[prost(uint64, tag = "9")]
    pub(super) next_file: u64,
    /// The state of the clock of ages; format 1 has none.
    #[prost(message, optional, tag = "10")]
    pub(super) clock: Option<ClockState>,
    /// The directory has a `HEAD`: one that is not there was lost.
    #[prost(bool, tag = "11")]
    pub(super) has_head: bool,
}

/// [`Lasting`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ClockState {
    #[prost(int64, tag = "1")]
    pub(super) last: i64,
    #[prost(message, repeated, tag = "2")]
    pub(super) corrections: Vec<CorrectionState>,
    #[prost(message, optional, tag = "3")]
    pub(super) anchor: Option<AnchorState>,
    #[prost(int64, optional, tag = "4")]
    pub(super) uncertain_since: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct CorrectionState {
    #[prost(int64, tag = "1")]
    pub(super) through: i64,
    #[prost(int64, tag = "2")]
    pub(super) by: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct AnchorState {
    #[prost(int64, tag = "1")]
    pub(super) clock: i64,
    #[prost(int64, tag = "2")]
    pub(super) wall: i64,
}

impl From<&Lasting> for ClockState {
    fn from(lasting: &Lasting) -> Self {
        let corrections = lasting.corrections.iter();
        Self {
            last: lasting.last,
            corrections: corrections
                .map(|&Correction { through, by }| CorrectionState { through, by })
                .collect(),
            anchor: lasting
                .anchor
                .map(|Anchor { clock, wall }| AnchorState { clock, wall }),
            uncertain_since: lasting.uncertain_since,
        }
    }
}

impl From<&ClockState> for Lasting {
    fn from(state: &ClockState) -> Self {
        let corrections = state.corrections.iter();
        Self {
            last: state.last,
            corrections: corrections
                .map(|&CorrectionState { through, by }| Correction { through, by })
                .collect(),
            anchor: state
                .anchor
                .map(|AnchorState { clock, wall }| Anchor { clock, wall }),
            uncertain_since: state.uncertain_since,
        }
    }
}

/// A sealed file.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct FileRef {
    #[prost(uint64, tag = "1")]
    pub(super) first: u64,
    #[prost(uint64, tag = "2")]
    pub(super) last: u64,
    /// Its name; no number is used twice.
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    /// Its class.
    #[prost(string, tag = "4")]
    pub(super) class: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ClassState {
    #[prost(string, tag = "1")]
    pub(super) identity: String,
    /// Nothing of the class up to here is kept.
    #[prost(uint64, tag = "2")]
    pub(super) floor: u64,
    #[prost(int64, tag = "3")]
    pub(super) floor_time: i64,
}

/// `FLOORS`: the removals of retention since `STATE` was written, so that they do not come back when a class keeps more
/// at the next start. If the file is gone or damaged, only these are lost.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Floors {
    /// Counted with those of `STATE`: the higher one is newer.
    #[prost(uint64, tag = "1")]
    pub(super) version: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) classes: Vec<ClassState>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TopicState {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) last: u64,
    #[prost(uint64, tag = "3")]
    pub(super) trimmed_through: u64,
}

/// Events that the disk did not give back.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Hole {
    /// Exclusive.
    #[prost(uint64, tag = "1")]
    pub(super) after: u64,
    /// Inclusive.
    #[prost(uint64, tag = "2")]
    pub(super) through: u64,
}

/// A part of `IDS`: message ids of events that are sealed. In format 1 all of them are one part.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Ids {
    #[prost(fixed64, repeated, tag = "1")]
    pub(super) key_low: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub(super) key_high: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) sequence: Vec<u64>,
    #[prost(int64, repeated, tag = "4")]
    pub(super) taken: Vec<i64>,
    /// Everything up to here was sealed when it was written; 0 when that is not said.
    #[prost(uint64, tag = "5")]
    pub(super) through: u64,
    /// How many parts there are; 0 in format 1.
    #[prost(uint32, tag = "6")]
    pub(super) parts: u32,
}

/// The content of a sealed file; in memory for as long as the file is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Summary {
    /// Retention class.
    #[prost(string, tag = "1")]
    pub(super) class: String,
    /// By the number that the file's records use.
    #[prost(message, repeated, tag = "2")]
    pub(super) topics: Vec<TopicSummary>,
    #[prost(message, repeated, tag = "3")]
    pub(super) blocks: Vec<Block>,
    #[prost(int64, tag = "4")]
    pub(super) last_time: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TopicSummary {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint32, tag = "2")]
    pub(super) events: u32,
    #[prost(uint64, tag = "3")]
    pub(super) bytes: u64,
    #[prost(uint64, tag = "4")]
    pub(super) last: u64,
}

/// One record of a sealed file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Block {
    #[prost(uint64, tag = "1")]
    pub(super) offset: u64,
    #[prost(uint32, tag = "2")]
    pub(super) record_bytes: u32,
    #[prost(uint32, tag = "3")]
    pub(super) events: u32,
    #[prost(uint64, tag = "4")]
    pub(super) first: u64,
    #[prost(uint64, tag = "5")]
    pub(super) last: u64,
    #[prost(int64, tag = "6")]
    pub(super) time: i64,
    /// When its first event was taken; format 1 does not say.
    #[prost(int64, optional, tag = "7")]
    pub(super) taken: Option<i64>,
}

impl Block {
    /// Times of its first event.
    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            published: self.time,
            taken: self.taken.unwrap_or(self.time),
        }
    }
}

/// Where each topic's events stand in a sealed file; read when it is needed.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Postings {
    #[prost(message, repeated, tag = "1")]
    pub(super) topics: Vec<TopicPostings>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TopicPostings {
    /// [`place`] of each event, rising.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) places: Vec<u32>,
}

/// The most events in one block: a place has 12 bits for them, and 20 for the block.
pub(super) const BLOCK_EVENTS_MAX: usize = 1 << 12;
/// The most blocks in one file.
pub(super) const BLOCKS_MAX: usize = 1 << 20;

/// Block and entry as one number that rises with the sequence.
pub(super) fn place(block: usize, entry: usize) -> u32 {
    debug_assert!(block < BLOCKS_MAX && entry < BLOCK_EVENTS_MAX);
    (block << 12 | entry) as u32
}

/// The two parts of a place.
pub(super) fn split(place: u32) -> (usize, usize) {
    ((place >> 12) as usize, (place & 0xfff) as usize)
}

/// The most message ids in one part of `IDS`: one damaged byte loses that many.
pub(super) const IDS_PART_MAX: usize = 256;

/// The parts of a file that is several messages, one behind the other: those that are whole, and whether there was
/// anything else.
pub(super) fn unseal_parts<M: Message + Default>(content: &[u8]) -> (Vec<M>, bool) {
    let (mut parts, mut damaged) = (Vec::new(), false);
    let mut rest = content;
    while !rest.is_empty() {
        if let Some((part, len)) = unseal_first(rest) {
            parts.push(part);
            rest = &rest[len..];
            continue;
        }
        damaged = true;
        // The next one begins somewhere behind.
        let next = rest[1..].windows(MAGIC.len()).position(|at| at == MAGIC);
        rest = next.map_or(&[], |next| &rest[next + 1..]);
    }
    (parts, damaged)
}

/// A message with its envelope.
pub(super) fn seal(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut content = Vec::with_capacity(ENVELOPE_BYTES + body.len());
    content.extend_from_slice(MAGIC);
    content.extend((body.len() as u32).to_le_bytes());
    content.extend(crc32c::crc32c(&body).to_le_bytes());
    content.extend(body);
    content
}

/// The message in an envelope; `None` when it is damaged.
pub(super) fn unseal<M: Message + Default>(content: &[u8]) -> Option<M> {
    unseal_first(content).map(|(message, _)| message)
}

/// The message in an envelope, and the length of both.
fn unseal_first<M: Message + Default>(content: &[u8]) -> Option<(M, usize)> {
    let (envelope, body) = content.split_at_checked(ENVELOPE_BYTES)?;
    let number = |at: usize| {
        u32::from_le_bytes([
            envelope[at],
            envelope[at + 1],
            envelope[at + 2],
            envelope[at + 3],
        ])
    };
    let body = body.get(..number(8) as usize)?;
    let whole = &envelope[..8] == MAGIC && crc32c::crc32c(body) == number(12);
    let message = whole.then(|| M::decode(body).ok()).flatten()?;
    Some((message, ENVELOPE_BYTES + body.len()))
}

/// Reads a small file; `None` when it is not there or damaged.
pub(super) fn read<M: Message + Default>(files: &dyn Files, path: &Path) -> io::Result<Option<M>> {
    match files.open(path, OpenMode::Read) {
        Ok(file) => match files::read_all(&*file) {
            Err(error) if files::is_damage(&error) => Ok(None),
            content => Ok(unseal(&content?)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file of several messages: those that are whole, and whether all that was there were; `None` when it is not
/// there.
pub(super) fn read_parts<M: Message + Default>(
    files: &dyn Files,
    path: &Path,
) -> io::Result<Option<(Vec<M>, bool)>> {
    match files.open(path, OpenMode::Read) {
        Ok(file) => {
            let content = files::read_all_of_damaged(&*file)?;
            Ok(Some(unseal_parts(&content)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file of several messages.
pub(super) fn write_parts(
    files: &dyn Files,
    path: &Path,
    parts: impl IntoIterator<Item = impl Message>,
) -> io::Result<()> {
    let content: Vec<u8> = parts.into_iter().flat_map(|part| seal(&part)).collect();
    files::replace(files, path, &content)
}

/// Replaces a small file.
pub(super) fn write(files: &dyn Files, path: &Path, message: &impl Message) -> io::Result<()> {
    files::replace(files, path, &seal(message))
}

/// Both copies of a small file that the store cannot do without.
pub(super) fn read_pair<M: Message + Default>(
    files: &dyn Files,
    path: &Path,
) -> io::Result<[Option<M>; 2]> {
    Ok([
        read(files, path)?,
        read(files, &path.with_extension("copy"))?,
    ])
}

/// Replaces both copies, one after the other.
pub(super) fn write_pair(files: &dyn Files, path: &Path, message: &impl Message) -> io::Result<()> {
    write(files, path, message)?;
    write(files, &path.with_extension("copy"), message)
}
