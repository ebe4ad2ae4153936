//! The host's monotonic clock as a number that processes can exchange.
//!
//! Holds: two processes on one host read the same clock, so a timestamp written by the publisher can be
//! subtracted by a reader elsewhere. `Instant` hides that number, which is why it is not used here.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds =
        u64::try_from(now.tv_sec).expect("the monotonic clock counts up from the host's start");
    let nanoseconds =
        u64::try_from(now.tv_nsec).expect("nanoseconds of a timespec are never negative");
    seconds * 1_000_000_000 + nanoseconds
}

/// A length of time as the clock counts it.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run is shorter than centuries")
}
