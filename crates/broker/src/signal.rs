//! The wake-up of a subscriber: one flag word and one waker, shared by all its wakers.
//!
//! Holds: `raise` never waits; a raise that finds its flag already up does not wake again, so ten thousand
//! events before the next poll cost one wake-up.

use std::{task::Waker, time::Duration};

use crate::{
    position::Sequence,
    sync::{AtomicBool, AtomicU8, AtomicU64, AtomicWaker, Ordering},
};

/// Why a subscriber is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interest {
    /// A live tail it follows has new chunks.
    Data = 1,
    /// There is an order for its session.
    Control = 2,
}

/// Set beside the interests: live tails no longer wake the subscriber, because it has not taken its mark for a long time.
/// Set only while [`Interest::Data`] is.
const LEFT_OUT: u8 = 4;

/// Set in the word of the sequence: flow control holds the subscriber's bytes. The next look for events writes the
/// sequence anyway, and so takes this mark down for nothing.
const HELD: u64 = 1 << 63;

/// The wake-up of one subscriber, and where it stands.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicU8,
    // Whether the subscriber reads history. Written by the cursor, read by metrics.
    catching_up: AtomicBool,
    waker: AtomicWaker,
    // The subscriber's position. Written by the cursor, read by calls that ask where the subscriber is. It stands here
    // because each delivery touches this cache line anyway.
    sequence: AtomicU64,
    // Milliseconds since the log began, when `HELD` was set.
    held_since: AtomicU64,
}

impl Signal {
    /// Marks the interest and wakes the subscriber if it was not marked before; whether that was so.
    pub fn raise(&self, interest: Interest) -> bool {
        let before = self.raised.fetch_or(interest as u8, Ordering::AcqRel);
        let first = before & interest as u8 == 0;
        if first {
            self.waker.wake();
        }
        first
    }

    /// Leaves the subscriber out of further wake-ups by a live tail, unless it has taken its mark; returns whether it is left
    /// out. The subscriber learns of it when it takes the mark. One word holds both, so neither is missed.
    pub(crate) fn leave_out(&self) -> bool {
        let data = Interest::Data as u8;
        let left_out = |raised| (raised & data != 0).then_some(raised | LEFT_OUT);
        let order = Ordering::AcqRel;
        (self.raised.fetch_update(order, Ordering::Acquire, left_out)).is_ok()
    }

    /// Takes the mark of the data down; whether a live tail has left the subscriber out meanwhile.
    pub(crate) fn take_data(&self) -> bool {
        if !self.is_raised(Interest::Data) {
            return false;
        }
        let both = Interest::Data as u8 | LEFT_OUT;
        self.raised.fetch_and(!both, Ordering::AcqRel) & LEFT_OUT != 0
    }

    /// Takes a mark down; whether it was up.
    pub fn take(&self, interest: Interest) -> bool {
        // A raise that this look misses finds the mark down, and wakes the waker that was registered before looking.
        if !self.is_raised(interest) {
            return false;
        }
        let before = self.raised.fetch_and(!(interest as u8), Ordering::AcqRel);
        before & interest as u8 != 0
    }

    /// Whether something is marked and not yet taken: there has been work since the last poll.
    pub fn is_raised(&self, interest: Interest) -> bool {
        self.raised.load(Ordering::Acquire) & interest as u8 != 0
    }

    /// The last sequence handed out or passed.
    pub fn sequence(&self) -> Sequence {
        self.sequence.load(Ordering::Relaxed) & !HELD
    }

    /// The subscriber has come to this sequence, and flow control does not hold its bytes.
    pub(crate) fn set_sequence(&self, sequence: Sequence) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// The subscriber has come to this sequence without being sent anything: held bytes stay held.
    pub(crate) fn pass(&self, sequence: Sequence) {
        let held = self.sequence.load(Ordering::Relaxed) & HELD;
        self.sequence.store(sequence | held, Ordering::Release);
    }

    /// Flow control holds the subscriber's bytes, until [`set_sequence`](Self::set_sequence); `now` is the age of the
    /// log. Called by the task that polls the subscriber.
    pub(crate) fn hold(&self, now: Duration) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        if sequence & HELD == 0 {
            let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.held_since.store(now, Ordering::Relaxed);
            self.sequence.store(sequence | HELD, Ordering::Release);
        }
    }

    /// Since when flow control holds the subscriber's bytes, as the age of the log then; `None` while it does not.
    pub fn held_since(&self) -> Option<Duration> {
        let held = self.sequence.load(Ordering::Acquire) & HELD != 0;
        held.then(|| Duration::from_millis(self.held_since.load(Ordering::Relaxed)))
    }

    /// Whether the subscriber reads history.
    pub fn is_catching_up(&self) -> bool {
        self.catching_up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_catching_up(&self, catching_up: bool) {
        self.catching_up.store(catching_up, Ordering::Relaxed);
    }

    /// Registers the waker to wake. Register before looking for events, or a raise in between is lost.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
