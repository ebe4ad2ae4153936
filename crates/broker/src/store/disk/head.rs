//! `HEAD`: the last sequence that was synced and the time it was published at, so that a log whose end is missing is not
//! taken for a shorter one, and no later event is told to be older than a lost one.
//!
//! It is written after each commit and not synced, which costs the commit one small write to memory. A killed process
//! leaves it exact. A power cut may leave an older one. So it is synced with the first commit of a segment, then beside
//! publishing, and always before a sequence is given out that is more than [`NUMBERS_AHEAD`] higher.
//!
//! Holds: its sequence was synced; no sequence that was given out is more than [`NUMBERS_AHEAD`] above it, even if the
//! log is lost.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::files::{self, File, Files, OpenMode, is_damage, is_full};
use crate::position::Sequence;

/// How many numbers are skipped where it is not known how many had been given out: more than a batch has.
pub(super) const NUMBERS_AHEAD: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"LLHEAD 2";
/// Magic, sequence, time, checksum. All of it lies in one sector, which is written as a whole or not at all.
const BYTES: usize = 28;

/// Of a file without the time, which is read and replaced.
const TIMELESS_MAGIC: &[u8; 8] = b"LLHEAD 1";
const TIMELESS_BYTES: usize = 20;

/// The end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: Sequence,
    /// When that event was published, in nanoseconds since 1970.
    pub(super) published: i64,
}

/// The file of the last process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// This event was synced, and perhaps later ones.
    Head(Head),
    /// There is no such file.
    Nothing,
    /// It cannot be read.
    Damaged,
}

#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    record_secret: u64,
    // Once it is known to be whole.
    file: OnceLock<Arc<dyn File>>,
    noted: AtomicU64,
    synced: AtomicU64,
}

impl HeadFile {
    /// The file of a directory, not looked at yet.
    pub(super) fn new(dir: &Path, record_secret: u64) -> Self {
        Self {
            path: dir.join("HEAD"),
            record_secret,
            file: OnceLock::new(),
            noted: AtomicU64::new(0),
            synced: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file of the last process.
    pub(super) fn read(&self, files: &dyn Files) -> io::Result<Left> {
        let file = match files.open(&self.path, OpenMode::Update) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
            file => file?,
        };
        let mut content = [0; BYTES];
        let timeless = &mut content[..TIMELESS_BYTES];
        match file.read_exact_at(timeless, 0) {
            Err(error) if is_damage(&error) => return Ok(Left::Damaged),
            read => read?,
        }
        let number = |at: usize, content: &[u8]| {
            u64::from_le_bytes(std::array::from_fn(|byte| content[at + byte]))
        };
        let sequence = number(8, timeless);
        if *timeless == self.timeless_content(sequence) {
            // Not kept open: `begin` makes it anew.
            let published = 0;
            return Ok(Left::Head(Head {
                sequence,
                published,
            }));
        }
        match file.read_exact_at(&mut content, 0) {
            Err(error) if is_damage(&error) => return Ok(Left::Damaged),
            read => read?,
        }
        let published = number(16, &content).cast_signed();
        let head = Head {
            sequence,
            published,
        };
        if content != self.content(head) {
            return Ok(Left::Damaged);
        }
        self.file.get_or_init(|| file);
        Ok(Left::Head(head))
    }

    /// From here on `head` is the last event; that it was synced is written elsewhere. Makes the file anew where it is
    /// not whole.
    pub(super) fn begin(&self, files: &dyn Files, head: Head) -> io::Result<()> {
        if self.file.get().is_none() {
            files::replace(files, &self.path, &self.content(head))?;
            let file = files.open(&self.path, OpenMode::Update)?;
            self.file.get_or_init(|| file);
        }
        self.synced.store(head.sequence, Ordering::Release);
        self.note(head)
    }

    /// Everything up to this event was synced. A full disk is no reason to stop: the content of the file stays true.
    pub(super) fn note(&self, head: Head) -> io::Result<()> {
        let Some(file) = self.file.get() else {
            return Ok(());
        };
        match file.write_all_at(&[&self.content(head)], 0) {
            Err(error) if is_full(&error) => return Ok(()),
            written => written?,
        }
        self.noted.store(head.sequence, Ordering::Release);
        Ok(())
    }

    /// Returns when the last note is on the disk. Does nothing when it is.
    pub(super) fn sync(&self) -> io::Result<()> {
        let noted = self.noted.load(Ordering::Acquire);
        if noted > self.synced()
            && let Some(file) = self.file.get()
        {
            file.sync()?;
            self.synced.fetch_max(noted, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The sequence that the disk has for certain.
    pub(super) fn synced(&self) -> Sequence {
        self.synced.load(Ordering::Acquire)
    }

    fn content(&self, head: Head) -> [u8; BYTES] {
        let mut content = [0; BYTES];
        content[..8].copy_from_slice(MAGIC);
        content[8..16].copy_from_slice(&head.sequence.to_le_bytes());
        content[16..24].copy_from_slice(&head.published.to_le_bytes());
        let crc = self.crc(&content[..24]);
        content[24..].copy_from_slice(&crc.to_le_bytes());
        content
    }

    fn timeless_content(&self, sequence: Sequence) -> [u8; TIMELESS_BYTES] {
        let mut content = [0; TIMELESS_BYTES];
        content[..8].copy_from_slice(TIMELESS_MAGIC);
        content[8..16].copy_from_slice(&sequence.to_le_bytes());
        let crc = self.crc(&content[..16]);
        content[16..].copy_from_slice(&crc.to_le_bytes());
        content
    }

    fn crc(&self, content: &[u8]) -> u32 {
        let crc = crc32c::crc32c(&self.record_secret.to_le_bytes());
        crc32c::crc32c_append(crc, content)
    }
}
