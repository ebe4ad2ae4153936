//! How a subscriber is woken: one flag word and one waker, shared by all that may want to wake it.
//!
//! Holds: `raise` never waits; a raise that finds its flag already up does not wake again, so ten thousand
//! events before the next poll cost one wake-up.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// Why a subscriber is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interest {
    /// A channel it follows has new chunks.
    Data = 1,
    /// Somebody wants something of its session.
    Control = 2,
}

/// The wake-up of one subscriber.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicU8,
    waker: AtomicWaker,
}

impl Signal {
    /// Marks the interest and wakes the subscriber if it was not marked before.
    pub fn raise(&self, interest: Interest) {
        let before = self.raised.fetch_or(interest as u8, Ordering::AcqRel);
        if before & interest as u8 == 0 {
            self.waker.wake();
        }
    }

    /// Takes a mark down; whether it was up.
    pub fn take(&self, interest: Interest) -> bool {
        let before = self.raised.fetch_and(!(interest as u8), Ordering::AcqRel);
        before & interest as u8 != 0
    }

    /// Whether something is marked and not yet taken: something has been due since the last poll.
    pub fn is_raised(&self, interest: Interest) -> bool {
        self.raised.load(Ordering::Acquire) & interest as u8 != 0
    }

    /// Whom to wake. Register before looking for what is due, or a raise in between is lost.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
