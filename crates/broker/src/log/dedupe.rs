//! The window of message ids: the same id by the same principal on the same topic is stored once.

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::{message::MessageKey, position::Sequence, store::RecentId};

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
    seen: FxHashMap<MessageKey, Sequence>,
    order: VecDeque<(Instant, MessageKey)>,
    // Since the start.
    pushed_out: u64,
}

impl Dedupe {
    pub(super) fn new(config: DedupeConfig) -> Self {
        Self {
            config,
            seen: FxHashMap::default(),
            order: VecDeque::new(),
            pushed_out: 0,
        }
    }

    /// Takes over the ids that a store remembers from before this process.
    pub(super) fn restore(&mut self, recent: Vec<RecentId>) {
        let now = Instant::now();
        for id in recent {
            // A clock of this process that has not run for so long counts the id as younger: kept longer, never less.
            let at = now.checked_sub(id.age).unwrap_or(now);
            if id.age <= self.config.age_max {
                self.seen.insert(id.key, id.sequence);
                self.order.push_back((at, id.key));
            }
        }
        self.expire(now);
    }

    pub(super) fn find(&self, key: MessageKey) -> Option<Sequence> {
        self.seen.get(&key).copied()
    }

    /// Remembers an id whose message is stored.
    pub(super) fn insert(&mut self, key: MessageKey, sequence: Sequence, now: Instant) {
        self.seen.insert(key, sequence);
        self.order.push_back((now, key));
        self.expire(now);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && (self.order.len() > self.config.ids_max
                || now.duration_since(*at) > self.config.age_max)
        {
            if let Some((at, key)) = self.order.pop_front() {
                self.seen.remove(&key);
                let young = now.duration_since(at) <= self.config.age_max;
                self.pushed_out += u64::from(young);
            }
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
