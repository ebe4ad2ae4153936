//! History in memory: a new epoch at each start, retention by class.
//!
//! Holds: reader and trimmer work under one lock, and the record of a removal is written before the removal, so a
//! reader gets its events or learns exactly up to where they are missing.

mod class;
mod kept;
mod read;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_topic::{TopicFilter, TopicName};
use parking_lot::{Mutex, RwLock};

use self::{class::Class, kept::Kept};
use super::{
    AppendError, Appended, Durability, NewMessage, Page, Query, ReadError, RecentId,
    RetentionConfig, Store, TopicInfo, TopicsExhausted, Trimmed,
    clock::{AgeClock, Ages, Stamp},
    topics::Topics,
};
use crate::{
    environment::Environment,
    faults::{Fault, planted},
    frame::{self, EventWriter, FRAME_OVERHEAD_BYTES, Frames, TopicId},
    position::{Epoch, Sequence},
};

/// A store that forgets with its process.
pub struct MemoryStore {
    epoch: Epoch,
    message_key_secret: [u64; 2],
    environment: Environment,
    clock: AgeClock,
    last: AtomicU64,
    // The publish time of the last batch; written under `history`'s lock by `append` alone.
    last_time: Mutex<i64>,
    history: Arc<RwLock<History>>,
}

/// Everything kept, and the topics it belongs to.
struct History {
    retention: RetentionConfig,
    topics: Topics,
    kept: Kept,
    classes: Vec<Class>,
}

impl MemoryStore {
    /// An empty history under a random epoch. At most `topics_max` topics are known at a time.
    pub fn new(environment: Environment, retention: RetentionConfig, topics_max: usize) -> Self {
        Self {
            epoch: Epoch::from_random(environment.random()),
            message_key_secret: [environment.random(), environment.random()],
            last: AtomicU64::new(0),
            last_time: Mutex::new(0),
            history: Arc::new(RwLock::new(History {
                topics: Topics::new(topics_max),
                kept: Kept::default(),
                classes: retention.limits().map(Class::new).collect(),
                retention,
            })),
            clock: AgeClock::new(environment.clone()),
            environment,
        }
    }

    /// Wall time, but never lower than that of an earlier event.
    fn publish_time(&self) -> i64 {
        let mut last = self.last_time.lock();
        if planted(Fault::TimeGoesBack) {
            *last = 0;
        }
        *last = self.environment.unix_nanos().max(*last);
        *last
    }
}

