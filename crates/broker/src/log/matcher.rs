//! Which live tails an event belongs to: a trie over the filters with wildcards, the others by name, and a cached answer
//! for each topic.
//!
//! Holds: linking or unlinking a live tail clears the cached answers of the topics that it matches, and of no others. The
//! cost does not depend on the number of known topics.
//! Does not: lock; the sequencer alone has it.

use std::{collections::VecDeque, sync::Arc};

use longlived_topic::{TopicFilter, TopicName, is_reserved};
use rustc_hash::FxHashMap;

use crate::{
    faults::{Fault, planted},
    frame::TopicId,
    live_tail::LiveTail,
};

/// Index of a linked live tail, stable while it is linked.
pub(super) type LiveTailKey = usize;

/// Changes that are remembered; an answer that is further behind is asked again without looking at them.
const CHANGES_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Matcher {
    root: Node<LiveTailKey>,
    // Filters without wildcards: most are inboxes, and a node for each would take several times as much.
    literals: FxHashMap<TopicFilter, LiveTailKey>,
    cache: FxHashMap<TopicId, Cached>,
    // The last filters with wildcards that were linked or unlinked, oldest first, and how many there were before.
    // A filter without wildcards concerns one topic, whose answer is dropped at once.
    changes: VecDeque<TopicFilter>,
    changes_before: u64,
    names: FxHashMap<TopicName, TopicId>,
}

struct Cached {
    topic: TopicName,
    live_tails: Arc<[LiveTailKey]>,
    // How many changes it has seen.
    seen: u64,
}

/// A trie over filters: a value that is put there under a filter is found by the topics that the filter matches.
pub(super) struct Node<T> {
    children: FxHashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    // Of a filter that ends here, and of one that ends with `>` here.
    here: Option<T>,
    rest: Option<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: FxHashMap::default(),
            any: None,
            here: None,
            rest: None,
        }
    }
}

impl Matcher {
    /// The live tails a topic's events go to.
    pub(super) fn live_tails_of(&mut self, id: TopicId, topic: &TopicName) -> &Arc<[LiveTailKey]> {
        let now = self.changes_before + self.changes.len() as u64;
        let names = &mut self.names;
        let (root, literals) = (&self.root, &self.literals);
        let matching = || {
            let mut found = root.matching(topic);
            found.extend(literals.get(&topic.to_filter()));
            found.into()
        };
        let cached = self.cache.entry(id).or_insert_with(|| {
            names.insert(topic.clone(), id);
            Cached {
                topic: topic.clone(),
                live_tails: matching(),
                seen: now,
            }
        });
        if cached.seen < now {
            let seen = cached.seen.checked_sub(self.changes_before);
            let stale = seen.is_none_or(|seen| {
                let mut missed = self.changes.range(seen as usize..);
                missed.any(|filter| filter.matches(topic.as_str()))
            });
            if stale && !planted(Fault::MatchCacheKept) {
                cached.live_tails = matching();
            }
            cached.seen = now;
        }
        &cached.live_tails
    }

    pub(super) fn link(&mut self, tail: &LiveTail, key: LiveTailKey) {
        let filter = tail.filter();
        if filter.has_wildcard() {
            self.root.insert(filter, key);
        } else {
            self.literals.insert(filter.clone(), key);
        }
        self.changed(filter);
    }

    pub(super) fn unlink(&mut self, filter: &TopicFilter) {
        if filter.has_wildcard() {
            self.root.remove(filter);
        } else {
            self.literals.remove(filter);
        }
        self.changed(filter);
    }

    /// A topic id that now means nothing, or another topic.
    pub(super) fn forget(&mut self, id: TopicId) {
        if let Some(cached) = self.cache.remove(&id) {
            self.names.remove(&cached.topic);
        }
    }

    fn changed(&mut self, filter: &TopicFilter) {
        if let Some(topic) = filter.literal() {
            if let Some(&id) = self.names.get(&topic) {
                self.forget(id);
            }
            return;
        }
        self.changes.push_back(filter.clone());
        if self.changes.len() > CHANGES_MAX {
            self.changes.pop_front();
            self.changes_before += 1;
        }
    }
}

