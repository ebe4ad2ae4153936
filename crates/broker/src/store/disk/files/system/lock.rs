//! The lock of a directory. Two things are locked. The directory itself cannot be removed apart from its contents. The
//! file that names the owner is all that older versions lock.
//!
//! Does not: lock the directory where its file system has no locks for directories (NFS); there the file is all.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::{fs::FlockOperation, io::Errno};

use super::super::{Kept, Lock, LockError};

#[derive(Debug)]
pub(super) struct SystemLock {
    dir: fs::File,
    path: PathBuf,
    owner: String,
    file: Mutex<fs::File>,
}

impl SystemLock {
    /// Locks the directory of a file, and the file.
    pub(super) fn take(path: &Path, owner: &str) -> Result<Self, LockError> {
        let dir = fs::File::open(dir_of(path)).map_err(LockError::Io)?;
        match exclusive(&dir) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(path)),
            Err(error @ (Errno::BADF | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) => {
                tracing::warn!(
                    dir = %dir_of(path).display(), %error,
                    "the file system does not lock directories: if the file `LOCK` is removed, a second server can start here"
                );
            }
            Err(error) => return Err(LockError::Io(error.into())),
        }
        Ok(Self {
            dir,
            path: path.to_owned(),
            owner: owner.to_owned(),
            file: Mutex::new(take_file(path, owner)?),
        })
    }
}

impl Lock for SystemLock {
    fn check(&self) -> Result<Kept, LockError> {
        if !is_at(&self.dir, dir_of(&self.path))? {
            return Err(LockError::Replaced);
        }
        let file = &mut *self.file.lock();
        if is_at(file, &self.path)? {
            return Ok(Kept::Whole);
        }
        *file = take_file(&self.path, &self.owner)?;
        Ok(Kept::FileReplaced)
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

fn exclusive(file: &fs::File) -> rustix::io::Result<()> {
    let lock = || rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    rustix::io::retry_on_intr(lock)
}

fn take_file(path: &Path, owner: &str) -> Result<fs::File, LockError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(LockError::Io)?;
    match exclusive(&file) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(held(path)),
        Err(error) => return Err(LockError::Io(error.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{owner}"));
    written.map_err(LockError::Io)?;
    Ok(file)
}

/// The owner, as far as the file names one.
fn held(path: &Path) -> LockError {
    let mut holder = String::new();
    let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut holder));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => LockError::Io(error),
        _ => LockError::Held(holder.trim().to_owned()),
    }
}

/// Whether the open file is the one that has this name now.
fn is_at(open: &fs::File, path: &Path) -> Result<bool, LockError> {
    let open = open.metadata().map_err(LockError::Io)?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LockError::Io(error)),
    }
}
