//! A file system in memory that forgets unsynced bytes when its power is cut, and fails when it is told to. For tests
//! and simulation.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{File, Files, Kept, Lock, LockError, OpenMode};

/// A disk writes so much at once or not at all.
const SECTOR_BYTES: usize = 512;

/// Files that live as long as this value. Cheap to clone; clones are the same disk.
#[derive(Clone)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    names: BTreeMap<PathBuf, Arc<Node>>,
    // The names that certainly survive a power cut.
    synced_names: BTreeMap<PathBuf, Arc<Node>>,
    locked: BTreeMap<PathBuf, String>,
    faults: Faults,
    // Rises with every power cut: files opened before cannot be used any more.
    power: u64,
}

/// The faults from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Every sync fails.
    pub sync: bool,
    /// Every write fails after this many more bytes have been written; `None` = the disk has space.
    pub bytes_left: Option<u64>,
}

struct Node(Mutex<Content>);

#[derive(Clone, Default)]
struct Content {
    current: Vec<u8>,
    synced: Vec<u8>,
    // Up to here something was written before; writing there again takes no space.
    written: usize,
}

struct MemoryFile {
    node: Arc<Node>,
    files: MemoryFiles,
    power: u64,
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles").finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").finish_non_exhaustive()
    }
}

impl Default for MemoryFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryFiles {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk {
                names: BTreeMap::new(),
                synced_names: BTreeMap::new(),
                locked: BTreeMap::new(),
                faults: Faults::default(),
                power: 0,
            })),
        }
    }

    /// The faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.disk.lock().faults = faults;
    }

    /// The process is gone, the machine is not: everything written is there, and no lock is held.
    pub fn kill(&self) {
        let disk = &mut *self.disk.lock();
        disk.locked.clear();
        disk.power += 1;
    }

    /// The power is cut: any part of the unsynced bytes may be there. `random` decides which.
    pub fn cut_power(&self, mut random: impl FnMut() -> u64) {
        let disk = &mut *self.disk.lock();
        disk.locked.clear();
        disk.power += 1;
        let mut names = disk.synced_names.clone();
        for (path, node) in &disk.names {
            let known = names.get(path).is_some_and(|old| Arc::ptr_eq(old, node));
            if !known && random().is_multiple_of(2) {
                names.insert(path.clone(), node.clone());
            }
        }
        names.retain(|path, _| disk.names.contains_key(path) || random().is_multiple_of(2));
        for node in names.values() {
            node.0.lock().lose_unsynced(&mut random);
        }
        disk.synced_names.clone_from(&names);
        disk.names = names;
    }

    /// Changes the content of a file, as damage would. Returns whether there is such a file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let node = self.disk.lock().names.get(path).cloned();
        node.is_some_and(|node| {
            let content = &mut *node.0.lock();
            change(&mut content.current);
            content.synced.clone_from(&content.current);
            true
        })
    }
}

impl Content {
    fn lose_unsynced(&mut self, random: &mut impl FnMut() -> u64) {
        if self.current == self.synced {
            return;
        }
        let len = if random().is_multiple_of(2) {
            self.current.len()
        } else {
            self.synced.len()
        };
        let mut left = vec![0; len];
        for (number, sector) in left.chunks_mut(SECTOR_BYTES).enumerate() {
            let at = number * SECTOR_BYTES;
            let part = |content: &[u8]| -> Vec<u8> {
                let begin = at.min(content.len());
                let end = (at + sector.len()).min(content.len());
                content[begin..end].to_vec()
            };
            let (old, new) = (part(&self.synced), part(&self.current));
            let survives = if old == new || random().is_multiple_of(2) {
                new
            } else {
                old
            };
            sector[..survives.len()].copy_from_slice(&survives);
        }
        self.current.clone_from(&left);
        self.synced = left;
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that had this file open is gone")
}

impl MemoryFile {
    fn alive(&self) -> io::Result<Faults> {
        let disk = self.files.disk.lock();
        if disk.power == self.power {
            Ok(disk.faults)
        } else {
            Err(gone())
        }
    }
}

impl File for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.alive()?;
        let content = self.node.0.lock();
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let range = content.current.get(begin..begin + buffer.len());
        let range = range.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(range);
        Ok(())
    }

    fn write_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let faults = self.alive()?;
        let bytes = parts.concat();
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let free = (self.node.0.lock().written.saturating_sub(begin)).min(bytes.len());
        let mut writable = bytes.len();
        if let Some(left) = faults.bytes_left {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            writable = writable.min(free.saturating_add(left));
            let left = left - (writable - free);
            self.files.disk.lock().faults.bytes_left = Some(left as u64);
        }
        let content = &mut *self.node.0.lock();
        let end = begin + writable;
        content.written = content.written.max(end);
        if content.current.len() < end {
            content.current.resize(end, 0);
        }
        content.current[begin..end].copy_from_slice(&bytes[..writable]);
        if writable < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.alive()?.sync {
            return Err(io::Error::other("this sync fails"));
        }
        let content = &mut *self.node.0.lock();
        content.synced.clone_from(&content.current);
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.alive()?;
        Ok(self.node.0.lock().current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.node.0.lock().current.resize(len, 0);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.alive()?.bytes_left.is_some_and(|left| left < len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.set_len(len)
    }
}

impl Files for MemoryFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        let mut names: Vec<String> = disk
            .names
            .keys()
            .filter_map(|known| known.strip_prefix(path).ok()?.iter().next())
            .filter_map(|name| Some(name.to_str()?.to_owned()))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let disk = &mut *self.disk.lock();
        let node = match mode {
            OpenMode::Read | OpenMode::Update => disk
                .names
                .get(path)
                .cloned()
                .ok_or(io::ErrorKind::NotFound)?,
            OpenMode::Create => {
                let node = Arc::new(Node(Mutex::default()));
                disk.names.insert(path.to_owned(), node.clone());
                node
            }
        };
        Ok(Arc::new(MemoryFile {
            node,
            files: self.clone(),
            power: disk.power,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = &mut *self.disk.lock();
        let node = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.disk.lock().names.remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let disk = &mut *self.disk.lock();
        if disk.faults.sync {
            return Err(io::Error::other("this sync fails"));
        }
        let inside = |known: &Path| known.parent() == Some(path);
        disk.synced_names.retain(|known, _| !inside(known));
        let now = disk.names.iter().filter(|(known, _)| inside(known));
        disk.synced_names
            .extend(now.map(|(path, node)| (path.clone(), node.clone())));
        Ok(())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        Ok(self.disk.lock().faults.bytes_left.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        let disk = &mut *self.disk.lock();
        if let Some(holder) = disk.locked.get(path) {
            return Err(LockError::Held(holder.clone()));
        }
        disk.locked.insert(path.to_owned(), owner.to_owned());
        Ok(Box::new(Held {
            files: self.clone(),
            path: path.to_owned(),
            power: disk.power,
        }))
    }
}

#[derive(Debug)]
struct Held {
    files: MemoryFiles,
    path: PathBuf,
    power: u64,
}

impl Lock for Held {
    fn check(&self) -> Result<Kept, LockError> {
        Ok(Kept::Whole)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let disk = &mut *self.files.disk.lock();
        if disk.power == self.power {
            disk.locked.remove(&self.path);
        }
    }
}
