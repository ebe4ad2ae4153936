//! Removes events over a class's limits, and files without a kept event.
//!
//! Holds: removals are planned, then their floors are written down, then readers miss the events. So no later process
//! brings back what a reader was told is gone, however this one ends. Before anything is removed the floor of its class
//! moves, and each topic's last lost event is noted. A reader that began before goes on in its open file.

use std::{io, sync::Arc};

use super::{
    Shared,
    format::split,
    history::{Class, History},
    sealed::Sealed,
};
use crate::{
    frame::Entry,
    position::Sequence,
    store::clock::{Ages, Stamp},
};

/// The most events one hold of the lock lets go: about a millisecond, so that no publish or read waits long.
const TRIM_MAX: usize = 8_192;

/// Events in one plan: some megabytes, and one `FLOORS` for all of them.
const PLANNED_MAX: usize = 16 * TRIM_MAX;

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

impl Oldest {
    fn len(&self) -> usize {
        match self {
            Self::Events(events) => events.len(),
            Self::Damaged { topics, .. } => topics.len(),
        }
    }
}

/// Removals of a class that are not made yet.
struct Plan {
    removals: Vec<Oldest>,
    /// The class when they are made.
    after: Class,
    /// More events may be over a limit.
    goes_on: bool,
}

impl Class {
    /// Removes its oldest events, which end here.
    fn remove(&mut self, through: Sequence, stamp: &Stamp, events: u64, bytes: u64) {
        self.floor = through;
        self.floor_time = stamp.published;
        self.events = self.events.saturating_sub(events);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Removes the offered events as long as they are over a limit, and leaves only these in the offer. Returns whether
    /// all are removed.
    fn take(&mut self, oldest: &mut Oldest, ages: &Ages) -> bool {
        match oldest {
            Oldest::Events(events) => {
                for (removed, (entry, stamp)) in events.iter().enumerate() {
                    self.oldest_taken = stamp.taken;
                    if !self.is_over(stamp.taken, ages) {
                        events.truncate(removed);
                        return false;
                    }
                    self.remove(entry.sequence, stamp, 1, u64::from(entry.len));
                }
            }
            Oldest::Damaged {
                last,
                stamp,
                events,
                bytes,
                ..
            } => {
                self.oldest_taken = stamp.taken;
                if !self.is_over(stamp.taken, ages) {
                    *oldest = Oldest::Events(Vec::new());
                    return false;
                }
                self.remove(*last, stamp, *events, *bytes);
            }
        }
        true
    }
}

impl Shared {
    /// Plans what is to be removed, writes it down, and removes it.
    pub(super) fn enforce_retention(&self) -> io::Result<()> {
        let ages = self.clock.ages();
        let classes = self.history.read().classes.len();
        for class in 0..classes {
            while self.may_be_over(class, &ages) {
                let plan = self.plan(class, &ages)?;
                self.write_floors(&plan.after)?;
                for oldest in &plan.removals {
                    self.history.write().let_go(class, oldest);
                }
                self.history.write().classes[class].oldest_taken = plan.after.oldest_taken;
                if !plan.goes_on {
                    break;
                }
            }
        }
        self.clock.forget_before(self.history.read().oldest_taken());
        self.remove_files()
    }

    fn may_be_over(&self, class: usize, ages: &Ages) -> bool {
        let class = &self.history.read().classes[class];
        class.events > 0 && class.is_over(class.oldest_taken, ages)
    }

    /// The next removals of a class.
    fn plan(&self, class: usize, ages: &Ages) -> io::Result<Plan> {
        let mut plan = Plan {
            removals: Vec::new(),
            after: self.history.read().classes[class].clone(),
            goes_on: true,
        };
        let mut planned = 0;
        while plan.goes_on && planned < PLANNED_MAX {
            let Some(mut oldest) = self.oldest(class, plan.after.floor)? else {
                plan.goes_on = false;
                break;
            };
            plan.goes_on = plan.after.take(&mut oldest, ages);
            planned += oldest.len();
            plan.removals.push(oldest);
        }
        Ok(plan)
    }

    /// The oldest events of a class after this floor.
    fn oldest(&self, class: usize, floor: Sequence) -> io::Result<Option<Oldest>> {
        let files = self.history.read().classes[class].files.clone();
        let file = files.partition_point(|file| file.last() <= floor);
        match files.get(file) {
            Some(file) => self.oldest_in(file, floor).map(Some),
            None => Ok(self.history.read().oldest_in_log(class, floor)),
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
            let events: Vec<_> = events.collect();
            // Without one the block would stay the oldest forever.
            if !events.is_empty() {
                return Ok(Oldest::Events(events));
            }
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
    fn oldest_in_log(&self, class: usize, floor: Sequence) -> Option<Oldest> {
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

    /// Makes one removal of a plan.
    fn let_go(&mut self, class: usize, oldest: &Oldest) {
        let class = &mut self.classes[class];
        match oldest {
            Oldest::Events(events) => {
                for (entry, stamp) in events {
                    class.remove(entry.sequence, stamp, 1, u64::from(entry.len));
                    self.topics.trimmed(entry);
                }
            }
            Oldest::Damaged {
                topics,
                last,
                stamp,
                events,
                bytes,
            } => {
                class.remove(*last, stamp, *events, *bytes);
                for entry in topics {
                    self.topics.trimmed_unseen(entry);
                }
            }
        }
    }
}
