//! How long to wait before coming back: gRPC's connection-backoff numbers with full jitter.
//!
//! Holds: a wait is uniform between nothing and a ceiling that grows by 1.6 with each failure, the first
//! included, so that ten thousand clients of one killed server do not return in step.
//! Does not: reset by itself. A stream that opened is not yet a healthy one; whoever saw the first Welcome
//! or event calls [`Backoff::reset`].

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// The numbers of a [`Backoff`]; the defaults are those of gRPC's connection backoff.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffOptions {
    /// Ceiling of the first wait.
    pub initial: Duration,
    /// Growth of the ceiling from one wait to the next.
    pub multiplier: f64,
    /// The ceiling grows no further than this.
    pub max: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            multiplier: 1.6,
            max: Duration::from_secs(120),
        }
    }
}

/// The growing, jittered wait of one client.
#[derive(Clone, Debug)]
pub struct Backoff {
    options: BackoffOptions,
    ceiling: Duration,
}

impl Backoff {
    /// A backoff whose next wait is the first.
    pub fn new(options: BackoffOptions) -> Self {
        Self {
            ceiling: options.initial.min(options.max),
            options,
        }
    }

    /// The next wait, drawn from `rng`.
    pub fn next_wait(&mut self, rng: &mut impl Rng) -> Duration {
        let wait = self.ceiling.mul_f64(rng.random::<f64>());
        let grown = self.ceiling.as_secs_f64() * self.options.multiplier.max(1.0);
        self.ceiling = Duration::try_from_secs_f64(grown)
            .unwrap_or(self.options.max)
            .min(self.options.max);
        wait
    }

    /// The peer proved healthy: the next wait is the first again.
    pub fn reset(&mut self) {
        self.ceiling = self.options.initial.min(self.options.max);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    /// Draws the top of every range, so that waits show the ceilings.
    struct Highest;

    impl rand::TryRng for Highest {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(u32::MAX)
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(u64::MAX)
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(u8::MAX);
            Ok(())
        }
    }

    #[test]
    fn ceilings_are_the_numbers_of_grpc() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        let ceilings: Vec<u128> = (0..13)
            .map(|_| (backoff.next_wait(&mut Highest).as_millis() + 500) / 1_000)
            .collect();
        assert_eq!(ceilings, [1, 2, 3, 4, 7, 10, 17, 27, 43, 69, 110, 120, 120]);
    }

    #[test]
    fn waits_spread_over_the_whole_range_from_the_first_on() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut quarters = [0u32; 4];
        for _ in 0..4_000 {
            let wait = Backoff::new(BackoffOptions::default()).next_wait(&mut rng);
            quarters[wait.as_millis() as usize / 250] += 1;
        }
        assert!(
            quarters.iter().all(|count| (850..1_150).contains(count)),
            "{quarters:?}"
        );
    }

    #[test]
    fn after_a_reset_the_next_wait_is_the_first_again() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        for _ in 0..5 {
            backoff.next_wait(&mut Highest);
        }
        backoff.reset();
        assert!(backoff.next_wait(&mut Highest) <= Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn no_wait_is_above_the_maximum(seed: u64, initial in 0u64..10_000, max in 0u64..10_000, multiplier in -1e9..1e9f64) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            let mut backoff = Backoff::new(BackoffOptions { initial, multiplier, max });
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..100 {
                prop_assert!(backoff.next_wait(&mut rng) <= max);
            }
        }
    }
}
