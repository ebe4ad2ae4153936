//! Wake-ups of the many streams that one task polls: one bit each, in words that 64 share.
//!
//! Holds: a slot that was woken is found by the next look; the task is woken once for each word.
//! Does not: know the content of a slot.

use std::sync::Arc;
use std::task::Waker;

use futures_util::task::ArcWake;

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// Slots that share a word of wake-ups.
pub(super) const BLOCK: usize = u64::BITS as usize;

/// The wake-ups of slots 0 to 63, 64 to 127, ...
pub(super) struct WakeSet {
    blocks: Vec<Arc<Block>>,
    /// Is woken when a slot is.
    task: Waker,
}

#[derive(Debug)]
struct Block {
    /// Slots that were woken. Set by any thread, taken by the task.
    woken: AtomicU64,
    task: Waker,
}

/// Wakes one slot. It may outlive the content of the slot; the next content is polled once for nothing then.
#[derive(Debug)]
pub(super) struct StreamWaker {
    block: Arc<Block>,
    bit: u8,
    /// Written by code that aborts, read by the stream. Here because each wake-up touches this line anyway.
    aborted: AtomicBool,
}

impl StreamWaker {
    /// The stream is to be reset.
    pub(super) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.raise();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    pub(super) fn raise(&self) {
        // If another slot of the block was woken before, that wake-up wakes the task.
        if self.block.woken.fetch_or(1 << self.bit, Ordering::AcqRel) == 0 {
            self.block.task.wake_by_ref();
        }
    }
}

impl ArcWake for StreamWaker {
    fn wake_by_ref(arc_self: &Arc<Self>) {
        arc_self.raise();
    }
}

impl WakeSet {
    /// `task` is woken when a slot is.
    pub(super) fn new(task: Waker) -> Self {
        Self {
            blocks: Vec::new(),
            task,
        }
    }

    /// The waker of a slot, whose number is at most one beyond the highest so far.
    pub(super) fn waker(&mut self, slot: usize) -> Arc<StreamWaker> {
        let (block, bit) = (slot / BLOCK, slot % BLOCK);
        if block == self.blocks.len() {
            self.blocks.reserve_exact(1);
            self.blocks.push(Arc::new(Block {
                woken: AtomicU64::new(0),
                task: self.task.clone(),
            }));
        }
        Arc::new(StreamWaker {
            block: Arc::clone(&self.blocks[block]),
            bit: bit as u8,
            aborted: AtomicBool::new(false),
        })
    }

    /// How many words there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The slots of a word that were woken, as bits; they stay woken.
    pub(super) fn woken(&self, block: usize) -> u64 {
        let woken = |block: &Arc<Block>| block.woken.load(Ordering::Acquire);
        self.blocks.get(block).map_or(0, woken)
    }

    /// The slots of a word that were woken, of those in `mask`; they no longer are.
    pub(super) fn take(&self, block: usize, mask: u64) -> u64 {
        let Some(words) = self.blocks.get(block) else {
            return 0;
        };
        if words.woken.load(Ordering::Relaxed) & mask == 0 {
            return 0;
        }
        words.woken.fetch_and(!mask, Ordering::AcqRel) & mask
    }

    /// These slots of a word are woken again, and the task is not told.
    pub(super) fn put_back(&self, block: usize, bits: u64) {
        if let Some(words) = self.blocks.get(block) {
            words.woken.fetch_or(bits, Ordering::AcqRel);
        }
    }
}
