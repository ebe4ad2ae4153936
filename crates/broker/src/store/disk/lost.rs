//! Events that retention has not removed and that the disk did not give back. They are not counted as kept.
//!
//! Does not: outlive the process. Damage is met again where it is read again.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{
    Shared,
    format::{Postings, split},
    record::Index,
    sealed::Sealed,
};
use crate::{
    frame::{Entry, TopicId},
    position::Sequence,
};

/// The most that are remembered, some 20 MB; further damaged events are still counted as kept.
const LOST_MAX: usize = 1 << 18;

/// Damaged events by topic, with their bytes.
#[derive(Debug, Default)]
pub(super) struct Lost {
    by_topic: FxHashMap<TopicId, BTreeMap<Sequence, u32>>,
    count: usize,
}

impl Lost {
    fn note(&mut self, topic: TopicId, sequence: Sequence, bytes: u32) {
        if self.count < LOST_MAX {
            let of_topic = self.by_topic.entry(topic).or_default();
            self.count += usize::from(of_topic.insert(sequence, bytes).is_none());
        }
    }

    /// They are not counted as kept any more.
    pub(super) fn forget(&mut self, entries: &[Entry]) {
        for entry in entries {
            if let Some(of_topic) = self.by_topic.get_mut(&entry.topic) {
                self.count -= usize::from(of_topic.remove(&entry.sequence).is_some());
            }
        }
    }

    /// How many there are of a topic, and their bytes, above the removals of retention.
    pub(super) fn of(&mut self, topic: TopicId, trimmed_through: Sequence) -> (u64, u64) {
        let Some(of_topic) = self.by_topic.get_mut(&topic) else {
            return (0, 0);
        };
        let left = of_topic.split_off(&(trimmed_through + 1));
        self.count -= of_topic.len();
        *of_topic = left;
        let bytes = of_topic.values().map(|&bytes| u64::from(bytes)).sum();
        (of_topic.len() as u64, bytes)
    }
}

impl Shared {
    /// Notes the events of a damaged batch of the log.
    pub(super) fn note_lost(&self, entries: &[Entry]) {
        let mut lost = self.lost.lock();
        for entry in entries {
            lost.note(entry.topic, entry.sequence, entry.len);
        }
    }

    /// Notes the events of a damaged block, as far as anything still says whose they were.
    pub(super) fn note_lost_block(&self, file: &Sealed, block: usize, index: Option<&Index>) {
        if let Some(index) = index {
            let mut lost = self.lost.lock();
            for entry in &index.entries {
                if let Some(topic) = file.topics.get(entry.topic as usize) {
                    lost.note(topic.id, entry.sequence, entry.len);
                }
            }
            return;
        }
        let Ok(Some(postings)) = self.postings_for_retention(file) else {
            return;
        };
        self.note_lost_places(file, block, &postings);
    }

    /// The index by topic says how many of each there were. Their numbers and bytes are not known: any numbers of the block
    /// will do, and the mean.
    fn note_lost_places(&self, file: &Sealed, number: usize, postings: &Postings) {
        let block = file.blocks[number];
        let bytes = block.record_bytes / block.events.max(1);
        let mut lost = self.lost.lock();
        for (topic, of_topic) in file.topics.iter().zip(&postings.topics) {
            let begin = of_topic
                .places
                .partition_point(|&place| split(place).0 < number);
            let here = of_topic.places[begin..].iter().map(|&place| split(place));
            for (_, entry) in here.take_while(|&(at, _)| at == number) {
                lost.note(topic.id, block.first + entry as u64, bytes);
            }
        }
    }
}
