//! The streams of one connection: side by side in memory, and polled in that order when they were woken.
//!
//! Waking many streams costs cache misses. So a wake-up sets one bit in a word that 64 streams share, a turn goes
//! through the streams in the order of memory, and a stream that would not be served in this turn is not touched.
//!
//! Holds: a stream that was woken is polled after that. A stream for which the turn had no budget is among the first of
//! the next turn. A stream that is over ends also while the socket is full.
//! Does not: know the work of a stream.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::task::waker_ref;
use tokio::time::Instant;

use super::response_body::Heartbeat;
use super::slots::Slots;
use super::wake_set::{BLOCK, StreamWaker, WakeSet};
use crate::limits;
use crate::transport::abort::Abort;

/// An empty set keeps the memory of this number of streams.
const KEPT: usize = 16;

/// The rest of a turn's budget: bytes that the streams may still send before the socket is looked at, and heads of responses.
pub(super) struct Turn {
    bytes: usize,
    heads: u32,
    blocked: bool,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            bytes: limits::CONNECTION_TURN_BYTES,
            heads: limits::CONNECTION_TURN_HEADS,
            blocked: false,
        }
    }

    /// One in which the socket takes nothing.
    fn blocked() -> Self {
        Self {
            blocked: true,
            ..Self::new()
        }
    }

    /// Whether nothing can be sent before the next turn.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes == 0 || self.heads == 0
    }

    /// The head of a response was handed over.
    pub(super) fn spend_head(&mut self) {
        self.heads = self.heads.saturating_sub(1);
    }

    /// The socket takes no more.
    pub(super) fn end(&mut self) {
        self.bytes = 0;
    }

    /// Counts sent bytes.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The kind of stream in a set; `W` is the state that all of them share.
pub(super) trait Member<W> {
    /// Ready when nothing more is to be done; it is dropped then. `cx` and `own` wake the same.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
        wire: &mut W,
    ) -> Poll<()>;

    /// Whether it has nothing to do but to send, so that it need not be polled while the socket takes nothing. One that
    /// is over has: its peer may go on to open others in its place for as long as it likes.
    fn waits_for_socket(&mut self, cx: &mut Context<'_>, own: &StreamWaker, wire: &mut W) -> bool;
}

pub(super) struct StreamSet<S> {
    slots: Slots<Slot<S>>,
    woken: WakeSet,
    /// The streams that were woken while the socket took nothing; one word for each word of the wake set. They are not
    /// polled again until the socket takes bytes. The wake set has none of them, so it shows the streams woken later.
    held_back: Vec<u64>,
    /// Where the last turn ended before it was through.
    next: usize,
}

struct Slot<S> {
    stream: S,
    own: Arc<StreamWaker>,
}

/// Resets the stream (`RST_STREAM(CANCEL)`) within one poll of its connection.
impl Abort for StreamWaker {
    fn abort(&self) {
        self.abort();
    }
}

impl<S> StreamSet<S> {
    /// `task` is woken when a stream is.
    pub(super) fn new(task: Waker) -> Self {
        Self {
            slots: Slots::new(),
            woken: WakeSet::new(task),
            held_back: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A stream that is to be polled, made for the slot and the waker that it gets.
    pub(super) fn insert(&mut self, stream: impl FnOnce(u32, &Arc<StreamWaker>) -> S) {
        let key = self.slots.vacant();
        let own = self.woken.waker(key);
        own.raise();
        let stream = stream(key as u32, &own);
        self.slots.insert(Slot { stream, own });
    }

    /// The stream in a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut S> {
        self.slots
            .get_mut(slot as usize)
            .map(|slot| &mut slot.stream)
    }

    /// Takes a stream out that is over for another reason than that it was polled.
    pub(super) fn remove(&mut self, slot: u32) -> Option<S> {
        let slot = self.slots.remove(slot as usize)?;
        self.shrink();
        Some(slot.stream)
    }

    fn shrink(&mut self) {
        if self.slots.is_empty() && self.slots.end() > KEPT {
            self.slots = Slots::new();
        }
    }

    /// All streams.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.slots.iter_mut().map(|slot| &mut slot.stream)
    }

    /// The stream in a slot, which is woken.
    pub(super) fn wake(&mut self, slot: u32) -> Option<&mut S> {
        let slot = self.slots.get_mut(slot as usize)?;
        slot.own.raise();
        Some(&mut slot.stream)
    }

