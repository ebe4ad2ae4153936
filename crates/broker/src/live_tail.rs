//! The live tail of one topic filter: its newest events, as chunks that all its subscribers share.
//!
//! Holds: every matching event that became visible after the live tail was linked was in the tail. Earlier events, and
//! those that the tail has let go, are at or below its `start`. So a reader whose position is at least `start` misses
//! nothing by reading here. Does not: wait for readers. The sequencer appends and wakes; cursors come and look.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use longlived_topic::TopicFilter;
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::{
    faults::{Fault, planted},
    frame::{Frames, Slice},
    position::Sequence,
    signal::{Interest, Signal},
};

/// Chunks of up to this many bytes on average are merged for readers that are several behind.
const MERGE_CHUNK_BYTES: usize = 8 << 10;

/// A reader that has not read after this many wake-ups in a row is not woken again until it reads.
const UNHEARD_MAX: u8 = 64;

/// The place of a reader is searched among this many chunks at the end first.
const NEAR_CHUNKS: usize = 4;

/// The chunks that a reader takes from one tail: most often one.
pub(crate) type Run = SmallVec<[Slice; 2]>;

/// The live tail of one filter.
pub(crate) struct LiveTail {
    filter: TopicFilter,
    // Last sequence appended; lets a cursor see without a lock that there is nothing to read.
    last: AtomicU64,
    held: Mutex<Held>,
    readers: Mutex<Readers>,
}

struct Held {
    chunks: VecDeque<Chunk>,
    // Dropped events lie at or below this.
    start: Sequence,
    // The last merge of several small chunks: readers that were woken together ask for the same one.
    merged: Option<Arc<Frames>>,
}

struct Chunk {
    // Of the frames; here, so that looking for a place does not touch every chunk's memory.
    last: Sequence,
    frames: Arc<Frames>,
}

struct Readers {
    all: Slab<Reader>,
    // Keys of the readers that are woken. A reader that has not read for long is not among them: with thousands of
    // stalled readers each append would pay for every one. Most live tails are inboxes, with one reader.
    awake: SmallVec<[u32; 4]>,
    // Tail readers that read for others, which are readers here too.
    shared: u32,
    closed: bool,
    idle_since: Instant,
}

struct Reader {
    signal: Arc<Signal>,
    // Where it is among those that are woken, or `ASLEEP`.
    awake_at: u32,
    // Wake-ups in a row that found the last one not come for.
    unheard: u8,
    // Reads for others.
    shared: bool,
}

/// The place of a reader that is not woken.
const ASLEEP: u32 = u32::MAX;

impl Readers {
    fn insert(&mut self, signal: Arc<Signal>, shared: bool) -> usize {
        if self.all.capacity() == 0 {
            // The first alone: there would be space for four, and an inbox has one.
            self.all.reserve_exact(1);
        }
        let key = self.all.insert(Reader {
            signal,
            awake_at: ASLEEP,
            unheard: 0,
            shared,
        });
        self.shared += u32::from(shared);
        self.join(key);
        key
    }

    fn remove(&mut self, key: usize) {
        self.leave_out(key);
        self.shared -= u32::from(self.all.remove(key).shared);
    }

    fn join(&mut self, key: usize) {
        let reader = &mut self.all[key];
        reader.unheard = 0;
        if reader.awake_at == ASLEEP {
            reader.awake_at = self.awake.len() as u32;
            self.awake.push(key as u32);
        }
    }

    fn leave_out(&mut self, key: usize) {
        let at = std::mem::replace(&mut self.all[key].awake_at, ASLEEP);
        if at == ASLEEP {
            return;
        }
        self.awake.swap_remove(at as usize);
        if let Some(&moved) = self.awake.get(at as usize) {
            self.all[moved as usize].awake_at = at;
        }
    }
}

/// The tail no longer reaches back to where a reader stands: it reads history instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BehindTail;

