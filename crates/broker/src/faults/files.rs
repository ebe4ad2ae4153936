//! The mistakes of a disk store that its files can make for it: a file system in front of another one.

use std::{ffi::OsStr, io, path::Path, sync::Arc};

use super::{Fault, planted};
use crate::store::{File, Files, Lock, LockError, OpenMode};

/// A file system that makes the planted mistake, and does everything else as the one behind it.
#[derive(Debug)]
pub(crate) struct FaultyFiles(pub(crate) Arc<dyn Files>);

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn File>,
    // Its sync does nothing.
    unsynced: bool,
}

/// The directory that something is in.
fn folder(path: &Path) -> Option<&OsStr> {
    path.parent()?.file_name()
}

impl Files for FaultyFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let unsynced_in = |name, fault| folder(path) == Some(OsStr::new(name)) && planted(fault);
        Ok(Arc::new(FaultyFile {
            file: self.0.open(path, mode)?,
            unsynced: unsynced_in("log", Fault::AcknowledgeBeforeSync)
                || unsynced_in("sealed", Fault::SealedNotSynced),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let lost = |name, fault| to.ends_with(name) && planted(fault);
        if lost("IDS", Fault::IdsLostWhenSealed) || lost("FLOORS", Fault::FloorForgottenAtRestart) {
            return self.0.remove(from);
        }
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if path.ends_with("log") && planted(Fault::DirectoryNotSynced) {
            return Ok(());
        }
        self.0.sync_dir(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        if planted(Fault::ReserveIgnored) {
            return Ok(u64::MAX);
        }
        self.0.available(path)
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        self.0.lock(path, owner)
    }
}

impl File for FaultyFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_all_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        if self.unsynced {
            return Ok(());
        }
        self.file.sync()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}