impl<T: Clone> Node<T> {
    /// Puts a value under a filter, in the place of the former one.
    pub(super) fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut node = self;
        for token in filter.tokens() {
            node = match token {
                ">" => {
                    node.rest = Some(value);
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                token => node.children.entry(token.into()).or_default(),
            };
        }
        node.here = Some(value);
    }

    /// Takes away the value under a filter.
    pub(super) fn remove(&mut self, filter: &TopicFilter) {
        let tokens: Vec<&str> = filter.tokens().collect();
        self.remove_tokens(&tokens);
    }

    /// The values under the filters that match a topic.
    pub(super) fn matching(&self, topic: &TopicName) -> Vec<T> {
        let tokens: Vec<&str> = topic.as_str().split('.').collect();
        let mut found = Vec::new();
        self.find(&tokens, true, &mut found);
        found
    }

    fn find(&self, tokens: &[&str], first: bool, found: &mut Vec<T>) {
        let Some((token, after)) = tokens.split_first() else {
            found.extend(self.here.clone());
            return;
        };
        if let Some(child) = self.children.get(*token) {
            child.find(after, false, found);
        }
        if first && is_reserved(token) {
            return;
        }
        found.extend(self.rest.clone());
        if let Some(any) = &self.any {
            any.find(after, false, found);
        }
    }

    /// Whether the node is empty afterwards.
    fn remove_tokens(&mut self, tokens: &[&str]) -> bool {
        match tokens.split_first() {
            None => self.here = None,
            Some((&">", _)) => self.rest = None,
            Some((&"*", after)) => {
                if self
                    .any
                    .as_mut()
                    .is_some_and(|any| any.remove_tokens(after))
                {
                    self.any = None;
                }
            }
            Some((token, after)) => {
                let empty = self
                    .children
                    .get_mut(*token)
                    .is_some_and(|child| child.remove_tokens(after));
                if empty {
                    self.children.remove(*token);
                }
            }
        }
        self.children.is_empty() && self.any.is_none() && self.here.is_none() && self.rest.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn names(first: &[&'static str]) -> impl Strategy<Value = String> + use<> {
        let first = prop::sample::select(first.to_vec());
        let rest = prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3);
        (first, rest).prop_map(|(first, rest)| {
            std::iter::once(first)
                .chain(rest)
                .collect::<Vec<_>>()
                .join(".")
        })
    }

    fn filters() -> impl Strategy<Value = String> {
        let token = || prop::sample::select(vec!["a", "b", "*"]);
        let first = prop::sample::select(vec!["a", "b", "*", "inbox"]);
        (first, prop::collection::vec(token(), 0..3), any::<bool>()).prop_map(
            |(first, rest, open)| {
                let open = open.then_some(">");
                let tokens = std::iter::once(first).chain(rest).chain(open);
                tokens.collect::<Vec<_>>().join(".")
            },
        )
    }

    proptest! {
        #[test]
        fn links_unlinks_and_look_ups_in_any_order_agree_with_asking_each_filter(
            steps in prop::collection::vec((0..3u8, filters(), names(&["a", "b", "inbox"])), 1..300),
        ) {
            let mut matcher = Matcher::default();
            let mut linked: BTreeMap<String, LiveTailKey> = BTreeMap::new();
            let mut ids: BTreeMap<String, TopicId> = BTreeMap::new();
            for (key, (action, filter, topic)) in steps.into_iter().enumerate() {
                let parsed = TopicFilter::parse(&filter).unwrap();
                match action {
                    0 if !linked.contains_key(&filter) => {
                        matcher.link(&LiveTail::new(parsed, 0), key);
                        linked.insert(filter, key);
                    }
                    1 if linked.remove(&filter).is_some() => matcher.unlink(&parsed),
                    _ => {}
                }
                let next = ids.len() as TopicId;
                let id = *ids.entry(topic.clone()).or_insert(next);
                let name = TopicName::parse(&topic).unwrap();
                let mut found = matcher.live_tails_of(id, &name).to_vec();
                found.sort_unstable();
                let mut expected: Vec<_> = linked
                    .iter()
                    .filter(|(filter, _)| TopicFilter::parse(filter).unwrap().matches(&topic))
                    .map(|(_, &key)| key)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
