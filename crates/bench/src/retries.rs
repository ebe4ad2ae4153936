//! The waits of the client library, compared with full jitter: each wait is uniform between nothing and a ceiling that
//! grows with the time since the loss. The ceiling is reached 1.75 times as long after the loss as the try that failed
//! had begun, from one second to 120.
//!
//! Holds: the ceiling is reckoned here, from when a subscriber has lost its stream and tried to come back, and not
//! asked of the client.

use std::time::Duration;

use longlived_client::BackoffOptions;
use serde::{Deserialize, Serialize};

/// Waits are kept as shares of their ceiling, to this part of it.
const STEPS: u32 = 10_000;
/// A sample of a uniform distribution lies further off than this, divided by the root of its size, once in a million
/// times (Kolmogorov).
const DISTANCE_CRITICAL: f64 = 2.7;

/// A stream of this age ends an outage, after waits of any length.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The drawn waits of all subscribers of a process or of several.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Retries {
    /// How many waits were this many steps of their ceiling.
    shares: Vec<u64>,
    /// Waits above their ceiling.
    pub(super) above: u64,
    /// Waits that the server may have named, which are no draws.
    pub(super) named: u64,
    /// Times from the end of a wait to the outcome of the attempt, as (nanoseconds, how many).
    pub(super) attempts: Vec<(u64, u64)>,
    /// The subscriber that was back last.
    pub(super) last: Option<LastBack>,
    /// The most tries of one subscriber.
    pub(super) tries_max: u32,
}

/// The subscriber that was back last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastBack {
    /// When.
    pub(super) back_ns: u64,
    /// How often it had tried.
    pub(super) tries: u32,
    /// Its wait before the try that succeeded.
    pub(super) waited_ms: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            shares: vec![0; STEPS as usize],
            above: 0,
            named: 0,
            attempts: Vec::new(),
            last: None,
            tries_max: 0,
        }
    }
}

impl Retries {
    pub(super) fn drawn(&mut self, wait: Duration, ceiling: Duration) {
        let share = wait.as_secs_f64() / ceiling.as_secs_f64();
        if share > 1.0 {
            self.above += 1;
            return;
        }
        #[expect(clippy::cast_sign_loss, reason = "a wait is not negative")]
        let step = (share * f64::from(STEPS)) as usize;
        self.shares[step.min(STEPS as usize - 1)] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, one) in self.shares.iter_mut().zip(&other.shares) {
            *sum += one;
        }
        self.above += other.above;
        self.named += other.named;
        self.attempts.extend(&other.attempts);
        self.last = self
            .last
            .into_iter()
            .chain(other.last)
            .max_by_key(|last| last.back_ns);
        self.tries_max = self.tries_max.max(other.tries_max);
    }

    /// Waits that were drawn.
    pub(super) fn count(&self) -> u64 {
        self.shares.iter().sum::<u64>() + self.above
    }

    /// The share of the ceiling that this part of all waits lies below.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let wanted = part * self.count() as f64;
        let mut seen = 0;
        for (step, count) in (1..=STEPS).zip(&self.shares) {
            seen += count;
            if seen as f64 >= wanted {
                return f64::from(step) / f64::from(STEPS);
            }
        }
        f64::INFINITY
    }

    /// The largest difference between the waits' distribution and the uniform one (Kolmogorov-Smirnov).
    pub(super) fn distance(&self) -> f64 {
        let all = self.count().max(1) as f64;
        let mut seen = 0;
        let mut largest = 0_f64;
        for (step, count) in (1..=STEPS).zip(&self.shares) {
            seen += count;
            let asked = f64::from(step) / f64::from(STEPS);
            largest = largest.max((seen as f64 / all - asked).abs());
        }
        largest
    }

    /// The distance that this number of uniform waits keeps, except in one sample in a million.
    pub(super) fn distance_max(&self) -> f64 {
        DISTANCE_CRITICAL / (self.count().max(1) as f64).sqrt() + 1.0 / f64::from(STEPS)
    }
}

/// Of the next wait of one subscriber.
#[derive(Debug)]
pub(super) struct Ceiling {
    options: BackoffOptions,
    // When the stream was lost, and when the try under way began, by the clock of the caller.
    lost_ns: Option<u64>,
    tried_ns: u64,
    welcomed_ns: Option<u64>,
    last: Duration,
}

