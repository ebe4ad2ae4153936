//! The pace of a reader that asked to be disconnected when it is slow, as the watch sees it.
//!
//! Holds: written by the body when it is polled for its responses, read by [`super::Maintenance`] when it is not.
//! Does not: decide; it reports the state.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use longlived_broker::{Interest, Signal, Tails};
use tokio::time::Instant;

/// How a reader keeps up.
pub(super) struct Pace {
    // At each poll: milliseconds since `started`, and whether the body had nothing more to say then.
    started: Instant,
    polled_ms: AtomicU64,
    at_rest: AtomicBool,
    // A reader that has never been current is behind, not slow.
    has_been_current: AtomicBool,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            polled_ms: AtomicU64::new(0),
            at_rest: AtomicBool::new(true),
            has_been_current: AtomicBool::new(false),
        }
    }

    pub(super) fn polled(&self, now: Instant, at_rest: bool) {
        let since = now.duration_since(self.started).as_millis() as u64;
        self.polled_ms.store(since, Ordering::Relaxed);
        self.at_rest.store(at_rest, Ordering::Relaxed);
    }

    pub(super) fn set_current(&self) {
        self.has_been_current.store(true, Ordering::Relaxed);
    }

    /// How the reader falls behind, if it was current once and has not taken the pending events.
    pub(super) fn behind(&self, signal: &Signal, tails: impl FnOnce() -> Tails) -> Option<Behind> {
        let is_behind = !self.at_rest.load(Ordering::Relaxed) || signal.is_raised(Interest::Data);
        if !is_behind || !self.has_been_current.load(Ordering::Relaxed) {
            return None;
        }
        // While it catches up with a filter that it has added, its position is where that filter's history is read, and
        // the tails do not matter.
        if !signal.is_catching_up() && !tails().reach(signal.sequence()) {
            return Some(Behind::Tails);
        }
        Some(Behind::Since(self.polled_ms.load(Ordering::Relaxed)))
    }
}

/// The events that a reader has not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Its position has left the memory tail.
    Tails,
    /// Nothing since this poll of its body.
    Since(u64),
}

/// The last poll at which a reader was seen to take nothing, and when that was first seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Untaken(Option<(u64, Instant)>);

impl Untaken {
    /// Whether the reader has taken nothing for so long. A reader that was idle is not slow when something becomes
    /// due: time counts from where the watch first saw it.
    pub(super) fn lasts(&mut self, behind: Option<Behind>, now: Instant, limit: Duration) -> bool {
        let since = match (behind, self.0) {
            (None, _) => {
                self.0 = None;
                return false;
            }
            (Some(Behind::Tails), _) => return true,
            (Some(Behind::Since(poll)), Some((seen, since))) if poll == seen => since,
            (Some(Behind::Since(poll)), _) => {
                self.0 = Some((poll, now));
                now
            }
        };
        now.saturating_duration_since(since) >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_slow_when_one_poll_stays_its_last_for_the_limit() {
        let limit = Duration::from_secs(30);
        let mut untaken = Untaken::default();
        let mut after = |seconds: u64, behind| {
            let now = START.with(|start| *start) + Duration::from_secs(seconds);
            untaken.lasts(behind, now, limit)
        };
        thread_local!(static START: Instant = Instant::now());
        assert!(!after(0, Some(Behind::Since(7))));
        assert!(!after(29, Some(Behind::Since(7))));
        // It took something.
        assert!(!after(30, Some(Behind::Since(8))));
        assert!(!after(59, Some(Behind::Since(8))));
        assert!(after(60, Some(Behind::Since(8))));
        // It has taken everything.
        assert!(!after(61, None));
        assert!(!after(62, Some(Behind::Since(8))));
        assert!(after(62, Some(Behind::Tails)));
    }
}
