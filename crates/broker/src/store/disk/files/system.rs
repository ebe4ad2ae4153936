//! The operating system's files.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::Path,
    sync::Arc,
};

use rustix::fs::FallocateFlags;

use self::lock::SystemLock;
use super::{File, Files, Lock, LockError, OpenMode};

mod lock;

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

#[derive(Debug)]
struct SystemFile(fs::File);

/// Up to so much is put together for one write.
const GATHER_BYTES: usize = 512 << 10;

impl File for SystemFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total <= GATHER_BYTES {
            // One call, so that a process that is killed leaves the whole of it or a beginning.
            return self.0.write_all_at(&parts.concat(), offset);
        }
        let mut at = offset;
        for part in parts {
            self.0.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let allocate = || rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len);
        match rustix::io::retry_on_intr(allocate) {
            Ok(()) => Ok(()),
            // Not every file system can; a write may then find the disk full, and is taken back.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(len),
            Err(error) => Err(error.into()),
        }
    }
}

impl Files for SystemFiles {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // The content is for the server alone; an existing directory keeps the rights that its owner chose.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // A name that is not text is not ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = match mode {
            OpenMode::Read => fs::File::open(path)?,
            OpenMode::Update => OpenOptions::new().read(true).write(true).open(path)?,
            OpenMode::Create => OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?,
        };
        Ok(Arc::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::io::retry_on_intr(|| rustix::fs::statvfs(path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        Ok(Box::new(SystemLock::take(path, owner)?))
    }
}