impl Ceiling {
    pub(super) fn new() -> Self {
        let options = BackoffOptions::default();
        Self {
            lost_ns: None,
            tried_ns: 0,
            welcomed_ns: None,
            last: options.initial,
            options,
        }
    }

    /// A stream ended, or a try failed, and a wait follows.
    pub(super) fn next(&mut self, now_ns: u64, wait: Duration) -> Duration {
        if let Some(welcomed_ns) = self.welcomed_ns.take() {
            let lived = Duration::from_nanos(now_ns.saturating_sub(welcomed_ns));
            if lived >= self.last.min(HEALTHY_AFTER) {
                self.lost_ns = None;
            }
        }
        let lost_ns = *self.lost_ns.get_or_insert_with(|| {
            self.tried_ns = now_ns;
            now_ns
        });
        let away = |until_ns: u64| until_ns.saturating_sub(lost_ns) as f64 / 1e9;
        let latest = away(self.tried_ns) * self.options.multiplier - away(now_ns);
        let ceiling = latest
            .max(self.options.initial.as_secs_f64())
            .min(self.options.max.as_secs_f64());
        self.last = Duration::from_secs_f64(ceiling);
        self.waits(now_ns, wait);
        self.last
    }

    /// The next try begins after this wait, drawn or named.
    pub(super) fn waits(&mut self, now_ns: u64, wait: Duration) {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.tried_ns = now_ns.saturating_add(wait_ns);
        self.lost_ns.get_or_insert(now_ns);
    }

    /// A Welcome came.
    pub(super) fn welcomed(&mut self, now_ns: u64) {
        self.welcomed_ns = Some(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use longlived_client::Backoff;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn of(wait: impl Fn(u32) -> f64) -> Retries {
        let mut retries = Retries::default();
        for number in 0..20_000 {
            retries.drawn(SECOND.mul_f64(wait(number)), SECOND);
        }
        retries
    }

    #[test]
    fn the_clients_backoff_passes_with_its_ceilings() {
        let mut rng = SmallRng::seed_from_u64(3);
        let mut retries = Retries::default();
        let began = tokio::time::Instant::now();
        for number in 0..4_000 {
            let mut backoff = Backoff::new(BackoffOptions::default());
            let mut ceiling = Ceiling::new();
            let mut away = Duration::ZERO;
            for try_number in 0..16_u32 {
                let now_ns = away.as_nanos() as u64;
                // A stream that is cut at once belongs to the outage.
                if try_number == 5 {
                    backoff.opened(began + away);
                    ceiling.welcomed(now_ns);
                }
                let wait = backoff.next_wait(began + away, &mut rng);
                retries.drawn(wait, ceiling.next(now_ns, wait));
                away += wait + Duration::from_millis(number % 40);
            }
        }
        assert_eq!(retries.above, 0);
        assert!(
            retries.distance() < retries.distance_max(),
            "{}",
            retries.distance()
        );
        assert!((retries.quantile(0.3) - 0.3).abs() < 0.02);
    }

    #[test]
    fn waits_of_another_shape_do_not_pass() {
        let even = |number: u32| f64::from(number) / 20_000.0;
        assert!(of(even).distance() < of(even).distance_max());
        let half: fn(f64) -> f64 = |share| share.midpoint(1.0);
        let squared: fn(f64) -> f64 = |share| share * share;
        let fixed: fn(f64) -> f64 = |_| 0.5;
        for shape in [half, squared, fixed] {
            let retries = of(|number| shape(even(number)));
            assert!(retries.distance() > retries.distance_max());
        }
        let long = of(|number| even(number) * 1.1);
        assert!(long.above > 0);
        assert!(long.distance() > long.distance_max());
    }

    #[test]
    fn several_processes_count_as_one() {
        let mut both = of(|_| 0.25);
        both.add(&of(|_| 0.75));
        assert_eq!(both.count(), 40_000);
        assert!((both.quantile(0.4) - 0.25).abs() < 0.001);
        assert!((both.quantile(0.6) - 0.75).abs() < 0.001);
    }
}
