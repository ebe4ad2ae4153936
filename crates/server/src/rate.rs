//! A rate, by the generic cell rate algorithm (ITU-T I.371): the time up to which what was taken is paid for.
//!
//! Holds: a second's worth may be taken at once. It has no timer, and one number of state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What was taken. How much may be is said at each call, since it may change.
#[derive(Debug)]
pub(crate) struct Rate {
    began: Instant,
    paid_until: AtomicU64,
}

/// What may be taken at once, in time.
pub(crate) const BURST: Duration = Duration::from_secs(1);

impl Rate {
    /// Nothing was taken yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            began: now,
            paid_until: AtomicU64::new(0),
        }
    }

    fn now(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes some, also what there is not.
    pub(crate) fn take(&self, some: u64, a_second: u64, now: Instant) {
        let now = self.now(now);
        let cost = u128::from(some) * 1_000_000_000 / u128::from(a_second.max(1));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let paid = |until: u64| Some(until.max(now).saturating_add(cost));
        let order = Ordering::Relaxed;
        self.paid_until.fetch_update(order, order, paid).ok();
    }

    /// How long until some may be taken.
    pub(crate) fn wait(&self, a_second: u64, now: Instant) -> Duration {
        if a_second == 0 {
            return BURST;
        }
        // One more must fit.
        let one = Duration::from_nanos(1_000_000_000 / a_second);
        (self.ahead(now) + one).saturating_sub(BURST.max(one))
    }

    /// How long until nothing is left of what was taken: then it is as a new one.
    pub(crate) fn ahead(&self, now: Instant) -> Duration {
        let paid_until = self.paid_until.load(Ordering::Relaxed);
        Duration::from_nanos(paid_until.saturating_sub(self.now(now)))
    }
}
