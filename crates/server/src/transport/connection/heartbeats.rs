//! When the streams of a connection that must not be silent for too long are to be asked.
//!
//! A time for each stream in a queue of its own would be moved by each event. So there is one for all of them: the earliest. When it is
//! over all are asked; a stream that sent meanwhile is asked later.
//!
//! Holds: no stream is asked later than `STEP` after the time that it named.
//! Does not: know the message that a stream sends then, nor have a timer; the connection's one timer asks.

use std::time::Duration;

use tokio::time::Instant;

/// How far apart two looks at all streams are at least. The promise to a client leaves more than that for the way.
const STEP: Duration = Duration::from_millis(50);

/// The earliest time is looked at this much before it, when the timer fires for something else: streams that may speak early then fall
/// into step. A look long before it would find none, at a line of memory for each stream.
const NEAR: Duration = Duration::from_secs(5);

/// The time of one connection; none until a stream needs one.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(Option<Instant>);

impl Heartbeats {
    /// A stream wants to be asked then.
    pub(super) fn wants(&mut self, at: Instant) {
        self.0 = Some(self.0.map_or(at, |earliest| earliest.min(at)));
    }

    /// When all are to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0
    }

    /// Whether some are due now or soon.
    pub(super) fn are_near(&self, now: Instant) -> bool {
        self.0.is_some_and(|due| due <= now + NEAR)
    }

    /// All were asked, and this is the earliest that is left.
    pub(super) fn again(&mut self, now: Instant, earliest: Option<Instant>) {
        self.0 = earliest.map(|earliest| earliest.max(now + STEP));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_asked_first_and_no_sooner_than_a_step_after_the_last_look() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut heartbeats = Heartbeats::default();
        assert_eq!(heartbeats.due(), None);
        heartbeats.wants(after(1_000));
        heartbeats.wants(after(2_000));
        heartbeats.wants(after(500));
        assert_eq!(heartbeats.due(), Some(after(500)));
        assert!(heartbeats.are_near(start));
        heartbeats.again(after(500), Some(after(520)));
        assert_eq!(heartbeats.due(), Some(after(550)));
        heartbeats.again(after(550), Some(after(5_551)));
        assert!(!heartbeats.are_near(after(550)));
        assert!(heartbeats.are_near(after(551)));
        heartbeats.again(after(550), None);
        assert_eq!(heartbeats.due(), None);
    }
}
