//! Removes events over a class's limits, and files without a kept event.
//!
//! Holds: the floor of a class moves, and each topic's last lost event is noted, before anything is removed; the
//! removals of a round are written down at its end, so that no later process with larger limits brings events back; a
//! reader that began before goes on in its open file.

use std::{io, sync::Arc};

use super::{Shared, format::split, history::History, sealed::Sealed};
use crate::{
    frame::Entry,
    position::Sequence,
    store::clock::{Ages, Stamp},
};

/// The most events one hold of the lock lets go: about a millisecond, so that no publish or read waits long.
const TRIM_MAX: usize = 8_192;

/// The oldest events of a class, in order.
enum Oldest {
    Events(Vec<(Entry, Stamp)>),
    /// Events of which only this is known: the file's topics and how many of each, and their bytes together.
    Damaged {
        topics: Vec<Entry>,
        last: Sequence,
        stamp: Stamp,
        events: u64,
        bytes: u64,
    },
}

impl Shared {
    /// Moves the floors, then removes the events below them.
    pub(super) fn enforce_retention(&self) -> io::Result<()> {
        let ages = self.clock.ages();
        let classes = self.history.read().classes.len();
        for class in 0..classes {
            while self.may_be_over(class, &ages) {
                let Some(oldest) = self.oldest(class)? else {
                    break;
                };
                if !self.history.write().let_go(class, &oldest, &ages) {
                    break;
                }
            }
        }
        self.clock.forget_before(self.history.read().oldest_taken());
        self.remove_files()?;
        self.write_floors()
    }

    fn may_be_over(&self, class: usize, ages: &Ages) -> bool {
        let class = &self.history.read().classes[class];
        class.events > 0 && class.is_over(class.oldest_taken, ages)
    }

    /// The oldest kept events of a class.
    fn oldest(&self, class: usize) -> io::Result<Option<Oldest>> {
        let (files, floor) = {
            let class = &self.history.read().classes[class];
            (class.files.clone(), class.floor)
        };
        let file = files.partition_point(|file| file.last() <= floor);
        match files.get(file) {
            Some(file) => self.oldest_in(file, floor).map(Some),
            None => Ok(self.history.read().oldest_in_log(class)),
        }
    }

    fn oldest_in(&self, file: &Sealed, floor: Sequence) -> io::Result<Oldest> {
        let number = file.blocks.partition_point(|block| block.last <= floor);
        let block = file.blocks[number];
        let global = |local: u32| file.topics.get(local as usize).map(|topic| topic.id);
        if let Some(index) = file.load_index(number)? {
            let events = index.entries.iter().enumerate().filter_map(|(at, entry)| {
                let topic = global(entry.topic)?;
                let stamp = index.stamp_of(at);
                (entry.sequence > floor).then_some((Entry { topic, ..*entry }, stamp))
            });
            return Ok(Oldest::Events(events.collect()));
        }
        // Which topics they belong to is written a second time at the end of the file.
        let mut topics = Vec::new();
        let postings = self.postings_for_retention(file)?;
        let by_topic = postings.iter().flat_map(|postings| &postings.topics);
        for (topic, places) in file.topics.iter().zip(by_topic) {
            let begin = places
                .places
                .partition_point(|&place| split(place).0 < number);
            let here = places.places[begin..].iter();
            let count = here.take_while(|&&place| split(place).0 == number).count();
            let entry = Entry {
                sequence: block.last,
                topic: topic.id,
                offset: 0,
                len: 0,
            };
            topics.extend(std::iter::repeat_n(entry, count));
        }
        if postings.is_none() {
            // It is no longer known to which topics the events belonged. A late reader must be told of the loss all the
            // same.
            let history = &mut *self.history.write();
            history.add_hole(block.first - 1, block.last);
        }
        Ok(Oldest::Damaged {
            topics,
            last: block.last,
            stamp: block.stamp(),
            events: u64::from(block.events),
            bytes: u64::from(block.record_bytes),
        })
    }

    /// Removes sealed files that lie below their class's floor.
    fn remove_files(&self) -> io::Result<()> {
        {
            let history = &mut *self.history.write();
            let mut doomed = self.doomed.lock();
            for class in &mut history.classes {
                let files = &class.files;
                let count = files.partition_point(|file| file.last() <= class.floor);
                if count > 0 {
                    let gone = Arc::make_mut(&mut class.files).drain(..count);
                    doomed.extend(gone.map(|file| file.path.clone()));
                }
            }
        }
        self.remove_doomed()
    }
}

impl History {
    /// Nothing is kept that was taken before.
    fn oldest_taken(&self) -> i64 {
        let keeping = self.classes.iter().filter(|class| class.events > 0);
        let oldest = keeping.map(|class| class.oldest_taken).min();
        oldest.unwrap_or(self.last.taken)
    }

    /// The next events of a class that are still in the log.
    fn oldest_in_log(&self, class: usize) -> Option<Oldest> {
        let floor = self.classes[class].floor;
        let mut events = Vec::new();
        for segment in &self.log {
            let first = segment
                .records
                .partition_point(|record| record.last() <= floor);
            for record in &segment.records[first..] {
                let of_class = record.entries.iter().filter(|entry| {
                    entry.sequence > floor && self.topics.get(entry.topic).class == class
                });
                events.extend(of_class.map(|entry| (*entry, record.stamp)));
                if events.len() >= TRIM_MAX {
                    return Some(Oldest::Events(events));
                }
            }
        }
        (!events.is_empty()).then_some(Oldest::Events(events))
    }

    /// Removes events over a limit; returns whether all offered ones are gone.
    fn let_go(&mut self, class: usize, oldest: &Oldest, ages: &Ages) -> bool {
        let class = &mut self.classes[class];
        match oldest {
            Oldest::Events(events) => {
                for (entry, stamp) in events {
                    class.oldest_taken = stamp.taken;
                    if !class.is_over(stamp.taken, ages) {
                        return false;
                    }
                    class.floor = entry.sequence;
                    class.floor_time = stamp.published;
                    class.events = class.events.saturating_sub(1);
                    class.bytes = class.bytes.saturating_sub(u64::from(entry.len));
                    self.topics.trimmed(entry);
                }
                true
            }
            Oldest::Damaged {
                topics,
                last,
                stamp,
                events,
                bytes,
            } => {
                class.oldest_taken = stamp.taken;
                if !class.is_over(stamp.taken, ages) {
                    return false;
                }
                class.floor = *last;
                class.floor_time = stamp.published;
                class.events = class.events.saturating_sub(*events);
                class.bytes = class.bytes.saturating_sub(*bytes);
                for entry in topics {
                    self.topics.trimmed_unseen(entry);
                }
                true
            }
        }
    }
}