    /// Wakes those that may speak by now, and says when the next of the others must.
    pub(super) fn wake_silent(
        &mut self,
        now: Instant,
        heartbeat: impl Fn(&mut S) -> Option<Heartbeat>,
    ) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        for slot in self.slots.iter_mut() {
            match heartbeat(&mut slot.stream) {
                Some(heartbeat) if heartbeat.from <= now => slot.own.raise(),
                Some(Heartbeat { until, .. }) => {
                    earliest = Some(earliest.map_or(until, |earliest| earliest.min(until)));
                }
                None => {}
            }
        }
        earliest
    }

    /// Polls the streams that were woken, each at most once, until the turn is over; whether some are left.
    pub(super) fn poll_woken<W>(&mut self, turn: &mut Turn, wire: &mut W) -> bool
    where
        S: Member<W>,
    {
        let (first, from) = (self.next / BLOCK, self.next % BLOCK);
        let later = u64::MAX << from;
        let blocks = self.woken.blocks();
        // The first block is looked at twice: from where the last turn ended, and at last up to there.
        for step in 0..=blocks {
            let (block, mask) = match step {
                0 => (first, later),
                step if step == blocks => (first, !later),
                step => ((first + step) % blocks, u64::MAX),
            };
            let woken = self.woken.take(block, mask);
            let held_back = self.take_held_back(block, mask);
            let mut left = woken | held_back;
            while left != 0 {
                let key = block * BLOCK + left.trailing_zeros() as usize;
                if turn.is_over() {
                    self.woken.put_back(block, woken & left);
                    self.hold_back(block, held_back & left);
                    self.next = key;
                    return true;
                }
                self.poll(key, turn, wire);
                left &= left - 1;
            }
        }
        self.next = 0;
        // Woken again in the first block while others of it waited for the second look: the task was not told.
        from != 0 && self.woken.woken(first) & later != 0
    }

    /// Each stream that was woken and has not been polled since.
    pub(super) fn for_each_woken(&mut self, mut call: impl FnMut(&mut S)) {
        for block in 0..self.woken.blocks() {
            let mut left = self.woken.woken(block);
            while left != 0 {
                let key = block * BLOCK + left.trailing_zeros() as usize;
                left &= left - 1;
                if let Some(slot) = self.slots.get_mut(key) {
                    call(&mut slot.stream);
                }
            }
        }
    }

    /// For a connection whose socket takes nothing: streams whose response has not begun go on, and those that are
    /// over end; the others stay woken and are polled when the socket is ready again.
    pub(super) fn poll_blocked<W>(&mut self, wire: &mut W)
    where
        S: Member<W>,
    {
        // Nothing but the head of a response is sent.
        let mut turn = Turn::blocked();
        for block in 0..self.woken.blocks() {
            let mut left = self.woken.take(block, u64::MAX);
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                let key = block * BLOCK + bit;
                left &= left - 1;
                // One whose response begins has to wait from then on.
                let waits = self.waits_for_socket(key, wire) || {
                    self.poll(key, &mut turn, wire);
                    self.waits_for_socket(key, wire)
                };
                if waits {
                    self.hold_back(block, 1 << bit);
                }
            }
        }
    }

    /// These are polled when the socket takes something, whether they are woken again or not.
    fn hold_back(&mut self, block: usize, bits: u64) {
        if bits != 0 {
            let blocks = self.held_back.len().max(block + 1);
            self.held_back.resize(blocks, 0);
            self.held_back[block] |= bits;
        }
    }

    fn take_held_back(&mut self, block: usize, mask: u64) -> u64 {
        self.held_back.get_mut(block).map_or(0, |held_back| {
            let taken = *held_back & mask;
            *held_back &= !mask;
            taken
        })
    }

    fn waits_for_socket<W>(&mut self, key: usize, wire: &mut W) -> bool
    where
        S: Member<W>,
    {
        self.slots.get_mut(key).is_some_and(|slot| {
            let waker = waker_ref(&slot.own);
            let mut cx = Context::from_waker(&waker);
            slot.stream.waits_for_socket(&mut cx, &slot.own, wire)
        })
    }

    fn poll<W>(&mut self, key: usize, turn: &mut Turn, wire: &mut W)
    where
        S: Member<W>,
    {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let waker = waker_ref(&slot.own);
        let mut cx = Context::from_waker(&waker);
        if slot.stream.poll(&mut cx, &slot.own, turn, wire).is_ready() {
            self.slots.remove(key);
            self.shrink();
        }
    }
}

#[cfg(test)]
mod tests;
