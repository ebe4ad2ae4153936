//! The streams of one connection: side by side in memory, and polled in that order when they were woken.
//!
//! One event wakes every stream of a connection, and then what costs is memory that the processor does not have
//! at hand. So a wake-up sets one bit in a word that 64 streams share, a turn goes through the streams as they
//! lie, and a stream that would not be served in this turn is not looked at.
//!
//! Holds: a stream that was woken is polled after that; one that the turn had no room for is among the first of
//! the next; one that is aborted ends also while the socket takes nothing.
//! Does not: know what a stream does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

use crate::limits;

/// Streams that share a word of wake-ups.
const BLOCK: usize = u64::BITS as usize;
/// A set that is empty again keeps room for so many.
const KEPT: usize = 16;

/// What is left of a turn: chunks that the streams may still hand to HTTP/2 before these are written. Handing over
/// all that is due at once would make HTTP/2 keep a frame per stream, and keep the memory of that many ever after.
pub(super) struct Turn(u32);

impl Turn {
    pub(super) fn new() -> Self {
        Self(limits::CONNECTION_TURN_CHUNKS)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0 == 0
    }

    /// A chunk was handed over.
    pub(super) fn spend(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

/// What a set holds.
pub(super) trait Member {
    /// Ready when nothing more is to be done; it is dropped then. `cx` and `own` wake the same.
    fn poll(&mut self, cx: &mut Context<'_>, own: &Arc<StreamWaker>, turn: &mut Turn) -> Poll<()>;

    /// Whether it has nothing to do but to send, so that it need not be polled while the socket takes nothing.
    fn is_sending(&self) -> bool;
}

pub(super) struct StreamSet<S> {
    slots: Slab<Slot<S>>,
    /// The wake-ups of slots 0 to 63, 64 to 127, ...
    blocks: Vec<Arc<Block>>,
    /// Where the last turn ended before it was through.
    next: usize,
    /// Is woken when a stream is.
    task: Waker,
}

struct Slot<S> {
    stream: S,
    own: Arc<StreamWaker>,
    /// `own` as others know it.
    waker: Waker,
}

#[derive(Debug)]
struct Block {
    /// Slots that were woken. Set by any thread, taken by the connection's task.
    woken: AtomicU64,
    task: Waker,
}

/// Wakes one stream. It may outlive it; whoever has the slot then is polled once for nothing.
#[derive(Debug)]
pub(super) struct StreamWaker {
    block: Arc<Block>,
    bit: u8,
    /// Written by whoever aborts, read by the stream. Here because each wake-up touches this line anyway.
    aborted: AtomicBool,
}

impl StreamWaker {
    /// The stream is to be reset.
    pub(super) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.raise();
        // A connection whose socket is blocked leaves wake-ups where they are.
        self.block.task.wake_by_ref();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    fn raise(&self) {
        // If another of the block was woken before, whoever did that wakes the task.
        if self.block.woken.fetch_or(1 << self.bit, Ordering::AcqRel) == 0 {
            self.block.task.wake_by_ref();
        }
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

impl<S: Member> StreamSet<S> {
    /// `task` is woken when a stream is.
    pub(super) fn new(task: Waker) -> Self {
        Self {
            slots: Slab::new(),
            blocks: Vec::new(),
            next: 0,
            task,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A stream that is to be polled.
    pub(super) fn insert(&mut self, stream: S) {
        let entry = self.slots.vacant_entry();
        let (block, bit) = (entry.key() / BLOCK, entry.key() % BLOCK);
        if block == self.blocks.len() {
            self.blocks.push(Arc::new(Block {
                woken: AtomicU64::new(0),
                task: self.task.clone(),
            }));
        }
        let own = Arc::new(StreamWaker {
            block: Arc::clone(&self.blocks[block]),
            bit: bit as u8,
            aborted: AtomicBool::new(false),
        });
        own.raise();
        entry.insert(Slot {
            stream,
            waker: Waker::from(Arc::clone(&own)),
            own,
        });
    }

    /// Polls the streams that were woken, each at most once, until the turn is over; whether some are left.
    pub(super) fn poll_woken(&mut self) -> bool {
        let mut turn = Turn::new();
        let (first, from) = (self.next / BLOCK, self.next % BLOCK);
        let later = u64::MAX << from;
        let blocks = self.blocks.len();
        // The first block is looked at twice: from where the last turn ended, and at last up to there.
        for step in 0..=blocks {
            let (block, mask) = match step {
                0 => (first, later),
                step if step == blocks => (first, !later),
                step => ((first + step) % blocks, u64::MAX),
            };
            let Some(woken) = self.blocks.get(block).map(|block| &block.woken) else {
                break;
            };
            if woken.load(Ordering::Relaxed) & mask == 0 {
                continue;
            }
            let mut due = woken.fetch_and(!mask, Ordering::AcqRel) & mask;
            while due != 0 {
                let key = block * BLOCK + due.trailing_zeros() as usize;
                if turn.is_over() {
                    self.blocks[block].woken.fetch_or(due, Ordering::AcqRel);
                    self.next = key;
                    return true;
                }
                self.poll(key, &mut turn);
                due &= due - 1;
            }
        }
        self.next = 0;
        // Woken again in the first block while others of it waited for the second look: the task was not told.
        let again = |block: &Arc<Block>| block.woken.load(Ordering::Acquire) & later != 0;
        from != 0 && self.blocks.get(first).is_some_and(again)
    }

    /// For a connection whose socket takes nothing: streams whose response has not begun go on, and those that are
    /// aborted end; the others stay woken and are polled when there is room again.
    pub(super) fn poll_blocked(&mut self) {
        // Over before it begins: nothing but the head of a response is sent.
        let mut turn = Turn(0);
        for block in 0..self.blocks.len() {
            let woken = self.blocks[block].woken.load(Ordering::Acquire);
            let mut due = woken;
            while due != 0 {
                let bit = due.trailing_zeros() as usize;
                let key = block * BLOCK + bit;
                due &= due - 1;
                let Some(slot) = self.slots.get(key) else {
                    continue;
                };
                if slot.stream.is_sending() && !slot.own.is_aborted() {
                    continue;
                }
                self.blocks[block]
                    .woken
                    .fetch_and(!(1 << bit), Ordering::AcqRel);
                self.poll(key, &mut turn);
            }
        }
    }

    fn poll(&mut self, key: usize, turn: &mut Turn) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let mut cx = Context::from_waker(&slot.waker);
        if slot.stream.poll(&mut cx, &slot.own, turn).is_ready() {
            self.slots.remove(key);
            if self.slots.is_empty() && self.slots.capacity() > KEPT {
                self.slots = Slab::new();
            }
        }
    }
}

#[cfg(test)]
mod tests;
