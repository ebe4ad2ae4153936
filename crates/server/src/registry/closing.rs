//! Streams that were told to end, in the order in which they were told, until it is time to see whether they have.
//!
//! A stream whose reader takes nothing cannot be told anything: its body is not polled. It is reset instead, after a
//! grace in which a reader that is only slow gets its GoAway.
//!
//! Does not: keep a session alive; one that has ended costs its place here until the grace is over.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Session;

/// How long a stream that was told to end may take. With the time between two looks of the watch it is reset within
/// 2.5 s.
pub(super) const CLOSE_GRACE: Duration = Duration::from_millis(1_500);

/// The streams of a node that were told to end. A session is in here once at most.
#[derive(Default)]
pub(crate) struct Closing {
    told: Mutex<VecDeque<(Instant, Weak<Session>)>>,
}

impl Closing {
    /// This session was told just now.
    pub(super) fn note(&self, session: &Arc<Session>) {
        let mut told = self.told.lock();
        // Under the lock, so that the order is that of time.
        told.push_back((Instant::now(), Arc::downgrade(session)));
    }

    /// Sessions whose grace is over and that have not ended; looks at `limit` of them at most. `None` when there is
    /// none left to look at.
    pub(super) fn take_overdue(&self, now: Instant, limit: usize) -> Option<Vec<Arc<Session>>> {
        let mut told = self.told.lock();
        let over = |(since, _): &(Instant, _)| now.saturating_duration_since(*since) >= CLOSE_GRACE;
        let count = told.iter().take(limit).take_while(|one| over(one)).count();
        if count == 0 {
            if told.is_empty() {
                told.shrink_to(64);
            }
            return None;
        }
        let overdue = told.drain(..count).filter_map(|(_, weak)| weak.upgrade());
        Some(overdue.collect())
    }
}
