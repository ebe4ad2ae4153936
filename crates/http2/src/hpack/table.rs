//! The decoder's dynamic table: RFC 7541, 2.3.2 and 4.
//!
//! New names and values are appended to one buffer. An entry that takes its name from another one points to the same
//! bytes, so a peer cannot make us copy a long name for each octet it sends. Eviction forgets an entry and leaves its
//! bytes where they are. When the buffer is full, what entries point to moves to a new one of the size that they need.
//!
//! Holds: the buffer never exceeds the table's size limit. Beside it an entry takes 8 bytes, and it counts 32 (4.1), so
//! the heap of a table is at most 5/4 of a limit that is a power of two. A table that was never filled has no heap.

use std::collections::VecDeque;

/// What an entry counts beside its name and value (RFC 7541, 4.1).
const ENTRY_OVERHEAD: u32 = 32;

/// The least room behind the entries in a new buffer.
const ROOM_MIN: usize = 32;

#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: u32,
    size_max: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
}

/// A range of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    begin: u16,
    len: u16,
}

impl Span {
    #[inline]
    fn of(self, bytes: &[u8]) -> &[u8] {
        let begin = usize::from(self.begin);
        &bytes[begin..begin + usize::from(self.len)]
    }
}

impl Entry {
    fn size(self) -> u32 {
        u32::from(self.name.len) + u32::from(self.value.len) + ENTRY_OVERHEAD
    }
}

impl Table {
    /// The largest limit: what an entry's numbers reach.
    pub(super) const SIZE_MAX: u32 = u16::MAX as u32;

    pub(super) fn new(size_max: u32) -> Self {
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            size_max,
        }
    }

    pub(super) fn size_max(&self) -> u32 {
        self.size_max
    }

    /// A new size limit: what does not fit any more is evicted, and its memory given back (RFC 7541, 4.3).
    pub(super) fn set_size_max(&mut self, size_max: u32) {
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            self.free();
            return;
        }
        if self.bytes.capacity() > size_max as usize {
            self.move_entries(0);
        }
        self.entries.shrink_to((size_max / ENTRY_OVERHEAD) as usize);
    }

    /// Bytes of heap.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Name and value of an entry. The newest has the index 0.
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entry(index)?;
        Some((entry.name.of(&self.bytes), entry.value.of(&self.bytes)))
    }

    #[inline]
    fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(self.entries.len().wrapping_sub(index + 1))
    }

    /// Adds an entry. The oldest are evicted for it; if it is larger than the table, that empties it (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if self.evict_for(name.len(), value.len()) {
            self.make_room(name.len() + value.len());
            let name = self.append(name);
            self.push(name, value);
        }
    }

    /// Adds an entry that has the name of the one at `index`. That one may be evicted for it: the bytes of the name stay
    /// in use (RFC 7541, 4.4).
    pub(super) fn insert_with_name_of(&mut self, index: usize, value: &[u8]) {
        let Some(&Entry { name, .. }) = self.entry(index) else {
            return;
        };
        if self.evict_for(usize::from(name.len), value.len()) {
            self.push(name, value);
        }
    }

    /// Evicts entries until one of these lengths fits, and says whether it ever does.
    fn evict_for(&mut self, name_len: usize, value_len: usize) -> bool {
        let size = name_len + value_len + ENTRY_OVERHEAD as usize;
        if size > self.size_max as usize {
            self.free();
            return false;
        }
        self.evict_to(self.size_max - size as u32);
        true
    }

    fn evict_to(&mut self, size: u32) {
        while self.size > size {
            let oldest = self.entries.pop_front();
            self.size -= oldest.expect("a table that has a size has an entry").size();
        }
    }

    fn free(&mut self) {
        *self = Self::new(self.size_max);
    }

    /// The entry is there before its value, so that its name moves with the others.
    fn push(&mut self, name: Span, value: &[u8]) {
        self.entries.push_back(Entry {
            name,
            value: Span { len: 0, ..name },
        });
        self.size += u32::from(name.len) + ENTRY_OVERHEAD;
        if !value.is_empty() {
            self.make_room(value.len());
            let value = self.append(value);
            self.size += u32::from(value.len);
            self.entries.back_mut().expect("it was pushed above").value = value;
        }
    }

    fn append(&mut self, string: &[u8]) -> Span {
        let begin = self.bytes.len() as u16;
        self.bytes.extend_from_slice(string);
        Span {
            begin,
            len: string.len() as u16,
        }
    }

    #[inline]
    fn make_room(&mut self, len: usize) {
        if self.bytes.len() + len > self.bytes.capacity().min(self.size_max as usize) {
            self.move_entries(len);
        }
    }

    /// Moves the strings of all entries to a new buffer that has room for `len` bytes more.
    fn move_entries(&mut self, len: usize) {
        let count = self.entries.len();
        let strings = self.size as usize - count * ENTRY_OVERHEAD as usize;
        // To move costs by bytes and by entries, so the room until the next time grows with both.
        let room = ROOM_MIN + strings / 4 + count * 2;
        let capacity = (strings + len + room).min(self.size_max as usize);
        let mut bytes = Vec::with_capacity(capacity);
        let begins = self
            .entries
            .iter()
            .map(|it| it.name.begin.min(it.value.begin));
        let begin = begins.min().unwrap_or(0);
        let end = &self.bytes[usize::from(begin)..];
        if end.len() <= strings {
            // From the first string on, little or nothing lies between them.
            bytes.extend_from_slice(end);
            for entry in &mut self.entries {
                entry.name.begin -= begin;
                entry.value.begin -= begin;
            }
        } else {
            self.move_each(&mut bytes);
        }
        self.bytes = bytes;
    }

    fn move_each(&mut self, bytes: &mut Vec<u8>) {
        let mut moved = |span: Span| {
            let begin = bytes.len() as u16;
            bytes.extend_from_slice(span.of(&self.bytes));
            Span { begin, ..span }
        };
        // The name of the entry before: where it was, and where it is.
        let mut last = None;
        for entry in &mut self.entries {
            entry.name = match last {
                Some((name, moved)) if name == entry.name => moved,
                _ => {
                    let name = entry.name;
                    let moved = moved(name);
                    last = Some((name, moved));
                    moved
                }
            };
            entry.value = moved(entry.value);
        }
    }
}
