//! What the sequencer warns of, each at most once a minute however often it is met.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines about the same.
const INTERVAL: Duration = Duration::from_secs(60);
/// Clocks are corrected by less than this all the time.
const PUBLISH_TIME_AHEAD: Duration = Duration::from_secs(1);

/// When each was told last.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    publish_time: Option<Instant>,
}

impl Warnings {
    /// Events get a publish time that is so far ahead of the clock.
    pub(super) fn publish_time_ahead(&mut self, by: Duration, now: Instant) {
        if by < PUBLISH_TIME_AHEAD || !is_due(&mut self.publish_time, now) {
            return;
        }
        tracing::warn!(
            ahead_seconds = by.as_secs(),
            "publish times are ahead of the clock, which was set back: new events have the time of the last one until the \
             clock gets there"
        );
    }
}

fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}
