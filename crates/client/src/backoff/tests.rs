use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// An outage that began when the stream of one client was lost.
#[derive(Clone, Copy, Debug)]
struct Outage {
    lasts: Duration,
    /// A try that fails takes up to this, also beyond the end of the outage.
    failure_max: Duration,
    /// A try that succeeds takes this.
    success: Duration,
}

/// The tries of one client.
#[derive(Clone, Copy, Debug)]
struct Return {
    /// From the loss.
    back: Duration,
    tries: u32,
}

impl Outage {
    fn of_one(self, rng: &mut SmallRng) -> Return {
        let lost = Instant::now();
        let mut backoff = Backoff::new(BackoffOptions::default());
        backoff.opened(lost.checked_sub(60 * SECOND).unwrap());
        let (mut now, mut tries) = (lost, 0);
        loop {
            now += backoff.next_wait(now, rng);
            tries += 1;
            if now - lost >= self.lasts {
                let back = now + self.success - lost;
                return Return { back, tries };
            }
            now += self.failure_max.mul_f64(rng.random::<f64>());
        }
    }

    fn of_many(self, clients: usize, seed: u64) -> Vec<Return> {
        let mut rng = SmallRng::seed_from_u64(seed);
        (0..clients).map(|_| self.of_one(&mut rng)).collect()
    }
}

/// Far above the mean that the logarithm gives, so that chance does not meet it.
fn tries_max(away: Duration) -> u32 {
    let seconds = away.as_secs() as u32;
    // More than the natural logarithm of one more.
    let doublings = u32::BITS - seconds.min(120).leading_zeros();
    16 + 9 * doublings + seconds / 30
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where tries fail and succeed within a quarter of a second, as with a proxy that answers 502 at once.
    #[test]
    fn everybody_is_back_within_twice_the_outage_or_two_seconds_after_it(
        seed: u64, millis in 0u64..1_000_000, failure in 0u32..=250, success in 0u32..=250,
    ) {
        let lasts = Duration::from_millis(millis);
        let outage = Outage { lasts, failure_max: failure * MILLISECOND, success: success * MILLISECOND };
        for one in outage.of_many(1_000, seed) {
            prop_assert!(one.back <= (2 * lasts).max(lasts + 2 * SECOND), "{one:?}");
            prop_assert!(one.tries <= tries_max(lasts), "{one:?}");
        }
    }

    /// A try that hangs adds its time after the end of the outage, once, and no more.
    #[test]
    fn tries_that_hang_put_the_return_off_by_one_of_them_at_most(
        seed: u64, seconds in 0u32..3_000, failure in 0u32..=15,
    ) {
        let (lasts, failure_max) = (seconds * SECOND, failure * SECOND);
        let outage = Outage { lasts, failure_max, success: Duration::ZERO };
        for one in outage.of_many(1_000, seed) {
            let latest = lasts.mul_f64(1.75).max(lasts + failure_max + SECOND);
            prop_assert!(one.back <= latest + MILLISECOND, "{one:?}");
            prop_assert!(one.tries <= tries_max(lasts), "{one:?}");
        }
    }

    #[test]
    fn no_wait_is_above_the_maximum(
        seed: u64, initial in 0u64..10_000, max in 0u64..10_000, multiplier in prop_oneof![-1e9..1e9f64, Just(f64::NAN), Just(f64::INFINITY)],
    ) {
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
        let mut backoff = Backoff::new(BackoffOptions { initial, multiplier, max });
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut now = Instant::now();
        for _ in 0..100 {
            let wait = backoff.next_wait(now, &mut rng);
            prop_assert!(wait <= max);
            now += wait;
        }
    }
}

#[test]
fn the_tries_of_a_client_rise_with_the_logarithm_of_the_outage() {
    for (seconds, mean_max) in [(0, 1.0), (1, 4.0), (10, 11.0), (100, 19.0), (1_000, 40.0)] {
        let outage = Outage {
            lasts: seconds * SECOND,
            failure_max: Duration::ZERO,
            success: Duration::ZERO,
        };
        let all = outage.of_many(2_000, u64::from(seconds));
        let tries: u32 = all.iter().map(|one| one.tries).sum();
        let mean = f64::from(tries) / 2_000.0;
        assert!(mean <= mean_max, "{mean} tries in {seconds} s");
    }
}

#[test]
fn clients_that_were_lost_together_return_spread_after_a_short_outage_and_after_a_long_one() {
    for seconds in [0, 3, 30, 600] {
        let lasts = seconds * SECOND;
        let outage = Outage {
            lasts,
            failure_max: Duration::ZERO,
            success: Duration::ZERO,
        };
        let range = lasts.mul_f64(0.75).clamp(SECOND, 120 * SECOND);
        let mut twentieths = [0; 21];
        for one in outage.of_many(4_000, 5) {
            let after = one.back.checked_sub(lasts).unwrap();
            twentieths[(after.as_micros() * 20 / range.as_micros()) as usize] += 1;
        }
        // The longer a moment is after the outage, the fewer draws reach it.
        assert!(
            twentieths.iter().all(|&count| count < 600),
            "{seconds} s: {twentieths:?}"
        );
        assert!(
            twentieths[..10].iter().all(|&count| count > 50),
            "{seconds} s: {twentieths:?}"
        );
    }
}

