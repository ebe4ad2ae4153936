//! The periodic work of the sequencer. It drops chunks of live tails, message ids, live tails and topics that are no longer needed,
//! and checks the state of the store.
//!
//! Holds: the store lets go of history and topics between two appends only, since the messages of an append name topics
//! that keep no event yet, and is asked for its state between them. Everything else is done at its time, however long an append takes.

use std::time::Duration;

use longlived_topic::TopicName;
use tokio::time::Instant;

use super::Sequencer;
use crate::{frame::TopicId, store::AppendError};

/// Live tails looked at in one sweep.
const CHANNELS_MAX: usize = 50_000;

impl Sequencer {
    /// One round; the store's part of it is left for the end of the append while one is in flight. Its state is not asked
    /// for then: that may wait for the disk, and the append tells it.
    pub(super) fn sweep(&mut self, storing: bool) -> Result<(), AppendError> {
        let now = Instant::now();
        self.trim_tails(now);
        self.dedupe.expire(now);
        if storing {
            self.sweep_store_next = true;
        } else {
            self.sweep_store();
            self.check_writable()?;
        }
        let (pushed_out, ids_max) = (self.dedupe.pushed_out(), self.dedupe.ids_max());
        self.warnings.ids_pushed_out(pushed_out, ids_max, now);
        let ahead = self.shared.store.publish_time_ahead();
        self.warnings.publish_time_ahead(ahead, now);
        self.unlink_idle(now);
        Ok(())
    }

    /// Whether the store takes messages; an error when it never will again.
    fn check_writable(&self) -> Result<(), AppendError> {
        let writable = self.shared.store.writable();
        self.note_writable(writable.clone());
        match writable {
            Err(broken @ AppendError::Broken(_)) => Err(broken),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The work that an append leaves to the store. The store removes a little after each batch, so that removal keeps
    /// up with a busy log.
    pub(super) fn sweep_after_append(&mut self) {
        if std::mem::take(&mut self.sweep_store_next) {
            self.sweep_store();
        } else if self.trim_more {
            self.trim();
        }
    }

    fn sweep_store(&mut self) {
        self.trim();
        self.forget_unused();
    }

    /// Lets the store work for about a millisecond on removals.
    pub(super) fn trim(&mut self) {
        let trimmed = self.shared.store.trim();
        for id in trimmed.forgotten {
            self.matcher.forget(id);
        }
        self.trim_more = trimmed.more;
    }

    /// Forgets topics that have kept nothing for long and have no reader.
    fn forget_unused(&mut self) {
        let unused = self.shared.store.unused_topics();
        if unused.is_empty() {
            return;
        }
        let is_followed = |topic: &TopicName| {
            let live_tails = self.shared.live_tails_of(topic);
            live_tails.iter().any(|tail| tail.reader_count() > 0)
        };
        let (followed, nobodys): (Vec<_>, Vec<_>) =
            (unused.into_iter()).partition(|(_, topic)| is_followed(topic));
        let ids = |topics: Vec<(TopicId, TopicName)>| {
            topics.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        let nobodys = ids(nobodys);
        self.shared.store.forget_topics(&nobodys, &ids(followed));
        for id in nobodys {
            self.matcher.forget(id);
        }
    }

    /// Unlinks live tails that had no reader for a while, a bounded number of candidates at a time.
    fn unlink_idle(&mut self, now: Instant) {
        let max = self.config.channels_max;
        let linger = if self.live_tails.len() > max - max.div_ceil(10) {
            Duration::ZERO
        } else {
            self.config.live_tail_linger
        };
        let Some(idle_before) = now.checked_sub(linger) else {
            return;
        };
        let slots = self.live_tails.capacity();
        for _ in 0..slots.min(CHANNELS_MAX) {
            self.sweep_from = (self.sweep_from + 1) % slots;
            let Some(linked) = self.live_tails.get(self.sweep_from) else {
                continue;
            };
            if linked.tail.close_if_idle(idle_before) {
                let filter = linked.tail.filter().clone();
                self.matcher.unlink(&filter);
                if filter.has_wildcard() {
                    self.shared.wildcards.write().remove(&filter);
                }
                self.shared.live_tails.remove(&filter);
                self.live_tails.remove(self.sweep_from);
            }
        }
    }
}
