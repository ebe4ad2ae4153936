//! The topics of a store: their ids, their last sequences, and how much is kept of each.
//!
//! A topic that keeps no event may be forgotten: when a new topic needs its place, or when it has kept none for long
//! and has no subscriber. The losses of all forgotten topics are remembered together: `forgotten_through` is a sequence
//! up to which a topic that is no longer known may have lost events.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use longlived_topic::{TopicFilter, TopicName};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    faults::{Fault, planted},
    frame::{Entry, Slice, TopicId},
    position::Sequence,
    store::{
        FilterFrom, NewMessage, Page, Removed, TOPIC_UNUSED_MAX, TopicsExhausted, Trimmed,
        removed::{RemovalOrder, RemovedOfTopic},
    },
};

/// The most topics that are looked at in one go, to forget them.
const FORGET_MAX: usize = 4_096;
/// The most removed events between the kept ones of a page that are told one by one.
const BETWEEN_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Topics {
    limit: usize,
    by_name: BTreeMap<TopicName, TopicId>,
    // The same names, for the one look-up that each message needs.
    ids: FxHashMap<TopicName, TopicId>,
    by_id: Vec<Topic>,
    // Ids of forgotten topics with their last sequences, oldest first.
    free: VecDeque<(Sequence, TopicId)>,
    // Kept events may still name ids of topics whose events lie above this.
    reusable_through: Sequence,
    // Topics that kept nothing when they were put here, and since when, oldest first; looked at again before use.
    empty: VecDeque<(i64, TopicId)>,
    forgotten_through: Sequence,
    removal_order: RemovalOrder,
    // The time of the clock of ages at the last sweep.
    now: i64,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) class: usize,
    pub(super) last: Sequence,
    /// The last event that is gone; 0 when none is.
    pub(super) trimmed_through: Sequence,
    /// How many events are kept.
    pub(super) events: u64,
    /// Bytes of their frames.
    pub(super) bytes: u64,
    removed: RemovedOfTopic,
    queued_as_empty: bool,
    // When it began to keep nothing; of no meaning while it keeps something.
    empty_since: i64,
}

