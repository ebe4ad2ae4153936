//! How many bytes of text are taken in a second, whatever is said.

use std::time::Duration;

use tokio::time::Instant;

/// A number of bytes at once, and as many each second.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_a_second: u64,
    left: u64,
    counted: Instant,
    /// Nothing is taken until there is half of it again: otherwise single lines would stand between dropped ones.
    is_dry: bool,
}

impl Rate {
    pub(super) fn new(bytes_a_second: u64, now: Instant) -> Self {
        Self {
            bytes_a_second,
            left: bytes_a_second,
            counted: now,
            is_dry: false,
        }
    }

    /// Whether text of this length is taken now. A text that is longer than all of it is, when nothing was said for a second.
    pub(super) fn takes(&mut self, bytes: usize, now: Instant) -> bool {
        let all = self.bytes_a_second;
        let passed = now.saturating_duration_since(self.counted);
        let nanos = passed.min(Duration::from_secs(1)).as_nanos();
        let more = u64::try_from(u128::from(all) * nanos / 1_000_000_000).unwrap_or(all);
        // The rest of a byte counts for the next look.
        if more > 0 {
            self.left = (self.left + more).min(all);
            self.counted = now;
        }
        let bytes = (bytes as u64).min(all);
        self.is_dry &= self.left < all / 2;
        if self.is_dry || self.left < bytes {
            self.is_dry = true;
            return false;
        }
        self.left -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_second_takes_more_than_twice_the_rate_and_a_quiet_one_takes_any_line(
            texts in prop::collection::vec((0..3_000_usize, 0..400_u64), 1..300),
        ) {
            const RATE: u64 = 10_000;
            let began = Instant::now();
            let mut rate = Rate::new(RATE, began);
            let mut now = began;
            let mut taken: Vec<(Instant, u64)> = Vec::new();
            for (bytes, millis) in texts {
                now += Duration::from_millis(millis);
                if rate.takes(bytes, now) {
                    taken.push((now, bytes as u64));
                }
                let second = taken.iter().filter(|(at, _)| now - *at < Duration::from_secs(1));
                prop_assert!(second.map(|(_, bytes)| bytes).sum::<u64>() <= 2 * RATE);
            }
            prop_assert!(rate.takes(usize::MAX, now + Duration::from_secs(1)));
        }
    }

    #[test]
    fn what_follows_a_line_too_many_is_dropped_until_there_is_room_for_many() {
        let began = Instant::now();
        let mut rate = Rate::new(1_000, began);
        assert!((0..10).all(|_| rate.takes(100, began)));
        assert!(!rate.takes(100, began));
        assert!(!rate.takes(100, began + Duration::from_millis(400)));
        assert!(rate.takes(100, began + Duration::from_millis(500)));
        assert!(rate.takes(100, began + Duration::from_millis(500)));
    }
}
