//! The facts that the recorder's clock proves about an epoch: the events stored by a time, and those stored after it.

use crate::history::Publish;

/// Acknowledged publishes by time.
#[derive(Default)]
pub(crate) struct Clock {
    /// Begun at, the lowest sequence from here on, the line of its publish.
    begun: Vec<(u64, u64, u64)>,
    /// Ended at, the highest sequence up to here, the line of its answer.
    ended: Vec<(u64, u64, u64)>,
}

impl Clock {
    pub(super) fn take(&mut self, publish: &Publish, sequence: u64, duplicate: bool) {
        // A duplicate was stored before, at some time that is not known.
        if !duplicate {
            self.begun
                .push((publish.begun_at, sequence, publish.begun_line));
        }
        self.ended
            .push((publish.ended_at, sequence, publish.ended_line));
    }

    pub(super) fn finish(&mut self) {
        self.begun.sort_unstable();
        self.ended.sort_unstable();
        let mut lowest = (u64::MAX, 0);
        for (_, sequence, line) in self.begun.iter_mut().rev() {
            lowest = lowest.min((*sequence, *line));
            (*sequence, *line) = lowest;
        }
        let mut highest = (0, 0);
        for (_, sequence, line) in &mut self.ended {
            highest = highest.max((*sequence, *line));
            (*sequence, *line) = highest;
        }
    }

    /// The lowest sequence that was given to a publish begun after `at`, and its line: all events that were visible
    /// then lie below it.
    pub(crate) fn lowest_after(&self, at: u64) -> Option<(u64, u64)> {
        let index = self
            .begun
            .partition_point(|&(begun_at, _, _)| begun_at <= at);
        let &(_, sequence, line) = self.begun.get(index)?;
        Some((sequence, line))
    }

    /// The highest sequence that was acknowledged before `at`, and its line: all events that are stored later lie above
    /// it.
    pub(crate) fn highest_before(&self, at: u64) -> Option<(u64, u64)> {
        let count = self
            .ended
            .partition_point(|&(ended_at, _, _)| ended_at < at);
        let &(_, sequence, line) = self.ended.get(count.checked_sub(1)?)?;
        Some((sequence, line))
    }
}
