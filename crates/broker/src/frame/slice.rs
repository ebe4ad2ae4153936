//! A run of the events of one batch, cut and joined without touching the batch.
//!
//! Does not: read the content of a frame.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Encoding, Entry, Frames, PREFIX_BYTES};
use crate::position::Sequence;

/// A run of entries inside shared [`Frames`]. Never empty.
#[derive(Clone, Debug)]
pub struct Slice {
    pub(super) frames: Arc<Frames>,
    pub(super) begin: u32,
    pub(super) end: u32,
}

impl Slice {
    /// Entries `begin..end` of `frames`.
    pub fn new(frames: Arc<Frames>, begin: usize, end: usize) -> Self {
        debug_assert!(begin < end && end <= frames.entries.len());
        Self {
            frames,
            begin: begin as u32,
            end: end as u32,
        }
    }

    /// The index of the run.
    pub fn entries(&self) -> &[Entry] {
        &self.frames.entries[self.begin as usize..self.end as usize]
    }

    /// Sequence of the first event.
    pub fn first(&self) -> Sequence {
        self.entries()[0].sequence
    }

    /// Sequence of the last event.
    pub fn last(&self) -> Sequence {
        self.frames.entries[self.end as usize - 1].sequence
    }

    /// Bytes of the frames that it keeps in memory, its own among them.
    pub(crate) fn held_bytes(&self) -> usize {
        self.frames.len_bytes()
    }

    /// How many events.
    pub fn count(&self) -> usize {
        (self.end - self.begin) as usize
    }

    /// Bytes of the run in the encoding of version 1.
    pub fn len_bytes(&self) -> usize {
        let entries = self.entries();
        entries[entries.len() - 1].end() - entries[0].offset as usize
    }

    /// How many events, from the first on, fit in `bytes`; the first always does.
    pub fn count_within(&self, bytes: usize) -> usize {
        let entries = self.entries();
        let begin = entries[0].offset as usize;
        entries
            .partition_point(|entry| entry.end() - begin <= bytes)
            .max(1)
    }

    /// Whether every message is known to be within the limit in this encoding, by the largest message of its batch. A
    /// receiver's limit is about the message, which is the frame without its prefix.
    #[inline]
    pub fn all_within(&self, message_bytes_max: u32, encoding: Encoding) -> bool {
        let message = self.frames.largest_frame as usize - PREFIX_BYTES;
        encoding.bytes_max(message) <= message_bytes_max as usize
    }

    /// The index of the first event whose message is above the limit in this encoding.
    pub fn first_above(&self, message_bytes_max: u32, encoding: Encoding) -> Option<usize> {
        let is_above = |index: &u32| {
            let frame = self.frames.place(*index as usize, encoding);
            frame.len() - PREFIX_BYTES > message_bytes_max as usize
        };
        let above = (self.begin..self.end).find(is_above)?;
        Some((above - self.begin) as usize)
    }

    /// Cuts after `count` entries: the first part stays here, the rest is returned.
    pub fn split_off(&mut self, count: usize) -> Option<Self> {
        let at = self.begin + count as u32;
        if at >= self.end {
            return None;
        }
        let rest = Self {
            frames: self.frames.clone(),
            begin: at,
            end: self.end,
        };
        self.end = at;
        Some(rest)
    }

    /// Takes the entries that follow directly in the same frames; whether it could.
    pub fn extend_with(&mut self, next: &Self) -> bool {
        let adjacent = Arc::ptr_eq(&self.frames, &next.frames) && self.end == next.begin;
        if adjacent {
            self.end = next.end;
        }
        adjacent
    }

    #[inline]
    pub(super) fn encoded(&self, encoding: Encoding) -> Bytes {
        let begin = self.frames.place(self.begin as usize, encoding).start;
        let end = self.frames.place(self.end as usize - 1, encoding).end;
        self.frames.encoded(encoding).slice(begin..end)
    }
}

/// The bytes of several slices as one: shared when there is one slice that is most of its batch, copied together
/// otherwise, since HTTP/2 would write one frame for each.
#[inline]
pub fn join(slices: &[Slice], encoding: Encoding) -> Bytes {
    match slices {
        // A small view would keep the whole batch in memory for as long as its reader is stalled.
        [one] if one.len_bytes() * 4 >= one.frames.len_bytes() => one.encoded(encoding),
        many => copied(many, encoding),
    }
}

#[inline(never)]
fn copied(slices: &[Slice], encoding: Encoding) -> Bytes {
    let parts: Vec<_> = (slices.iter().map(|slice| slice.encoded(encoding))).collect();
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        joined.put_slice(&part);
    }
    joined.freeze()
}
