//! A sealed file: events of one retention class in blocks, written once, synced, and never changed. Its footer says
//! which topics are in it and where.
//!
//! Holds: a reader that has the file open can read it after retention has removed its name.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use longlived_topic::TopicName;
use prost::Message as _;
use rustc_hash::FxHashMap;

use super::{
    files::{File, is_damage},
    format::{Block, FileRef, Postings, Summary},
    record::{self, HEADER_BYTES, Header, Index},
};
use crate::{
    faults::{Fault, planted},
    frame::{Frames, TopicId},
    position::Sequence,
};

/// Length of the trailer, the last bytes of a file.
pub(super) const TRAILER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"LLSEALED";

/// A sealed file that is open.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Its number, by which its name and caches know it.
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) topics: Vec<SealedTopic>,
    by_id: FxHashMap<TopicId, u32>,
    pub(super) blocks: Vec<Block>,
    pub(super) last_time: i64,
    pub(super) events: u64,
    record_secret: u64,
    postings: Part,
}

/// A topic by the number that the file's records use.
#[derive(Debug)]
pub(super) struct SealedTopic {
    pub(super) name: TopicName,
    pub(super) id: TopicId,
    pub(super) events: u32,
    pub(super) bytes: u64,
    pub(super) last: Sequence,
}

/// A part of a file and its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

impl Part {
    fn read(self, file: &dyn File) -> io::Result<Option<Bytes>> {
        let mut content = vec![0; self.len as usize];
        let whole = read_or_damaged(file, &mut content, self.offset)?
            && crc32c::crc32c(&content) == self.crc;
        Ok(whole.then(|| content.into()))
    }

    fn lies_within(self, end: u64) -> bool {
        let own_end = self.offset.checked_add(u64::from(self.len));
        own_end.is_some_and(|own_end| own_end <= end)
    }
}

/// The content of the footer, and the place of the postings.
pub(super) struct Footer {
    /// In the order of the file's numbers.
    pub(super) topics: Vec<SealedTopic>,
    pub(super) blocks: Vec<Block>,
    pub(super) last_time: i64,
    pub(super) postings: Part,
}

/// The last bytes of a file: where its footer is.
pub(super) struct Trailer {
    pub(super) summary: Part,
    pub(super) postings: Part,
}

impl Trailer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_BYTES);
        for part in [self.summary, self.postings] {
            bytes.extend(part.offset.to_le_bytes());
            bytes.extend(part.len.to_le_bytes());
            bytes.extend(part.crc.to_le_bytes());
        }
        bytes.extend(MAGIC);
        bytes
    }

    fn decode(bytes: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let narrow = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let part = |at: usize| Part {
            offset: u64::from(narrow(at)) | u64::from(narrow(at + 4)) << 32,
            len: narrow(at + 8),
            crc: narrow(at + 12),
        };
        (&bytes[32..] == MAGIC).then(|| Self {
            summary: part(0),
            postings: part(16),
        })
    }
}

/// One block as it was found.
#[derive(Clone, Debug)]
pub(super) enum Loaded {
    /// As it was written; topics have the file's numbers.
    Whole(Arc<Frames>),
    /// Its payload is damaged; which events those were may still be known.
    Damaged(Option<Arc<Index>>),
}

impl FileRef {
    /// Whether this is the footer of the file that `STATE` names, with blocks that follow each other and end before `end`, and topics that
    /// have the events of the blocks. Retention would look forever for the events of a topic that is not listed.
    fn is_of(&self, summary: &Summary, end: u64) -> bool {
        let blocks = &summary.blocks;
        let lies_within = |block: &Block| {
            let own_end = block.offset.checked_add(u64::from(block.record_bytes));
            own_end.is_some_and(|own_end| own_end <= end)
        };
        let numbered = |block: &Block| block.first > 0 && block.first <= block.last;
        let events = blocks.iter().map(|block| u64::from(block.events));
        let listed = summary.topics.iter().map(|topic| u64::from(topic.events));
        let first = blocks.first().map(|block| block.first);
        let last = blocks.last().map(|block| block.last);
        (first, last) == (Some(self.first), Some(self.last))
            && blocks.iter().all(|it| numbered(it) && lies_within(it))
            && blocks.is_sorted_by(|one, next| one.last < next.first)
            && events.sum::<u64>() == listed.sum::<u64>()
    }
}

