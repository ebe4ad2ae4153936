//! The file system as the disk store uses it: few operations, so that a test can put one of its own in its place that
//! fails, fills up, or forgets what was not synced.

use std::{fmt, io, path::Path, sync::Arc};

use rustix::io::Errno;

#[cfg(any(test, feature = "testkit"))]
mod memory;
mod system;

#[cfg(any(test, feature = "testkit"))]
pub use memory::{Faults, MemoryFiles};
pub use system::SystemFiles;

/// A file that is open. Reads and writes name their place, so that it can be shared.
pub trait File: fmt::Debug + Send + Sync {
    /// Fills the buffer from an offset; `UnexpectedEof` when the file is shorter.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all parts one after the other, from an offset on.
    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;

    /// Returns when the written bytes are on the disk.
    fn sync(&self) -> io::Result<()>;

    /// Its length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Cuts it, or makes it longer with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Allocates space for `len` bytes, which read as zeros, so that writing them later cannot find the disk full.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; for reading.
    Read,
    /// It must exist; for reading and writing.
    Update,
    /// It is made anew and empty, also in the place of another.
    Create,
}

/// A directory that this process has, for as long as the value lives.
pub trait Lock: fmt::Debug + Send + Sync {
    /// Whether the lock is still held, as another process would see it.
    fn check(&self) -> Result<Kept, LockError>;
}

/// The state of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing.
    Whole,
    /// The lock file was missing, or another one. It is created anew; no other process could lock the directory.
    FileReplaced,
}

/// Why a directory cannot be locked, or is not locked any more.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it; the text that this process wrote into it.
    Held(String),
    /// The directory that was locked is gone, or another one has its place.
    Replaced,
    /// The lock cannot be asked for.
    Io(io::Error),
}

/// Directories and files.
pub trait Files: fmt::Debug + Send + Sync {
    /// Makes a directory and those above it; it may exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, whose file, if there is one, is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns when the directory's names are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Bytes that may still be written there.
    fn available(&self, path: &Path) -> io::Result<u64>;

    /// Locks the directory of a file, and the file, for this process, and writes the name of the owner into the file.
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Lock>, LockError>;
}

/// The whole content of a file.
pub(super) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len_bytes()?).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

/// The same of a file whose disk may not give everything back. Unreadable bytes are filled with ones, since zeros would
/// look as if nothing had ever been written there.
pub(super) fn read_all_of_damaged(file: &dyn File) -> io::Result<Vec<u8>> {
    const PIECE_BYTES: usize = 256 << 10;
    const SECTOR_BYTES: usize = 512;
    let len = usize::try_from(file.len_bytes()?).map_err(io::Error::other)?;
    let mut content = vec![0; len];
    for (number, piece) in content.chunks_mut(PIECE_BYTES).enumerate() {
        let at = (number * PIECE_BYTES) as u64;
        match file.read_exact_at(piece, at) {
            Err(error) if is_damage(&error) => {
                for (number, sector) in piece.chunks_mut(SECTOR_BYTES).enumerate() {
                    let at = at + (number * SECTOR_BYTES) as u64;
                    match file.read_exact_at(sector, at) {
                        Err(error) if is_damage(&error) => sector.fill(0xff),
                        read => read?,
                    }
                }
            }
            read => read?,
        }
    }
    Ok(content)
}

/// Whether an error says that the disk has lost written bytes, and not that it cannot be asked now.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || is_one_of(error, &[Errno::IO])
}

/// Whether an error says that there is no space left.
pub(super) fn is_full(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Whether an error says that the process or the machine has too much open just now.
pub(super) fn is_passing(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::MFILE, Errno::NFILE, Errno::NOMEM])
}

fn is_one_of(error: &io::Error, errors: &[Errno]) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| errors.contains(&errno))
}

/// Replaces a file as a whole: a reader finds the old content or the new.
pub(super) fn replace(files: &dyn Files, path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut new = name.to_owned();
    new.push(".new");
    let new = path.with_file_name(new);
    let file = files.open(&new, OpenMode::Create)?;
    file.write_all_at(&[content], 0)?;
    file.sync()?;
    files.rename(&new, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