impl Topics {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            by_name: BTreeMap::new(),
            ids: FxHashMap::default(),
            by_id: Vec::new(),
            free: VecDeque::new(),
            reusable_through: Sequence::MAX,
            empty: VecDeque::new(),
            forgotten_through: 0,
            removal_order: RemovalOrder::default(),
            now: 0,
        }
    }

    /// Sets the time of the clock of ages.
    pub(super) fn tick(&mut self, now: i64) {
        if self.now == 0 {
            // Since when those that are known from before keep nothing is not known: from now on.
            for (since, id) in &mut self.empty {
                *since = now;
                self.by_id[*id as usize].empty_since = now;
            }
        }
        self.now = now;
    }

    pub(super) fn id_of(&self, topic: &TopicName) -> Option<TopicId> {
        self.ids.get(topic).copied()
    }

    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn add(
        &mut self,
        name: TopicName,
        class: usize,
    ) -> Result<TopicId, TopicsExhausted> {
        if self.ids.len() >= self.limit {
            return Err(TopicsExhausted { limit: self.limit });
        }
        // It may be one that was forgotten.
        let trimmed_through = self.forgotten_through;
        Ok(self.insert(name, class, trimmed_through))
    }

    /// The id of a topic that a store had before this process; it is kept also above the present limit.
    pub(super) fn known(&mut self, name: &TopicName, class: usize) -> TopicId {
        self.id_of(name)
            .unwrap_or_else(|| self.insert(name.clone(), class, 0))
    }

    /// The same of a topic that was published to since the store last wrote down its topics: it may be one that had
    /// been forgotten.
    pub(super) fn known_again(&mut self, name: &TopicName, class: usize) -> TopicId {
        let trimmed_through = self.forgotten_through;
        self.id_of(name)
            .unwrap_or_else(|| self.insert(name.clone(), class, trimmed_through))
    }

    /// Ids of forgotten topics are given out again only when their last event lies at or below this.
    pub(super) fn reusable_through(&mut self, through: Sequence) {
        self.reusable_through = through;
    }

    /// The memory of a topic that may keep nothing.
    pub(super) fn recall(&mut self, id: TopicId, last: Sequence, trimmed_through: Sequence) {
        let topic = &mut self.by_id[id as usize];
        topic.last = topic.last.max(last);
        topic.trimmed_through = topic.trimmed_through.max(trimmed_through);
        topic.removed.unknown_through(trimmed_through);
    }

    /// The memory of topics that are forgotten.
    pub(super) fn recall_forgotten(&mut self, through: Sequence) {
        self.forgotten_through = self.forgotten_through.max(through);
    }

    /// Events that are kept beside those that were noted one by one.
    pub(super) fn kept_many(&mut self, id: TopicId, events: u64, bytes: u64) {
        let topic = &mut self.by_id[id as usize];
        topic.events += events;
        topic.bytes += bytes;
    }

    fn insert(&mut self, name: TopicName, class: usize, trimmed_through: Sequence) -> TopicId {
        let mut removed = RemovedOfTopic::default();
        removed.unknown_through(trimmed_through);
        let topic = Topic {
            name: name.clone(),
            class,
            last: 0,
            trimmed_through,
            events: 0,
            bytes: 0,
            removed,
            queued_as_empty: true,
            empty_since: self.now,
        };
        let reusable = self.reusable_through;
        let free = self.free.front().filter(|(last, _)| *last <= reusable);
        let id = if let Some(&(_, id)) = free {
            self.free.pop_front();
            self.by_id[id as usize] = topic;
            id
        } else {
            self.by_id.push(topic);
            (self.by_id.len() - 1) as TopicId
        };
        self.by_name.insert(name.clone(), id);
        self.ids.insert(name, id);
        self.empty.push_back((self.now, id));
        id
    }

    /// Gives a topic its next sequence and returns the one before.
    pub(super) fn advance(&mut self, id: TopicId, sequence: Sequence) -> Sequence {
        if planted(Fault::PreviousSequenceWrong) {
            self.by_id[id as usize].last = sequence - 1;
        }
        std::mem::replace(&mut self.by_id[id as usize].last, sequence)
    }

    /// Takes back a last sequence that a batch had given out before it failed.
    pub(super) fn take_back(&mut self, id: TopicId, last: Sequence) {
        self.by_id[id as usize].last = last;
    }

    /// Topics by their id, from one on; those that were forgotten stand there until their id is given out again.
    pub(super) fn from(&self, id: usize) -> &[Topic] {
        self.by_id.get(id..).unwrap_or(&[])
    }

    /// Notes that an event is kept; the class it belongs to.
    pub(super) fn kept(&mut self, entry: &Entry) -> usize {
        let topic = &mut self.by_id[entry.topic as usize];
        topic.events += 1;
        topic.bytes += u64::from(entry.len);
        topic.class
    }

    /// Takes an event out of [`Self::kept_many`] that an earlier process had let go of.
    pub(super) fn let_go_before(&mut self, id: TopicId, bytes: u64) {
        let topic = &mut self.by_id[id as usize];
        topic.events = topic.events.saturating_sub(1);
        topic.bytes = topic.bytes.saturating_sub(bytes);
    }

    /// Notes that the oldest kept event of a topic is gone.
    pub(super) fn trimmed(&mut self, entry: &Entry) {
        let id = entry.topic;
        let topic = &mut self.by_id[id as usize];
        topic.events = topic.events.saturating_sub(1);
        topic.bytes = topic.bytes.saturating_sub(u64::from(entry.len));
        topic.trimmed_through = topic.trimmed_through.max(entry.sequence);
        let class = topic.class;
        let order = &mut self.removal_order;
        let forgotten = order.push(class, id, &mut topic.removed, entry.sequence);
        if let Some((oldest, sequence)) = forgotten {
            self.by_id[oldest as usize]
                .removed
                .unknown_through(sequence);
        }
        let topic = &mut self.by_id[id as usize];
        if topic.events == 0 {
            topic.empty_since = self.now;
            if !topic.queued_as_empty {
                topic.queued_as_empty = true;
                self.empty.push_back((self.now, id));
            }
        }
    }

    /// The same of an event of which only the topic is known: its sequence is one at or below that of `entry`.
    pub(super) fn trimmed_unseen(&mut self, entry: &Entry) {
        self.trimmed(entry);
        let removed = &mut self.by_id[entry.topic as usize].removed;
        removed.unknown_through(entry.sequence);
    }

    /// Up to where events of unknown topics may be gone.
    pub(super) fn forgotten_through(&self) -> Sequence {
        self.forgotten_through
    }

    pub(super) fn get(&self, id: TopicId) -> &Topic {
        &self.by_id[id as usize]
    }

    /// The topics a filter matches, found in the stretches of the names where they can be.
    pub(super) fn matching(&self, filter: &TopicFilter) -> impl Iterator<Item = TopicId> {
        let literal = filter.literal().and_then(|name| self.id_of(&name));
        let stretches = if filter.has_wildcard() {
            filter.stretches()
        } else {
            Vec::new()
        };
        let ranged = stretches.into_iter().flat_map(|(begin, end)| {
            let begin = Bound::Included(begin.as_str());
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            self.by_name.range::<str, _>((begin, end))
        });
        let matching = ranged
            .filter(|(name, _)| filter.matches(name.as_str()))
            .map(|(_, &id)| id);
        literal.into_iter().chain(matching)
    }

    /// The last event that is gone and was wanted. `floor_of` gives the last event of a class that is gone.
    pub(super) fn trimmed_through(
        &self,
        filters: &[FilterFrom],
        floors: impl Fn(&TopicFilter) -> Sequence,
    ) -> Sequence {
        let mut gone = 0;
        for wanted in filters {
            // Usually no filter wants events below the floor, and no topic is looked at. Inboxes are trimmed all the
            // time, and belong to other subscribers.
            let floor = floors(&wanted.filter);
            if wanted.after >= floor.max(self.forgotten_through) {
                continue;
            }
            for id in self.matching(&wanted.filter) {
                let trimmed = self.get(id).trimmed_through;
                if trimmed > wanted.after {
                    gone = gone.max(trimmed);
                }
            }
            // A topic that is forgotten may have matched, unless the filter names one that is known.
            let known = wanted
                .filter
                .literal()
                .is_some_and(|name| self.id_of(&name).is_some());
            if !known && self.forgotten_through > wanted.after {
                gone = gone.max(self.forgotten_through);
            }
        }
        gone
    }

    /// The known facts about the wanted events of a page that are gone.
    pub(super) fn removed(&self, filters: &[FilterFrom], after: Sequence, page: &Page) -> Removed {
        let nothing = Removed {
            after,
            ..Removed::default()
        };
        if page.trimmed_through <= after {
            return nothing;
        }
        let mut wanted: Vec<(TopicId, Sequence)> = Vec::new();
        for filter in filters {
            let from = filter.after.max(after);
            let before = wanted.len();
            wanted.extend(self.matching(&filter.filter).map(|id| (id, from)));
            let literal = filter.filter.literal().is_some() && wanted.len() > before;
            if !literal && self.forgotten_through > from {
                // Nobody knows the events of those topics.
                return nothing;
            }
        }
        wanted.sort_unstable();
        // Of the filters that match a topic, the one that holds longest.
        wanted.dedup_by_key(|(id, _)| *id);
        let first = page.slices.front().map(Slice::first);
        let ahead_through = first.map_or(page.through, |first| first - 1);
        let mut removed = Removed {
            known_through: ahead_through,
            ..nothing
        };
        for &(id, from) in &wanted {
            let topic = self.get(id);
            if topic.trimmed_through <= from {
                continue;
            }
            let Some(mut ahead) = topic.removed.within(from, ahead_through) else {
                return Removed {
                    after,
                    ..Removed::default()
                };
            };
            removed.ahead += ahead.len() as u64;
            removed.last_ahead = removed.last_ahead.max(ahead.next_back().unwrap_or(0));
        }
        let Some(first) = first else {
            return removed;
        };
        let mut left = BETWEEN_MAX;
        for &(id, from) in &wanted {
            let topic = self.get(id);
            let from = from.max(first);
            if topic.trimmed_through <= from {
                continue;
            }
            let between = topic.removed.within(from, page.through);
            let Some(between) = between.filter(|between| between.len() <= left) else {
                removed.between = Vec::new();
                return removed;
            };
            left -= between.len();
            removed.between.extend(between);
        }
        removed.known_through = page.through;
        removed.between.sort_unstable();
        // Retention may have gone on since the page was read: events in it are not missing.
        let mut kept = page.slices.iter().flat_map(Slice::entries).peekable();
        removed.between.retain(|&sequence| {
            while kept.next_if(|entry| entry.sequence < sequence).is_some() {}
            kept.peek().is_none_or(|entry| entry.sequence != sequence)
        });
        removed
    }

    /// The matching topics with the lowest `after` of the filters that match each; `None` when there are more
    /// than `limit`.
    pub(super) fn up_to(
        &self,
        limit: usize,
        filters: &[FilterFrom],
    ) -> Option<FxHashMap<TopicId, Sequence>> {
        let mut topics = FxHashMap::default();
        for wanted in filters {
            for id in self.matching(&wanted.filter) {
                let after = topics.entry(id).or_insert(wanted.after);
                *after = wanted.after.min(*after);
                if topics.len() > limit {
                    return None;
                }
            }
        }
        Some(topics)
    }

    /// The topics a filter matches after a name, in the order of their names: at most `limit` of them, found
    /// among at most `scan_max` names. Where to go on when there may be more.
    pub(super) fn listed(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
        scan_max: usize,
    ) -> (Vec<(TopicId, &Topic)>, Option<TopicName>) {
        let mut found = Vec::new();
        let mut scanned = 0;
        for (begin, end) in filter.stretches() {
            let begin = match after {
                Some(after) if after.as_str() >= begin.as_str() => Bound::Excluded(after.as_str()),
                _ => Bound::Included(begin.as_str()),
            };
            let (Bound::Included(first) | Bound::Excluded(first)) = begin else {
                continue;
            };
            if end.as_deref().is_some_and(|end| end <= first) {
                continue;
            }
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            for (name, &id) in self.by_name.range::<str, _>((begin, end)) {
                scanned += 1;
                let topic = self.get(id);
                let known = topic.last > 0 || topic.trimmed_through > 0;
                if known && filter.matches(name.as_str()) {
                    found.push((id, topic));
                }
                if found.len() == limit || scanned == scan_max {
                    return (found, Some(name.clone()));
                }
            }
        }
        (found, None)
    }

    /// Forgets topics that keep nothing, the longest empty first, while more than nine tenths of the limit are known. Must
    /// not run between `add` and the `kept` of the same batch, unless `in_use` says which topics that has.
    pub(super) fn forget_empty(&mut self, in_use: impl Fn(TopicId) -> bool) -> Trimmed {
        let mut forgotten = Vec::new();
        let mut used = Vec::new();
        let mut looks = FORGET_MAX;
        while self.ids.len() > self.limit - self.limit.div_ceil(10) {
            let Some((since, id)) = self.next_empty(i64::MAX, &mut looks) else {
                break;
            };
            if in_use(id) {
                used.push((since, id));
                continue;
            }
            self.forget(id);
            forgotten.push(id);
        }
        for entry in used.into_iter().rev() {
            self.empty.push_front(entry);
        }
        Trimmed {
            forgotten,
            more: looks == 0,
        }
    }

    /// Takes topics out of the queue that have kept nothing since a time or longer: some of them. Each is to be
    /// [forgotten](Self::forget) or [kept](Self::keep_empty).
    pub(super) fn unused_since(&mut self, since: i64) -> Vec<(TopicId, TopicName)> {
        let mut looks = FORGET_MAX;
        let next = || self.next_empty(since, &mut looks);
        let ids: Vec<_> = std::iter::from_fn(next).map(|(_, id)| id).collect();
        let name = |id| (id, self.get(id).name.clone());
        ids.into_iter().map(name).collect()
    }

    /// The topic that has been empty longest, if it has been empty since `before` and is found within `looks`. It
    /// leaves the queue.
    fn next_empty(&mut self, before: i64, looks: &mut usize) -> Option<(i64, TopicId)> {
        while let Some(&(since, id)) = self.empty.front()
            && since <= before
            && *looks > 0
        {
            *looks -= 1;
            self.empty.pop_front();
            let topic = &mut self.by_id[id as usize];
            if topic.events > 0 {
                topic.queued_as_empty = false;
            } else if topic.empty_since > since {
                // It has kept something in between.
                self.empty.push_back((topic.empty_since, id));
            } else {
                return Some((since, id));
            }
        }
        None
    }

    /// Forgets a topic that is out of the queue and keeps nothing.
    pub(super) fn forget(&mut self, id: TopicId) {
        let topic = &mut self.by_id[id as usize];
        topic.queued_as_empty = false;
        topic.removed = RemovedOfTopic::default();
        self.forgotten_through = self.forgotten_through.max(topic.trimmed_through);
        self.by_name.remove(&topic.name);
        self.ids.remove(&topic.name);
        self.free.push_back((topic.last, id));
    }

    /// A topic that is out of the queue and keeps nothing stays known.
    pub(super) fn keep_empty(&mut self, id: TopicId) {
        let topic = &mut self.by_id[id as usize];
        topic.empty_since = self.now;
        self.empty.push_back((self.now, id));
    }

    /// The work of [`super::Store::evict_topics`].
    pub(super) fn evict_topics(&mut self, batch: &[NewMessage]) -> Vec<TopicId> {
        let in_use: FxHashSet<_> = batch.iter().map(|new| new.topic).collect();
        let in_use = |id| in_use.contains(&id);
        self.forget_empty(in_use).forgotten
    }

    /// The work of [`super::Store::unused_topics`].
    pub(super) fn unused(&mut self) -> Vec<(TopicId, TopicName)> {
        let nanos = i64::try_from(TOPIC_UNUSED_MAX.as_nanos()).unwrap_or(i64::MAX);
        self.unused_since(self.now.saturating_sub(nanos))
    }

    /// The work of [`super::Store::forget_topics`].
    pub(super) fn forget_unused(&mut self, forget: &[TopicId], keep: &[TopicId]) {
        for &id in forget {
            self.forget(id);
        }
        for &id in keep {
            self.keep_empty(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = String> {
        let first = prop::sample::select(vec!["a", "a-b", "b", "inbox", "inboxes", "$sys"]);
        let rest = prop::collection::vec(prop::sample::select(vec!["a", "a-", "b"]), 0..3);
        (first, rest).prop_map(|(first, rest)| {
            let tokens = std::iter::once(first).chain(rest);
            tokens.collect::<Vec<_>>().join(".")
        })
    }

    proptest! {
        #[test]
        fn pages_of_any_size_together_list_the_matching_topics_in_the_order_of_names(
            names in prop::collection::btree_set(names(), 0..60),
            filter in prop::sample::select(vec![
                ">", "*", "*.a", "*.>", "a.>", "a.*", "a", "a.a", "inbox.>", "inbox.a", "$sys.>", "b.*.a",
            ]),
            limit in 1..5_usize,
            scan_max in 1..5_usize,
        ) {
            let mut topics = Topics::new(1_000);
            for (sequence, name) in (1..).zip(&names) {
                let id = topics.add(TopicName::parse(name).unwrap(), 0).unwrap();
                topics.advance(id, sequence);
            }
            let filter = TopicFilter::parse(filter).unwrap();
            let mut listed = Vec::new();
            let mut next = None;
            loop {
                let (page, more) = topics.listed(&filter, next.as_ref(), limit, scan_max);
                prop_assert!(page.len() <= limit);
                listed.extend(page.iter().map(|(_, topic)| topic.name.to_string()));
                next = more;
                if next.is_none() {
                    break;
                }
            }
            let expected: BTreeSet<String> =
                names.into_iter().filter(|name| filter.matches(name)).collect();
            prop_assert_eq!(listed, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
