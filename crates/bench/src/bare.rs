//! A bare write and fdatasync: the least cost of a commit.
//!
//! Holds: the file is made and written by the store's own calls, its space is taken beforehand as the store takes
//! that of a segment, and no byte of it is written twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use longlived_server::storage::{File, Files as _, OpenMode, SystemFiles};

use super::clock::monotonic_ns;

/// As the store's segments.
const FILE_BYTES: u64 = 64 << 20;

pub(super) struct Bare {
    path: PathBuf,
    file: Arc<dyn File>,
    at: u64,
    content: Vec<u8>,
}

impl Bare {
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: prepared(&path)?,
            path,
            at: 0,
            content: Vec::new(),
        })
    }

    /// Allocates space for a write of `bytes`; not to be measured.
    pub(super) fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        self.content.resize(bytes, b'.');
        if self.at + bytes as u64 > FILE_BYTES {
            self.file = prepared(&self.path)?;
            self.at = 0;
        }
        Ok(())
    }

    /// Writes the prepared bytes and waits for the disk. Returns the time, in nanoseconds.
    pub(super) fn write(&mut self) -> io::Result<u64> {
        let began = monotonic_ns();
        self.file.write_all_at(&[&self.content], self.at)?;
        self.file.sync()?;
        let took = monotonic_ns() - began;
        self.at += self.content.len() as u64;
        Ok(took)
    }
}

fn prepared(path: &Path) -> io::Result<Arc<dyn File>> {
    let file = SystemFiles.open(path, OpenMode::Create)?;
    file.allocate(FILE_BYTES)?;
    file.sync()?;
    Ok(file)
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
