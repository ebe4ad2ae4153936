//! The ends and beginnings of calls in the log: some have a line of their own, the others are counted.
//!
//! Holds: nothing is lost. A rare call has its line. Of thousands of calls at once some have one, and one line a second
//! tells the number of all. So the log of a hundred thousand subscribers that come back is some hundred lines. Calls
//! without a line have one at debug.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How often sums are told, while there are any.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The happenings that may concern many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A subscription begins; one that comes back has missed nothing.
    Begun,
    /// A subscription begins, and something was missed.
    BegunAfterLoss,
    /// A stream or publisher has ended, as all do one day: unsubscribed, drained, or its client went away.
    Ended,
    /// A call ended in another way.
    Failed,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Begun, Self::BegunAfterLoss, Self::Ended, Self::Failed];

    /// Lines of their own: how many at once, and how many a second after that.
    const fn lines(self) -> (u32, u32) {
        match self {
            Self::Begun | Self::Ended => (20, 1),
            Self::BegunAfterLoss | Self::Failed => (50, 10),
        }
    }
}

/// Shared by all calls of a node; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    kinds: [Counted; Kind::ALL.len()],
    /// Notified when something has no line.
    any: Notify,
}

#[derive(Debug, Default)]
struct Counted {
    lines: Mutex<Lines>,
    /// Without a line, since the sums were told.
    unlogged: AtomicU64,
}

/// Lines that may be written now.
#[derive(Debug, Default)]
struct Lines {
    left: u32,
    /// `None` before the first.
    counted_at: Option<Instant>,
}

impl Lines {
    fn take(&mut self, kind: Kind, now: Instant) -> bool {
        let (at_once, each_second) = kind.lines();
        match &mut self.counted_at {
            None => (self.left, self.counted_at) = (at_once, Some(now)),
            Some(at) => {
                let seconds = now.duration_since(*at).as_secs();
                let more = seconds.saturating_mul(each_second.into());
                let left = u64::from(self.left)
                    .saturating_add(more)
                    .min(at_once.into());
                self.left = u32::try_from(left).expect("at most as many as at once");
                // The rest of a second counts for the next line.
                *at += Duration::from_secs(seconds);
            }
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

impl Sums {
    /// Whether this one has a line of its own; otherwise it is counted, and its line is for debug.
    pub(crate) fn has_line(&self, kind: Kind) -> bool {
        let counted = &self.shared.kinds[kind as usize];
        let has_line = counted.lines.lock().take(kind, Instant::now());
        if !has_line {
            counted.unlogged.fetch_add(1, Ordering::Relaxed);
            self.shared.any.notify_one();
        }
        has_line
    }

    /// Logs the sums until `stop`, and the rest then.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.shared.any.notified() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(TOLD_EVERY) => self.tell(),
            }
        }
        self.tell();
    }

    fn tell(&self) {
        let [begun, begun_after_loss, ended, failed] = Kind::ALL.map(|kind| {
            let unlogged = &self.shared.kinds[kind as usize].unlogged;
            unlogged.swap(0, Ordering::Relaxed)
        });
        if begun + begun_after_loss + ended + failed == 0 {
            return;
        }
        tracing::info!(
            target: "longlived::call",
            begun, begun_after_loss, ended, failed, "further calls and streams, without lines of their own"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rare_call_has_its_line_and_of_thousands_some_have_one() {
        let sums = Sums::default();
        let lines = |kind, count: u32| (0..count).filter(|_| sums.has_line(kind)).count();
        assert_eq!(lines(Kind::Begun, 20), 20);
        assert_eq!(lines(Kind::Begun, 1_000), 0);
        // Another kind is not held up by that.
        assert_eq!(lines(Kind::Failed, 1_000), 50);
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert_eq!(lines(Kind::Begun, 1_000), 2);
        assert_eq!(lines(Kind::Failed, 1_000), 20);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(lines(Kind::Begun, 1_000), 1);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(lines(Kind::Begun, 1_000), 20);
        let unlogged = |kind: Kind| {
            sums.shared.kinds[kind as usize]
                .unlogged
                .load(Ordering::Relaxed)
        };
        assert_eq!(unlogged(Kind::Begun), 4_020 - 43);
        assert_eq!(unlogged(Kind::Failed), 2_000 - 70);
        sums.tell();
        assert_eq!((unlogged(Kind::Begun), unlogged(Kind::Failed)), (0, 0));
    }
}