/// The content of the footer of the file that `STATE` names so; `None` when it is damaged. The checksum of no bytes is zero, so one that
/// holds does not show that something was written.
pub(super) fn read_summary(
    file: &dyn File,
    named: &FileRef,
) -> io::Result<Option<(Summary, Part)>> {
    let len = file.len_bytes()?;
    let Some(at) = len.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER_BYTES];
    if !read_or_damaged(file, &mut trailer, at)? {
        return Ok(None);
    }
    let Some(trailer) = Trailer::decode(&trailer) else {
        return Ok(None);
    };
    // A damaged place must not lead to a read of more bytes than the file has, or outside of it.
    if !trailer.summary.lies_within(at) || !trailer.postings.lies_within(at) {
        return Ok(None);
    }
    let summary = trailer.summary.read(file)?;
    let summary = summary.and_then(|bytes| Summary::decode(bytes).ok());
    let summary = summary.filter(|summary| named.is_of(summary, at));
    Ok(summary.map(|summary| (summary, trailer.postings)))
}

/// Whether the disk gave back the requested bytes; `false` when it has lost them.
fn read_or_damaged(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Err(error) if is_damage(&error) => Ok(false),
        read => read.map(|()| true),
    }
}

impl Sealed {
    /// A file whose footer is known.
    pub(super) fn new(
        id: u64,
        path: PathBuf,
        file: Arc<dyn File>,
        footer: Footer,
        record_secret: u64,
    ) -> Self {
        let Footer {
            topics,
            blocks,
            last_time,
            postings,
        } = footer;
        let by_id = (0..).zip(&topics).map(|(local, topic)| (topic.id, local));
        Self {
            id,
            path,
            file,
            by_id: by_id.collect(),
            events: blocks.iter().map(|block| u64::from(block.events)).sum(),
            topics,
            blocks,
            last_time,
            record_secret,
            postings,
        }
    }

    /// First sequence.
    pub(super) fn first(&self) -> Sequence {
        self.blocks.first().map_or(0, |block| block.first)
    }

    /// Last sequence.
    pub(super) fn last(&self) -> Sequence {
        self.blocks.last().map_or(0, |block| block.last)
    }

    /// Bytes of its events on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| u64::from(block.record_bytes))
            .sum()
    }

    /// The file's number of a topic.
    pub(super) fn local(&self, id: TopicId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// Reads a whole block.
    pub(super) fn load(&self, block: usize) -> io::Result<Loaded> {
        let block = &self.blocks[block];
        let mut content = vec![0; block.record_bytes as usize];
        if !read_or_damaged(&*self.file, &mut content, block.offset)? {
            return Ok(Loaded::Damaged(None));
        }
        let content = Bytes::from(content);
        let Some(header) = self.header(block, &content) else {
            return Ok(Loaded::Damaged(None));
        };
        let index = record::decode_index(&header, &content[HEADER_BYTES..]);
        let at = header.frames_at();
        let frames = content.slice(at..at + header.frames_bytes as usize);
        let whole = record::frames_are_whole(&header, &frames) || planted(Fault::DamageServed);
        Ok(match index {
            Some(index) if whole => match Frames::from_parts(frames, index.entries) {
                Some(frames) => Loaded::Whole(frames),
                None => Loaded::Damaged(None),
            },
            index => Loaded::Damaged(index.map(Arc::new)),
        })
    }

    /// Reads the index of a block; `None` when it is damaged.
    pub(super) fn load_index(&self, block: usize) -> io::Result<Option<Index>> {
        let block = &self.blocks[block];
        let mut bytes = [0; HEADER_BYTES];
        if !read_or_damaged(&*self.file, &mut bytes, block.offset)? {
            return Ok(None);
        }
        let Some(header) = self.header(block, &bytes) else {
            return Ok(None);
        };
        let mut index = vec![0; header.index_bytes as usize];
        if !read_or_damaged(&*self.file, &mut index, block.offset + HEADER_BYTES as u64)? {
            return Ok(None);
        }
        Ok(record::decode_index(&header, &index))
    }

    fn header(&self, block: &Block, content: &[u8]) -> Option<Header> {
        let header = Header::decode(content, self.record_secret)?;
        // A block that another write put here must not be taken for this one.
        let same = header.first == block.first
            && header.last == block.last
            && header.count == block.events
            && header.record_bytes() == block.record_bytes as usize;
        same.then_some(header)
    }

    /// Reads where each topic's events are; `None` when that is damaged.
    pub(super) fn load_postings(&self) -> io::Result<Option<Postings>> {
        let content = self.postings.read(&*self.file)?;
        Ok(content.and_then(|content| Postings::decode(content).ok()))
    }
}