impl LiveTail {
    /// One that has every matching event after a position.
    pub(crate) fn new(filter: TopicFilter, complete_after: Sequence) -> Self {
        Self {
            filter,
            last: AtomicU64::new(complete_after),
            held: Mutex::new(Held {
                chunks: VecDeque::new(),
                start: complete_after,
                merged: None,
            }),
            readers: Mutex::new(Readers {
                all: Slab::new(),
                awake: SmallVec::new(),
                shared: 0,
                closed: false,
                idle_since: Instant::now(),
            }),
        }
    }

    /// A live tail that is linked nowhere and holds nothing: it sends its readers to history, always.
    pub(crate) fn unlinked(filter: TopicFilter) -> Arc<Self> {
        Arc::new(Self::new(filter, Sequence::MAX))
    }

    /// The readers: the signal of each stands for one stream, in all its live tails.
    pub(crate) fn readers(&self) -> Vec<*const Signal> {
        let readers = self.readers.lock();
        let own = readers.all.iter().filter(|(_, reader)| !reader.shared);
        own.map(|(_, reader)| Arc::as_ptr(&reader.signal)).collect()
    }

    /// How many read here.
    pub(crate) fn reader_count(&self) -> usize {
        let readers = self.readers.lock();
        readers.all.len() - readers.shared as usize
    }

    /// The filter whose events these are.
    pub(crate) fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Called by the sequencer, in log order.
    pub(crate) fn append(&self, chunk: Arc<Frames>) {
        let last = chunk.last();
        self.held.lock().chunks.push_back(Chunk {
            last,
            frames: chunk,
        });
        self.last.store(last, Ordering::Release);
    }

    /// Lets go of the oldest chunk; its readers that have not taken it find it in the store.
    pub(crate) fn drop_oldest(&self) {
        let mut held = self.held.lock();
        if let Some(chunk) = held.chunks.pop_front() {
            if !planted(Fault::StalledReaderSkips) {
                held.start = chunk.last;
            }
            held.merged = None;
        }
    }

    /// Wakes the readers of this live tail.
    pub(crate) fn wake(&self) {
        let readers = &mut *self.readers.lock();
        let mut index = 0;
        while let Some(&key) = readers.awake.get(index) {
            index += 1;
            let key = key as usize;
            let reader = &mut readers.all[key];
            if reader.signal.raise(Interest::Data) {
                reader.unheard = 0;
                continue;
            }
            reader.unheard = reader.unheard.saturating_add(1);
            if reader.unheard >= UNHEARD_MAX && reader.signal.leave_out() {
                readers.leave_out(key);
                // Another has its place now.
                index -= 1;
            }
        }
    }

    /// Whether the tail may have an event after a position.
    pub(crate) fn has_after(&self, after: Sequence) -> bool {
        self.last.load(Ordering::Acquire) > after
    }

    /// Whether the tail has every matching event after a position.
    pub(crate) fn reaches(&self, after: Sequence) -> bool {
        self.held.lock().start <= after
    }

    /// Takes the events after `after`, up to `visible`: chunks of at most `bytes_max` together, or one chunk that is
    /// larger. Returns whether all of them were taken.
    pub(crate) fn collect(
        &self,
        after: Sequence,
        visible: Sequence,
        bytes_max: usize,
        into: &mut Run,
    ) -> Result<bool, BehindTail> {
        let mut held = self.held.lock();
        if after < held.start {
            return Err(BehindTail);
        }
        if let Some(last) = held.only_after(after)
            && last.first() <= visible
        {
            into.push(Slice::new(last.clone(), 0, last.entries().len()));
            return Ok(true);
        }
        let first = held.first_after(after);
        let mut bytes = 0;
        let mut end = first;
        // Batches become visible as a whole, so no chunk lies across `visible`.
        while let Some(chunk) = held.chunks.get(end)
            && chunk.frames.first() <= visible
            && (end == first || bytes + chunk.frames.len_bytes() <= bytes_max)
        {
            bytes += chunk.frames.len_bytes();
            end += 1;
        }
        let all = held
            .chunks
            .get(end)
            .is_none_or(|chunk| chunk.frames.first() > visible);
        if end == first {
            return Ok(all);
        }
        let small = bytes <= (end - first) * MERGE_CHUNK_BYTES;
        if end - first > 1 && small {
            let merged = held.merge(first, end);
            let begin = merged.index_after(after);
            let count = merged.entries().len();
            into.push(Slice::new(merged, begin, count));
        } else {
            for chunk in held.chunks.range(first..end) {
                let frames = &chunk.frames;
                let begin = frames.index_after(after);
                into.push(Slice::new(frames.clone(), begin, frames.entries().len()));
            }
        }
        Ok(all)
    }