impl Store for MemoryStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn last_sequence(&self) -> Sequence {
        self.last.load(Ordering::Acquire)
    }

    fn topic_id(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted> {
        let known = self.history.read().topics.id_of(topic);
        if let Some(id) = known {
            return Ok(id);
        }
        let history = &mut *self.history.write();
        let class = history.retention.class_of(topic);
        history.topics.add(topic.clone(), class)
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        let time = self.publish_time();
        let first = self.last_sequence() + 1;
        let mut previous = Vec::with_capacity(messages.len());
        {
            // Numbers only: readers wait for this short pass and not for the encoding.
            let history = &mut *self.history.write();
            for (sequence, new) in (first..).zip(messages) {
                previous.push(history.topics.advance(new.topic, sequence));
            }
        }
        let frame_max = |m: &NewMessage| frame::event_len_max(&m.message) + FRAME_OVERHEAD_BYTES;
        let bytes = messages.iter().map(frame_max).sum();
        let mut writer = EventWriter::new(messages.len(), bytes);
        for ((sequence, new), previous) in (first..).zip(messages).zip(previous) {
            writer.push(&new.message, new.topic, sequence, previous, time);
        }
        let frames = writer.finish();
        let dropped = self.history.write().keep(&frames, time, &self.clock.ages());
        self.last.store(frames.last(), Ordering::Release);
        // Trimmed events are freed outside the lock.
        drop(dropped);
        futures_util::future::ready(Ok(frames.into())).boxed()
    }

    fn writable(&self) -> Result<(), AppendError> {
        Ok(())
    }

    fn message_key_secret(&self) -> [u64; 2] {
        self.message_key_secret
    }

    fn recent_ids(&self) -> Vec<RecentId> {
        Vec::new()
    }

    fn topics(
        &self,
        filter: TopicFilter,
        after: Option<TopicName>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TopicInfo>, ReadError>> {
        let history = self.history.clone();
        let listing = async move {
            let mut infos = Vec::new();
            let mut next = after;
            loop {
                let left = limit - infos.len();
                next = history
                    .read()
                    .list(&filter, next.as_ref(), left, &mut infos);
                if next.is_none() || infos.len() == limit {
                    return Ok(infos);
                }
                // A filter that matches little is looked for among all names, but never in one go.
                tokio::task::yield_now().await;
            }
        };
        listing.boxed()
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        let page = read::page(&self.history.read(), &query);
        futures_util::future::ready(Ok(page)).boxed()
    }

    fn before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>> {
        let history = self.history.read();
        let before = history
            .classes
            .iter()
            .map(|class| class.before_time(unix_nanos))
            .max();
        futures_util::future::ready(Ok(before.unwrap_or(0))).boxed()
    }

    fn publish_time_ahead(&self) -> Duration {
        self.environment.ahead(*self.last_time.lock())
    }

    fn evict_topics(&self, batch: &[NewMessage]) -> Vec<TopicId> {
        self.history.write().topics.evict_topics(batch)
    }

    fn unused_topics(&self) -> Vec<(TopicId, TopicName)> {
        self.history.write().topics.unused()
    }

    fn forget_topics(&self, forget: &[TopicId], keep: &[TopicId]) {
        self.history.write().topics.forget_unused(forget, keep);
    }

    fn trim(&self) -> Trimmed {
        let ages = self.clock.ages();
        let mut dropped = Vec::new();
        let history = &mut *self.history.write();
        history.topics.tick(ages.now());
        let done = history.trim(&ages, TRIM_MAX, &mut dropped);
        let trimmed = history.topics.forget_empty(|_| false);
        Trimmed {
            more: trimmed.more || !done,
            ..trimmed
        }
    }
}

/// The most names one hold of the lock looks at.
const LIST_SCAN_MAX: usize = 4_096;

/// The most events one hold of the lock lets go, so that no publish or read waits long for retention: about
/// a millisecond.
const TRIM_MAX: usize = 16_384;

impl History {
    /// The next topics that a filter matches, up to a number; and where to go on if there may be more.
    fn list(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
        infos: &mut Vec<TopicInfo>,
    ) -> Option<TopicName> {
        let (listed, next) = self.topics.listed(filter, after, limit, LIST_SCAN_MAX);
        infos.extend(listed.into_iter().map(|(id, topic)| TopicInfo {
            topic: topic.name.clone(),
            first: self.kept.of(id).front().copied().unwrap_or(0),
            last: topic.last,
            events: topic.events,
            bytes: topic.bytes,
        }));
        next
    }

    /// Puts a batch into its classes, then trims. Returns the removed events.
    fn keep(&mut self, frames: &Arc<Frames>, published: i64, ages: &Ages) -> Vec<Arc<Frames>> {
        let stamp = Stamp {
            published,
            taken: ages.now(),
        };
        let mut chosen: Vec<Vec<u32>> = vec![Vec::new(); self.classes.len()];
        for (index, entry) in frames.entries().iter().enumerate() {
            let class = self.topics.kept(entry);
            self.kept.push(entry.topic, entry.sequence);
            chosen[class].push(index as u32);
        }
        for (class, chosen) in self.classes.iter_mut().zip(chosen) {
            if !chosen.is_empty() {
                // A view would hold the whole batch for as long as the longest-lived class keeps it.
                let share = chosen.len() == frames.entries().len();
                class.push(frames.select(&chosen, share), stamp);
            }
        }
        let mut dropped = Vec::new();
        self.trim(ages, TRIM_MAX + 2 * frames.entries().len(), &mut dropped);
        dropped
    }

    /// Lets go of at most `budget` events; whether nothing over a limit is left.
    fn trim(&mut self, ages: &Ages, budget: usize, dropped: &mut Vec<Arc<Frames>>) -> bool {
        let mut left = budget;
        for class in &mut self.classes {
            class.trim(ages, &mut left, &mut self.topics, &mut self.kept, dropped);
        }
        left > 0
    }
}

#[cfg(test)]
mod tests;
