//! The topics of a store: their ids, their last sequences, and how much is kept of each.
//!
//! A topic that keeps no event may be forgotten when room is needed. What it lost is remembered as a whole:
//! `forgotten_through` is a sequence up to which a topic that is no longer known may have lost events.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use rustc_hash::FxHashMap;

use crate::{
    frame::{Entry, TopicId},
    position::Sequence,
    store::TopicsExhausted,
    topic::{TopicFilter, TopicName},
};

#[derive(Debug)]
pub(super) struct Topics {
    limit: usize,
    by_name: BTreeMap<TopicName, TopicId>,
    // The same names, for the one look-up that each message needs.
    ids: FxHashMap<TopicName, TopicId>,
    by_id: Vec<Topic>,
    free: Vec<TopicId>,
    // Topics that kept nothing when they were put here, oldest first; looked at again before use.
    empty: VecDeque<TopicId>,
    forgotten_through: Sequence,
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
    queued_as_empty: bool,
}

impl Topics {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            by_name: BTreeMap::new(),
            ids: FxHashMap::default(),
            by_id: Vec::new(),
            free: Vec::new(),
            empty: VecDeque::new(),
            forgotten_through: 0,
        }
    }

    pub(super) fn id_of(&self, topic: &TopicName) -> Option<TopicId> {
        self.ids.get(topic).copied()
    }

    pub(super) fn add(
        &mut self,
        name: TopicName,
        class: usize,
    ) -> Result<TopicId, TopicsExhausted> {
        if self.ids.len() >= self.limit {
            return Err(TopicsExhausted { limit: self.limit });
        }
        let topic = Topic {
            name: name.clone(),
            class,
            last: 0,
            // It may be one that was forgotten.
            trimmed_through: self.forgotten_through,
            events: 0,
            bytes: 0,
            queued_as_empty: true,
        };
        let id = if let Some(id) = self.free.pop() {
            self.by_id[id as usize] = topic;
            id
        } else {
            self.by_id.push(topic);
            (self.by_id.len() - 1) as TopicId
        };
        self.by_name.insert(name.clone(), id);
        self.ids.insert(name, id);
        self.empty.push_back(id);
        Ok(id)
    }

    /// Gives a topic its next sequence and returns the one before.
    pub(super) fn advance(&mut self, id: TopicId, sequence: Sequence) -> Sequence {
        std::mem::replace(&mut self.by_id[id as usize].last, sequence)
    }

    /// Notes that an event is kept; the class it belongs to.
    pub(super) fn kept(&mut self, entry: &Entry) -> usize {
        let topic = &mut self.by_id[entry.topic as usize];
        topic.events += 1;
        topic.bytes += u64::from(entry.len);
        topic.class
    }

    /// Notes that the oldest kept event of a topic is gone.
    pub(super) fn trimmed(&mut self, entry: &Entry) {
        let id = entry.topic;
        let topic = &mut self.by_id[id as usize];
        topic.events -= 1;
        topic.bytes -= u64::from(entry.len);
        topic.trimmed_through = topic.trimmed_through.max(entry.sequence);
        if topic.events == 0 && !topic.queued_as_empty {
            topic.queued_as_empty = true;
            self.empty.push_back(id);
        }
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

    /// Forgets topics that keep nothing, the longest empty first, while more than nine tenths of the room
    /// are taken. Must not run between `add` and the `kept` of the same batch.
    pub(super) fn forget_empty(&mut self) -> Vec<TopicId> {
        let mut forgotten = Vec::new();
        while self.ids.len() > self.limit - self.limit.div_ceil(10) {
            let Some(id) = self.empty.pop_front() else {
                break;
            };
            let topic = &mut self.by_id[id as usize];
            topic.queued_as_empty = false;
            if topic.events > 0 {
                continue;
            }
            self.forgotten_through = self.forgotten_through.max(topic.trimmed_through);
            self.by_name.remove(&topic.name);
            self.ids.remove(&topic.name);
            self.free.push(id);
            forgotten.push(id);
        }
        forgotten
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
        fn pages_of_any_size_together_list_what_the_filter_matches_in_the_order_of_names(
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