    /// Adds a reader, unless the live tail has closed.
    pub(crate) fn attach(self: &Arc<Self>, signal: &Arc<Signal>) -> Option<Attachment> {
        self.attach_as(signal, false)
    }

    /// Adds a reader that reads for others, unless the live tail has closed.
    pub(crate) fn attach_shared(self: &Arc<Self>, signal: &Arc<Signal>) -> Option<Attachment> {
        self.attach_as(signal, true)
    }

    fn attach_as(self: &Arc<Self>, signal: &Arc<Signal>, shared: bool) -> Option<Attachment> {
        let mut readers = self.readers.lock();
        if readers.closed {
            return None;
        }
        let key = readers.insert(signal.clone(), shared);
        Some(Attachment {
            tail: self.clone(),
            key,
        })
    }

    /// Closes the live tail if it has had no reader since `idle_before`; returns whether it is closed.
    pub(crate) fn close_if_idle(&self, idle_before: Instant) -> bool {
        let mut readers = self.readers.lock();
        if readers.all.is_empty() && readers.idle_since < idle_before {
            readers.closed = true;
        }
        readers.closed
    }
}

impl Held {
    /// The last chunk, if it is all that lies after a position. Most readers stand there.
    #[inline]
    fn only_after(&self, after: Sequence) -> Option<&Arc<Frames>> {
        let last = &self.chunks.back()?.frames;
        let before = self.chunks.len().checked_sub(2);
        let is_alone = before.is_none_or(|before| self.chunks[before].last <= after);
        (is_alone && last.first() > after).then_some(last)
    }

    /// The place of the first chunk that has anything after a position.
    fn first_after(&self, after: Sequence) -> usize {
        let len = self.chunks.len();
        // Most readers stand near the end.
        let near = len.saturating_sub(NEAR_CHUNKS);
        let mut back = (near..len).rev();
        match back.find(|&index| self.chunks[index].last <= after) {
            Some(index) => index + 1,
            None => self.chunks.partition_point(|chunk| chunk.last <= after),
        }
    }

    fn merge(&mut self, first: usize, end: usize) -> Arc<Frames> {
        let from = self.chunks[first].frames.first();
        let to = self.chunks[end - 1].last;
        if let Some(merged) = &self.merged
            && merged.first() == from
            && merged.last() == to
        {
            return merged.clone();
        }
        let chunks = self.chunks.range(first..end);
        let parts: Vec<_> = chunks.map(|chunk| chunk.frames.clone()).collect();
        let merged = Frames::concat(&parts);
        self.merged = Some(merged.clone());
        merged
    }
}

/// A reader's place in a live tail. Dropping it leaves the live tail.
pub(crate) struct Attachment {
    tail: Arc<LiveTail>,
    key: usize,
}

impl Attachment {
    pub(crate) fn tail(&self) -> &Arc<LiveTail> {
        &self.tail
    }

    /// Is woken again, after it was left out or at rest.
    pub(crate) fn rejoin(&self) {
        self.tail.readers.lock().join(self.key);
    }

    /// Is not woken until it rejoins: another reads for it.
    pub(crate) fn rest(&self) {
        self.tail.readers.lock().leave_out(self.key);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut readers = self.tail.readers.lock();
        readers.remove(self.key);
        if readers.all.is_empty() {
            readers.idle_since = Instant::now();
            readers.all.shrink_to_fit();
            readers.awake.shrink_to_fit();
        }
    }
}
