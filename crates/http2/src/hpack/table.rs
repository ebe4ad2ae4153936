//! The decoder's dynamic table: RFC 7541, 2.3.2 and 4.
//!
//! Names and values stand one behind the other in one buffer, oldest first. Eviction forgets an entry and leaves its
//! bytes where they are. When the end of the buffer is reached, the bytes of the entries move to a new one of the size
//! that they need.
//!
//! Holds: the buffer never exceeds the table's size limit. Beside it an entry takes 8 bytes, and it counts 32 (4.1), so
//! the heap of a table is at most 5/4 of a limit that is a power of two. A table that was never filled has no heap.

use std::collections::VecDeque;
use std::ops::Range;

/// What an entry counts beside its name and value (RFC 7541, 4.1).
const ENTRY_OVERHEAD: usize = 32;

#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Oldest first, as their bytes.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

/// The value of an entry ends where the next entry begins.
#[derive(Debug)]
struct Entry {
    begin: u32,
    name_len: u32,
}

impl Table {
    pub(super) fn new(size_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            size_max,
        }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// A new size limit: what does not fit any more is evicted, and its memory given back (RFC 7541, 4.3).
    pub(super) fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            self.free();
        } else if self.bytes.capacity() > size_max {
            self.replace(self.moved(b"", b""));
            self.entries.shrink_to_fit();
        }
    }

    /// Bytes of heap.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Name and value of an entry. The newest has the index 0.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let (name, value) = self.ranges(index)?;
        Some((&self.bytes[name], &self.bytes[value]))
    }

    #[inline]
    fn ranges(&self, index: usize) -> Option<(Range<usize>, Range<usize>)> {
        let at = self.entries.len().checked_sub(index + 1)?;
        let entry = &self.entries[at];
        let end = match self.entries.get(at + 1) {
            Some(next) => next.begin as usize,
            None => self.bytes.len(),
        };
        let begin = entry.begin as usize;
        let middle = begin + entry.name_len as usize;
        Some((begin..middle, middle..end))
    }

    /// Adds an entry. The oldest are evicted for it; if it is larger than the table, that empties it (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if !self.evict_for(name.len(), value.len()) {
            return;
        }
        if self.has_room(name.len() + value.len()) {
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value);
        } else {
            self.replace(self.moved(name, value));
        }
        self.push(name.len(), value.len());
    }

    /// Adds an entry that has the name of the one at `index`. That one may be evicted for it: its bytes are still there
    /// when the name is copied (RFC 7541, 4.4).
    pub(super) fn insert_with_name_of(&mut self, index: usize, value: &[u8]) {
        let Some((name, _)) = self.ranges(index) else {
            return;
        };
        let name_len = name.len();
        if !self.evict_for(name_len, value.len()) {
            return;
        }
        if self.has_room(name_len + value.len()) {
            self.bytes.extend_from_within(name);
            self.bytes.extend_from_slice(value);
        } else {
            self.replace(self.moved(&self.bytes[name], value));
        }
        self.push(name_len, value.len());
    }

    /// Evicts entries until one of these lengths fits, and says whether it ever does.
    fn evict_for(&mut self, name_len: usize, value_len: usize) -> bool {
        let size = name_len + value_len + ENTRY_OVERHEAD;
        let Some(room_for) = self.size_max.checked_sub(size) else {
            self.free();
            return false;
        };
        self.evict_to(room_for);
        true
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let (name, value) = self
                .ranges(self.entries.len() - 1)
                .expect("a table that has a size has an entry");
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
            self.entries.pop_front();
        }
    }

    fn free(&mut self) {
        *self = Self::new(self.size_max);
    }

    fn has_room(&self, len: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= len
    }

    /// A new buffer with the bytes of all entries and of a new one. A quarter more than that is its room to grow, so that
    /// entries do not move at each insertion.
    fn moved(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        let kept = &self.bytes[self.begin()..];
        let len = kept.len() + name.len() + value.len();
        let mut bytes = Vec::with_capacity((len + len / 4).min(self.size_max));
        bytes.extend_from_slice(kept);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        bytes
    }

    fn replace(&mut self, bytes: Vec<u8>) {
        let gone = self.begin() as u32;
        for entry in &mut self.entries {
            entry.begin -= gone;
        }
        self.bytes = bytes;
    }

    /// Where the bytes of the oldest entry begin.
    fn begin(&self) -> usize {
        self.entries
            .front()
            .map_or(self.bytes.len(), |oldest| oldest.begin as usize)
    }

    /// The entry whose bytes are the last ones.
    fn push(&mut self, name_len: usize, value_len: usize) {
        self.size += name_len + value_len + ENTRY_OVERHEAD;
        self.entries.push_back(Entry {
            begin: (self.bytes.len() - name_len - value_len) as u32,
            name_len: name_len as u32,
        });
    }
}
