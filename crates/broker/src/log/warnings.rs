//! The warnings of the sequencer, each at most once a minute.

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
    ids: Option<Instant>,
    ids_told: u64,
}

impl Warnings {
    /// Events get a publish time that is so far ahead of the clock.
    pub(super) fn publish_time_ahead(&mut self, by: Duration, now: Instant) {
        if by < PUBLISH_TIME_AHEAD || !may_warn(&mut self.publish_time, now) {
            return;
        }
        tracing::warn!(
            ahead_seconds = by.as_secs(),
            "publish times are ahead of the clock, which was set back: new events have the time of the last one until the \
             clock gets there"
        );
    }
}

impl Warnings {
    /// Message ids were evicted early; `count` is the number since the start.
    pub(super) fn ids_pushed_out(&mut self, count: u64, ids_max: usize, now: Instant) {
        if count == self.ids_told || !may_warn(&mut self.ids, now) {
            return;
        }
        tracing::warn!(
            ids = count - self.ids_told,
            message_ids_max = ids_max,
            "message ids are forgotten before message_ids_age: more came than message_ids_max, and all publishers and \
             topics share it; a message sent again may be stored twice"
        );
        self.ids_told = count;
    }
}

/// Whether it is time for a line again; then this is when the last one was.
pub(super) fn may_warn(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_time = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
    if is_time {
        *last = Some(now);
    }
    is_time
}
