//! The batches of one retention class, and letting go of the oldest.

use std::{collections::VecDeque, sync::Arc};

use super::kept::Kept;
use crate::{
    frame::Frames,
    position::Sequence,
    store::{
        Limits,
        clock::{Ages, Stamp},
        topics::Topics,
    },
};

pub(super) struct Class {
    limits: Limits,
    batches: VecDeque<Batch>,
    // Entries of the first batch that are gone already: limits hold to the event, not to the batch.
    skip: usize,
    events: u64,
    bytes: u64,
    trimmed_through: Sequence,
    trimmed_time: i64,
}

pub(super) struct Batch {
    pub(super) frames: Arc<Frames>,
    stamp: Stamp,
}

impl Class {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            skip: 0,
            events: 0,
            bytes: 0,
            trimmed_through: 0,
            trimmed_time: i64::MIN,
        }
    }

    pub(super) fn push(&mut self, frames: Arc<Frames>, stamp: Stamp) {
        self.events += frames.entries().len() as u64;
        self.bytes += frames.len_bytes() as u64;
        self.batches.push_back(Batch { frames, stamp });
    }

    /// Removes events over a limit, at most `left` of them; the rest of that number stays in `left`.
    pub(super) fn trim(
        &mut self,
        ages: &Ages,
        left: &mut usize,
        topics: &mut Topics,
        kept: &mut Kept,
        dropped: &mut Vec<Arc<Frames>>,
    ) {
        while let Some(batch) = self.batches.front() {
            let over = self.events > self.limits.events || self.bytes > self.limits.bytes;
            let outlived = || self.limits.outlived(batch.stamp.taken, ages);
            if *left == 0 || !(over || outlived()) {
                break;
            }
            *left -= 1;
            let entry = batch.frames.entries()[self.skip];
            self.trimmed_through = entry.sequence;
            self.trimmed_time = batch.stamp.published;
            topics.trimmed(&entry);
            kept.trimmed(entry.topic, entry.sequence);
            self.events -= 1;
            self.bytes -= u64::from(entry.len);
            self.skip += 1;
            if self.skip == batch.frames.entries().len() {
                self.skip = 0;
                dropped.extend(self.batches.pop_front().map(|batch| batch.frames));
            }
        }
    }

    /// The last event of the class that is gone.
    pub(super) fn trimmed_through(&self) -> Sequence {
        self.trimmed_through
    }

    /// Where the first kept event after `sequence` stands: batch, and entry in it.
    pub(super) fn seek(&self, sequence: Sequence) -> (usize, usize) {
        let batch = self
            .batches
            .partition_point(|batch| batch.frames.last() <= sequence);
        let entry = self
            .batches
            .get(batch)
            .map_or(0, |found| found.frames.index_after(sequence));
        let skip = if batch == 0 { self.skip } else { 0 };
        (batch, entry.max(skip))
    }

    pub(super) fn batch(&self, index: usize) -> Option<&Arc<Frames>> {
        self.batches.get(index).map(|batch| &batch.frames)
    }

    /// The last sequence of the class that was certainly published before `time`.
    pub(super) fn before_time(&self, time: i64) -> Sequence {
        let batch = self
            .batches
            .partition_point(|batch| batch.stamp.published < time);
        match batch.checked_sub(1).and_then(|last| self.batch(last)) {
            Some(frames) => frames.last(),
            None if self.trimmed_time < time => self.trimmed_through,
            None => 0,
        }
    }
}
