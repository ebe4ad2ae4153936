//! How old streams and connections become: each to an age of its own near a common limit.
//!
//! Holds: no age is above the limit, nor more than a tenth below it, so that a fleet that came together does not go together.
//! Does not: say what follows; that differs between a stream and a connection.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A part of the limit by which the ages of a fleet differ.
const JITTER: f64 = 0.1;

/// When one that began at `began` reaches its age. Its number tells it apart.
pub(crate) fn reached(began: Instant, age_max: Duration, number: u64) -> Instant {
    began + age_max.mul_f64(1.0 - JITTER * share(number))
}

/// A share of 1 for a number, below 1. Numbers that follow each other have shares far apart: the golden ratio spreads them
/// (Knuth, The Art of Computer Programming 3, 6.4).
pub(crate) fn share(number: u64) -> f64 {
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
    spread as f64 / 1_024.0
}

/// Gives each connection of a node its age.
#[derive(Debug)]
pub(crate) struct Ages {
    max: Option<Duration>,
    given: AtomicU64,
}

impl Ages {
    /// Of connections that live as long as their peers want, or about as long as `max`.
    pub(crate) fn new(max: Option<Duration>) -> Self {
        Self {
            max,
            given: AtomicU64::new(0),
        }
    }

    /// When one that begins now reaches its age; `None` for never.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let max = self.max?;
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        Some(reached(now, max, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ages_lie_within_a_tenth_below_the_limit_and_those_of_neighbours_lie_apart() {
        let began = Instant::now();
        let max = Duration::from_secs(1_000);
        let ages = Ages::new(Some(max));
        let reached: Vec<_> = (0..1_000).filter_map(|_| ages.next(began)).collect();
        let mut tenths = [0; 10];
        for at in &reached {
            let below = (began + max - *at).as_secs_f64();
            let tenth = (1..=10).position(|tenth| below < 10.0 * f64::from(tenth));
            tenths[tenth.expect("at most a tenth of the limit")] += 1;
        }
        assert!(
            tenths.iter().all(|count| (90..=110).contains(count)),
            "{tenths:?}"
        );
        assert!(reached.iter().all(|at| *at <= began + max));
        for pair in reached.windows(2) {
            let apart = pair[0].max(pair[1]) - pair[0].min(pair[1]);
            assert!(apart > Duration::from_secs(20), "{apart:?}");
        }
        assert_eq!(Ages::new(None).next(began), None);
    }
}
