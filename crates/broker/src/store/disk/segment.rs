//! The log's own files: all classes together, in the order of the log, appended to and synced. The events of a full one
//! are moved into sealed files, class by class, and the segment is removed.
//!
//! Holds: a record is appended only behind one that is synced, so at most the last can be torn; a segment is never
//! appended to by another process than the one that made it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    files::{File, Files, OpenMode, is_damage},
    record::{ALIGN, Encoded},
};
use crate::{
    faults::{Fault, planted},
    frame::{Entry, Frames, TopicId},
    position::Sequence,
    store::clock::Stamp,
};

const MAGIC: &[u8; 8] = b"LLSEGMNT";
/// Where the first record begins.
pub(super) const SEGMENT_HEADER_BYTES: usize = ALIGN;

/// A segment's file.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    allocated: u64,
    /// Where the next record begins.
    used: AtomicU64,
}

/// The beginning of a segment: its magic, and its length.
fn header(bytes: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&bytes.to_le_bytes());
    header
}

/// Whether a segment has lost its end, and records may have been there. Records follow each other without a gap, so
/// there was none behind unused space.
pub(super) fn is_cut(content: &[u8], written: usize) -> bool {
    let bytes = content
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.first_chunk());
    let is_short = bytes.is_some_and(|bytes| (content.len() as u64) < u64::from_le_bytes(*bytes));
    is_short && content.len() < written + ALIGN
}

pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.seg"))
}

/// The number in a name; `None` when the name is no segment's or sealed file's.
pub(super) fn number_in(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok()
}

impl SegmentFile {
    /// Creates an empty segment with space for a number of bytes.
    pub(super) fn create(
        files: &dyn Files,
        dir: &Path,
        number: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let path = path(dir, number);
        let made = Self::make(files, dir, &path, number, bytes);
        if made.is_err() {
            // Its allocated part would be missing where the disk is full.
            files.remove(&path).ok();
        }
        made
    }

    fn make(
        files: &dyn Files,
        dir: &Path,
        path: &Path,
        number: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let file = files.open(path, OpenMode::Create)?;
        file.allocate(bytes)?;
        file.write_all_at(&[&header(bytes)], 0)?;
        file.sync()?;
        files.sync_dir(dir)?;
        Ok(Self {
            number,
            path: path.to_owned(),
            file,
            allocated: bytes,
            used: AtomicU64::new(SEGMENT_HEADER_BYTES as u64),
        })
    }

    /// A segment that another process left.
    pub(super) fn left(files: &dyn Files, dir: &Path, number: u64) -> io::Result<Self> {
        let path = path(dir, number);
        let file = files.open(&path, OpenMode::Read)?;
        let bytes = file.len_bytes()?;
        Ok(Self {
            number,
            path,
            file,
            allocated: bytes,
            used: AtomicU64::new(bytes),
        })
    }

    /// Where the next record begins.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Its space.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(super) fn has_space(&self, record_bytes: usize) -> bool {
        self.used() + record_bytes as u64 <= self.allocated
    }

    /// Whether the next one is to be made.
    pub(super) fn is_filling(&self) -> bool {
        self.used() > self.allocated / 2
    }

    /// Writes a record behind the last.
    pub(super) fn append(&self, encoded: &Encoded, frames: &Frames) -> io::Result<()> {
        let parts = encoded.parts(frames.bytes());
        self.file.write_all_at(&parts, self.used())
    }

    /// The record that was appended is on the disk.
    pub(super) fn keep(&self, record_bytes: usize) {
        self.used.fetch_add(record_bytes as u64, Ordering::AcqRel);
    }

    /// The frames of a batch; `None` when they are damaged.
    pub(super) fn frames_of(&self, record: &Record) -> io::Result<Option<Bytes>> {
        let mut content = vec![0; record.frames_bytes as usize];
        match self.file.read_exact_at(&mut content, record.frames_at) {
            Ok(()) => {}
            Err(error) if is_damage(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let whole = crc32c::crc32c(&content) == record.frames_crc || planted(Fault::DamageServed);
        Ok(whole.then(|| content.into()))
    }

    /// Takes back a record that could not be written as a whole; the segment ends before it.
    pub(super) fn take_back(&self) -> io::Result<()> {
        let at = self.used();
        self.file.set_len(at)?;
        self.file.write_all_at(&[&header(at)], 0)?;
        self.file.sync()
    }
}

/// A segment with its index in memory.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<SegmentFile>,
    pub(super) records: Vec<Record>,
    postings: FxHashMap<TopicId, Vec<(u32, u32)>>,
}

/// One batch.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Where its frames begin in the file.
    pub(super) frames_at: u64,
    pub(super) frames_bytes: u32,
    pub(super) frames_crc: u32,
    pub(super) stamp: Stamp,
    pub(super) entries: Arc<[Entry]>,
}

impl Record {
    pub(super) fn first(&self) -> Sequence {
        self.entries[0].sequence
    }

    pub(super) fn last(&self) -> Sequence {
        self.entries[self.entries.len() - 1].sequence
    }

    /// Index of the first entry after a sequence.
    pub(super) fn index_after(&self, sequence: Sequence) -> usize {
        self.entries
            .partition_point(|entry| entry.sequence <= sequence)
    }
}

impl Segment {
    pub(super) fn new(file: Arc<SegmentFile>) -> Self {
        Self {
            file,
            records: Vec::new(),
            postings: FxHashMap::default(),
        }
    }

    pub(super) fn push(&mut self, record: Record) {
        let number = self.records.len() as u32;
        for (index, entry) in (0..).zip(record.entries.iter()) {
            let places = self.postings.entry(entry.topic).or_default();
            places.push((number, index));
        }
        self.records.push(record);
    }

    pub(super) fn last(&self) -> Option<Sequence> {
        self.records.last().map(Record::last)
    }

    /// Every topic that has events here.
    pub(super) fn topics(&self) -> impl Iterator<Item = TopicId> + '_ {
        self.postings.keys().copied()
    }

    /// Record and entry of each of a topic's events.
    pub(super) fn places(&self, topic: TopicId) -> &[(u32, u32)] {
        self.postings.get(&topic).map_or(&[], Vec::as_slice)
    }
}
