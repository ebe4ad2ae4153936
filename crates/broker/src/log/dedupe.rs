//! The window of message ids: the same id by the same principal on the same topic is stored once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use crate::{
    message::{Message, Principal},
    position::Sequence,
    topic::TopicName,
};

/// How long an id is remembered; whichever limit is reached first forgets.
#[derive(Clone, Copy, Debug)]
pub struct DedupeConfig {
    /// The newest so many ids.
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

#[derive(PartialEq, Eq, Hash)]
pub(super) struct MessageKey {
    principal: Principal,
    topic: TopicName,
    message_id: String,
}

impl MessageKey {
    /// `None` when the message carries no id.
    pub(super) fn of(message: &Message, principal: &Principal) -> Option<Self> {
        (!message.message_id.is_empty()).then(|| Self {
            principal: principal.clone(),
            topic: message.topic.clone(),
            message_id: message.message_id.clone(),
        })
    }
}

pub(super) struct Dedupe {
    config: DedupeConfig,
    seen: FxHashMap<Arc<MessageKey>, Sequence>,
    order: VecDeque<(Instant, Arc<MessageKey>)>,
}

impl Dedupe {
    pub(super) fn new(config: DedupeConfig) -> Self {
        Self {
            config,
            seen: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }

    pub(super) fn find(&self, key: &MessageKey) -> Option<Sequence> {
        self.seen.get(key).copied()
    }

    /// Remembers an id whose message is stored.
    pub(super) fn insert(&mut self, key: MessageKey, sequence: Sequence, now: Instant) {
        let key = Arc::new(key);
        self.seen.insert(key.clone(), sequence);
        self.order.push_back((now, key));
        self.expire(now);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && (self.order.len() > self.config.ids_max
                || now.duration_since(*at) > self.config.age_max)
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.seen.remove(&key);
            }
        }
    }
}
