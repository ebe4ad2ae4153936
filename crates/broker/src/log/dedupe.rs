//! The window of message ids: the same id by the same principal on the same topic is stored once.
//!
//! Holds: when the window is full, the principal with the most ids in it loses its oldest. So one with many pushes out its own before
//! those of others.

mod shares;

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use self::shares::Shares;
use crate::{
    message::{MessageKey, Principal},
    position::Sequence,
    store::RecentId,
};

/// Entries of ids that were pushed out, beside as many as there are ids, before they are removed.
const ORDER_SLACK: usize = 1_024;

/// How long an id is remembered; whichever limit is reached first forgets.
#[derive(Clone, Copy, Debug)]
pub struct DedupeConfig {
    /// How many of the newest ids are kept.
    pub ids_max: usize,
    /// Ids not older than this.
    pub age_max: Duration,
}

impl Default for DedupeConfig {
    fn default() -> Self {
        Self {
            ids_max: 100_000,
            age_max: Duration::from_secs(120),
        }
    }
}

pub(super) struct Dedupe {
    config: DedupeConfig,
    seen: FxHashMap<MessageKey, Seen>,
    // In the order of their time. Some may have been pushed out since.
    order: VecDeque<(Instant, MessageKey, Sequence)>,
    shares: Shares,
    // Since the start.
    pushed_out: u64,
}

/// A remembered id.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sequence: Sequence,
    share: u64,
}

impl Dedupe {
    pub(super) fn new(config: DedupeConfig) -> Self {
        Self {
            config,
            seen: FxHashMap::default(),
            order: VecDeque::new(),
            shares: Shares::default(),
            pushed_out: 0,
        }
    }

    /// Takes over the ids that a store remembers from before this process. Whose they are is not known: they have a share
    /// together.
    pub(super) fn restore(&mut self, recent: Vec<RecentId>) {
        let now = Instant::now();
        for id in recent {
            // A clock of this process that has not run for so long counts the id as younger: kept longer, never less.
            let at = now.checked_sub(id.age).unwrap_or(now);
            if id.age <= self.config.age_max {
                self.remember(id.key, None, id.sequence, at);
            }
        }
        self.expire(now);
    }

    pub(super) fn find(&self, key: MessageKey) -> Option<Sequence> {
        self.seen.get(&key).map(|seen| seen.sequence)
    }

    /// Remembers an id whose message is stored.
    pub(super) fn insert(
        &mut self,
        key: MessageKey,
        principal: &Principal,
        sequence: Sequence,
        now: Instant,
    ) {
        self.remember(key, Some(principal), sequence, now);
        self.expire(now);
    }

    fn remember(
        &mut self,
        key: MessageKey,
        principal: Option<&Principal>,
        sequence: Sequence,
        at: Instant,
    ) {
        self.forget(key);
        let share = self.shares.push(principal, key);
        self.seen.insert(key, Seen { sequence, share });
        self.order.push_back((at, key, sequence));
    }

    fn forget(&mut self, key: MessageKey) {
        if let Some(seen) = self.seen.remove(&key) {
            self.shares.remove(seen.share, key);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(at, key, sequence)) = self.order.front()
            && now.duration_since(at) > self.config.age_max
        {
            self.order.pop_front();
            // It may have been pushed out, and stored once more.
            if self.find(key) == Some(sequence) {
                self.forget(key);
            }
        }
        while self.seen.len() > self.config.ids_max
            && let Some(key) = self.shares.oldest_of_largest()
        {
            self.forget(key);
            self.pushed_out += 1;
        }
        if self.order.len() > 2 * self.seen.len() + ORDER_SLACK {
            let seen = &self.seen;
            let is_seen = |(_, key, sequence): &(Instant, MessageKey, Sequence)| {
                seen.get(key).is_some_and(|seen| seen.sequence == *sequence)
            };
            self.order.retain(is_seen);
        }
    }

    /// How many ids newer ones have pushed out before their time.
    pub(super) fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// How many there may be.
    pub(super) fn ids_max(&self) -> usize {
        self.config.ids_max
    }
}