#[test]
fn the_first_waits_spread_over_the_whole_range() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut quarters = [0u32; 4];
    for _ in 0..4_000 {
        let wait = Backoff::new(BackoffOptions::default()).next_wait(Instant::now(), &mut rng);
        quarters[wait.as_millis() as usize / 250] += 1;
    }
    assert!(
        quarters.iter().all(|count| (850..1_150).contains(count)),
        "{quarters:?}"
    );
}

/// Opened as often as it is tried, and cut so long after that.
fn tries_under_cuts_after(life: Duration, during: Duration, seed: u64) -> u32 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut backoff = Backoff::new(BackoffOptions::default());
    let (mut now, mut tries) = (began, 0);
    while now - began < during {
        tries += 1;
        backoff.opened(now);
        now += life;
        now += backoff.next_wait(now, &mut rng);
    }
    tries
}

#[test]
fn streams_that_are_cut_just_after_they_were_opened_are_opened_ever_more_seldom() {
    let hour = 3_600 * SECOND;
    for millis in [0, 50, 500, 999] {
        for seed in 0..500 {
            let tries = tries_under_cuts_after(millis * MILLISECOND, hour, seed);
            assert!(
                tries <= tries_max(hour),
                "{tries} in an hour, cut after {millis} ms"
            );
        }
    }
}

/// After an outage of a minute.
fn long_away(rng: &mut SmallRng) -> (Backoff, Instant) {
    let mut backoff = Backoff::new(BackoffOptions::default());
    let mut now = Instant::now();
    let lost = now;
    while now - lost < 60 * SECOND {
        now += backoff.next_wait(now, rng);
    }
    (backoff, now)
}

/// The largest of many draws from the same state.
fn longest(backoff: &Backoff, now: Instant, rng: &mut SmallRng) -> Duration {
    let waits = (0..1_000).map(|_| backoff.clone().next_wait(now, rng));
    waits.max().unwrap()
}

#[test]
fn a_stream_that_lived_ends_the_outage_and_one_that_did_not_is_part_of_it() {
    let mut rng = SmallRng::seed_from_u64(11);
    let (mut backoff, now) = long_away(&mut rng);
    backoff.opened(now);
    let cut = now + 9 * SECOND;
    assert!(longest(&backoff, cut, &mut rng) > 20 * SECOND);
    let lived = now + HEALTHY_AFTER;
    assert!(longest(&backoff, lived, &mut rng) <= SECOND);
    // After a first loss it need not live so long.
    let mut backoff = Backoff::new(BackoffOptions::default());
    let now = now + backoff.next_wait(now, &mut rng);
    backoff.opened(now);
    assert!(longest(&backoff, now + SECOND, &mut rng) <= SECOND);
}

#[test]
fn an_announced_end_does_not_count_as_a_loss_nor_its_wait_as_time_away() {
    let mut rng = SmallRng::seed_from_u64(13);
    let (mut backoff, now) = long_away(&mut rng);
    backoff.opened(now);
    let turn = backoff.announced(now + SECOND, 90 * SECOND, &mut rng);
    assert_eq!(turn, 90 * SECOND, "the server's word holds");
    let failed = now + SECOND + turn + 10 * MILLISECOND;
    assert!(longest(&backoff, failed, &mut rng) <= SECOND);
}

#[test]
fn a_named_wait_is_no_draw_and_counts_as_time_away() {
    let mut rng = SmallRng::seed_from_u64(17);
    let mut backoff = Backoff::new(BackoffOptions::default());
    let now = Instant::now();
    backoff.named(now, 40 * SECOND);
    let failed = now + 40 * SECOND;
    let longest = longest(&backoff, failed, &mut rng);
    assert!(
        (25 * SECOND..=30 * SECOND).contains(&longest),
        "{longest:?}"
    );
}

#[test]
fn a_server_that_dismisses_each_stream_at_once_is_not_asked_in_a_loop() {
    let mut rng = SmallRng::seed_from_u64(19);
    let mut backoff = Backoff::new(BackoffOptions::default());
    let began = Instant::now();
    let mut now = began;
    for _ in 0..100 {
        backoff.opened(now);
        now += backoff.announced(now, Duration::ZERO, &mut rng);
    }
    let took = now - began;
    assert!((35 * SECOND..65 * SECOND).contains(&took), "{took:?}");
    // Streams that grow old are followed at once, each time.
    let mut backoff = Backoff::new(BackoffOptions::default());
    for _ in 0..3 {
        backoff.opened(now);
        now += 5 * SECOND;
        assert_eq!(
            backoff.announced(now, Duration::ZERO, &mut rng),
            Duration::ZERO
        );
    }
}

#[test]
fn a_fresh_credential_is_tried_at_once_but_not_again_and_again() {
    let mut rng = SmallRng::seed_from_u64(23);
    let mut backoff = Backoff::new(BackoffOptions::default());
    let mut now = Instant::now();
    assert_eq!(backoff.at_once(now, &mut rng), Duration::ZERO);
    let began = now;
    for _ in 0..40 {
        backoff.opened(now);
        now += backoff.at_once(now, &mut rng);
    }
    assert!(now - began > 60 * SECOND);
}
