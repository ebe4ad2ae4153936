//! How the connections of the load come back when their server is killed: at once, and resuming.
//!
//! Holds: nothing backs off. A connection that ends is dialled again in the same round of the loop. While a refused
//! dial says that no server listens, all waiting connections pause for a few milliseconds, then one tries. When a dial
//! is not refused, all others follow without a pause. So the server meets all of them together, and waiting for it
//! burns no core.

use std::collections::VecDeque;
use std::time::Duration;

use longlived_api::v1::Position;

use super::control::{Return, Returned, Times};
use super::tally::{Returning, Subscriber, Tally};

/// Pause of a process after a refused dial.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Comeback {
    asked: Return,
    /// Connections to be dialled, by index.
    waiting: VecDeque<usize>,
    /// No dial before this.
    paused_until_ns: u64,
    refused_dials: u64,
    lost_again: u64,
    reported: bool,
}

impl Comeback {
    pub(super) fn new(asked: Return) -> Self {
        Self {
            asked,
            waiting: VecDeque::new(),
            paused_until_ns: 0,
            refused_dials: 0,
            lost_again: 0,
            reported: false,
        }
    }

    pub(super) fn resume_after(&self) -> Option<Position> {
        let position = |(epoch, sequence)| Position { epoch, sequence };
        self.asked.resume_after.map(position)
    }

    /// A connection is gone; its subscribers may have been back already.
    pub(super) fn lost(&mut self, index: usize, was_back: bool) {
        self.lost_again += u64::from(was_back);
        self.waiting.push_back(index);
    }

    /// The answer was given: from here on nothing should be lost, and lost streams stay lost.
    pub(super) fn is_over(&self) -> bool {
        self.reported
    }

    /// No server listens.
    pub(super) fn refused(&mut self, index: usize, now_ns: u64) {
        self.refused_dials += 1;
        self.paused_until_ns =
            now_ns + u64::try_from(REFUSED_PAUSE.as_nanos()).expect("a few milliseconds");
        self.waiting.push_back(index);
    }

    /// The next connection to dial now, if any.
    pub(super) fn next(&mut self, now_ns: u64) -> Option<usize> {
        if now_ns < self.paused_until_ns {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When there is something to dial.
    pub(super) fn due_ns(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.paused_until_ns)
    }

    /// The answer, once: when all are back, or the time is up.
    pub(super) fn returned<'a>(
        &mut self,
        tally: &Tally,
        now_ns: u64,
        subscribers: u64,
        each: impl Iterator<Item = &'a Subscriber>,
    ) -> Option<Returned> {
        let Returning {
            back,
            resumed,
            resets,
        } = tally.returning.unwrap_or_default();
        if self.reported || (back < subscribers && now_ns < self.asked.deadline_ns) {
            return None;
        }
        self.reported = true;
        let since = |then_ns: u64| then_ns.saturating_sub(self.asked.from_ns);
        let back_at = each.map(|subscriber| subscriber.back_ns);
        let times = Times::of(back_at.filter(|back_ns| *back_ns > 0).map(since));
        Some(Returned {
            back,
            times,
            resumed,
            resets,
            refused_dials: self.refused_dials,
            lost_again: self.lost_again,
            trouble: tally.trouble().cloned(),
            retries: None,
        })
    }
}
