//! The store of the log. It numbers messages, makes them as durable as it promises, and can be read.
//!
//! Holds: numbers rise by at least 1 in the order of `append`; events that `append` returned can be read at once.
//! Does not: know readers; `visible` and the live tails are the log's matter.

mod appended;
mod clock;
mod config;
#[cfg(any(test, feature = "testkit", longlived_faults))]
mod delegate;
mod disk;
mod memory;
mod merge;
mod query;
mod removed;
mod retention;
mod topics;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_topic::{TopicFilter, TopicName};

pub use appended::Appended;
#[cfg(any(test, feature = "storage"))]
pub use appended::Own;
pub use config::StoreConfig;
#[cfg(any(test, feature = "testkit", longlived_faults))]
pub use delegate::Delegate;
pub use disk::{DiskConfig, DiskStore, File, Files, Lock, OpenError};
#[cfg(any(test, feature = "storage"))]
pub use disk::{EpochChange, Kept, LockError, NewEpochError, OpenMode, SystemFiles};
#[cfg(any(test, feature = "testkit"))]
pub use disk::{Faults, MemoryFiles};
pub use memory::MemoryStore;
pub(crate) use merge::merge;
pub use query::{Damaged, FilterFrom, Page, Query, Removed};
pub use retention::{HistoryClass, Limits, RetentionConfig};

use crate::{
    frame::{Frames, TopicId},
    message::{Message, MessageKey},
    position::{Epoch, Sequence},
};

/// How safe an event is once `append` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process loses it.
    Memory,
    /// Acknowledged by a log on several machines.
    Replicated,
    /// Synced to this machine's disk.
    Disk,
}

/// A message for an append: its topic has an id.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The id of its topic, from [`Store::topic_id`].
    pub topic: TopicId,
    /// The message.
    pub message: Message,
    /// The key of its message id, when it has one.
    pub message_key: Option<MessageKey>,
}

/// A message id that was stored lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentId {
    /// Principal, topic and id.
    pub key: MessageKey,
    /// Where the message is.
    pub sequence: Sequence,
    /// How long ago it was published.
    pub age: Duration,
}

/// The state of a topic in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: TopicName,
    /// The oldest event that is kept; 0 when none is.
    pub first: Sequence,
    /// The last event published; 0 when that is not known any more.
    pub last: Sequence,
    /// How many events are kept.
    pub events: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// How long a topic stays known that keeps no event and has no subscriber.
pub const TOPIC_UNUSED_MAX: Duration = Duration::from_secs(3_600);

/// No further topic can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`topic` would be a new one, and as many keep events as the limit topics_max of {limit} topics allows"
)]
pub struct TopicsExhausted {
    /// The limit.
    pub limit: usize,
}

/// Why a store did not take a message, or any of a batch; it is not kept unless the error says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Writing it would touch the reserve. It may be tried again when there is space.
    #[error("the disk has {available} bytes left, and disk_reserve keeps {reserve} of them free")]
    Full {
        /// Free bytes.
        available: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// Something that passes keeps it from being stored. Nothing of it is kept.
    #[error("the store cannot take it now: {0}")]
    Unavailable(String),
    /// Whether it is stored is not known, as when a log on other machines does not answer. Sent again with the same
    /// message id it is stored once.
    #[error("it is not known whether it is stored: {0}")]
    Unknown(String),
    /// The store no longer knows which events are durable. It takes nothing again; the process must end.
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// Why the events of other nodes cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElsewhereError {
    /// Something that passes: they are asked for again after a pause, and nothing is lost by it.
    #[error("the store cannot be reached now: {0}")]
    Unavailable(String),
    /// Nothing passes of itself; the process must end.
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// The store could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store could not be read: {0}")]
pub struct ReadError(pub String);

/// The result of one [`Store::trim`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Topics that are not known any more; their ids may be given out again.
    pub forgotten: Vec<TopicId>,
    /// It is worth calling again at once.
    pub more: bool,
}

/// The statistics of a store for its operators. Counters begin when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Events that are kept.
    pub events: u64,
    /// Topics that are known.
    pub topics: usize,
    /// Files that it keeps open, and that grow in number with its history.
    pub files: usize,
    /// Batches made durable.
    pub commits: u64,
    /// Events in them.
    pub committed_events: u64,
    /// Blocks and batches read for readers from where history is kept.
    pub reads: u64,
    /// Blocks and batches found damaged.
    pub damaged: u64,
}

/// Keeps the log. Written by the sequencer alone, read by anybody.
///
/// Only methods that return a future may wait. All others answer from memory at once. A store on other machines keeps
/// the state for that here, such as the last sequence that it handed out, the ids of topics and its connection.
pub trait Store: Send + Sync + 'static {
    /// Identity of the history.
    fn epoch(&self) -> Epoch;

    /// The durability that `append` promises.
    fn durability(&self) -> Durability;

    /// The last sequence appended; 0 before the first.
    fn last_sequence(&self) -> Sequence;

    /// The id of a topic, a new one when the topic is new and the limit allows it.
    fn topic_id(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted>;

    /// Numbers and keeps the messages (at least one) in their order: all of them, or those that `Appended` names. An
    /// error holds for all of them. The result has the stored events in that order. It also has other events of the log
    /// before and between them that were not handed out yet. Must be polled to its end: dropping the future does not
    /// take back a write. The sequencer does so even when it learns meanwhile that the store is broken.
    ///
    /// The sequencer has one append in flight at a time, and none when it calls [`Store::topic_id`], [`Store::evict_topics`],
    /// [`Store::unused_topics`], [`Store::forget_topics`], [`Store::trim`] or [`Store::writable`]. ADR 11 says what several at a time would
    /// need.
    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>>;

    /// Waits for events that others have appended to the same log and that [`Store::append`] has not handed out, also
    /// while an append is in flight. The two together hand out each event once and in log order. So others' events
    /// behind a message of an append in flight wait until that append has returned it. Dropping it loses nothing. Only
    /// a log of several nodes ever has any.
    fn appended_elsewhere(&self) -> BoxFuture<'static, Result<Arc<Frames>, ElsewhereError>> {
        futures_util::future::pending().boxed()
    }

    /// Whether the log has reached a sequence on any node, although this one may not have seen it yet. Asked for
    /// positions above what is visible here; a log of one node has nothing there.
    fn has_reached(&self, sequence: Sequence) -> BoxFuture<'static, Result<bool, ReadError>> {
        let reached = sequence <= self.last_sequence();
        futures_util::future::ready(Ok(reached)).boxed()
    }

    /// Whether a batch would be taken now, as far as can be said without one.
    fn writable(&self) -> Result<(), AppendError>;

    /// Secret of this history under which message ids are hashed; lasts as long as the epoch.
    fn message_key_secret(&self) -> [u64; 2];

    /// Its statistics; `None` where there is nothing to count.
    fn stats(&self) -> Option<StoreStats> {
        None
    }

    /// The message ids of the last messages, oldest first, for a log that begins anew over this history.
    fn recent_ids(&self) -> Vec<RecentId>;

    /// Topics that a filter matches, in the order of their names, after a name, up to a limit.
    fn topics(
        &self,
        filter: TopicFilter,
        after: Option<TopicName>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TopicInfo>, ReadError>>;

    /// The next matching events of a range.
    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>>;

    /// The last position that is certainly before every event published at or after a time (nanoseconds
    /// since 1970).
    fn before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>>;

    /// How far the publish time of the last event is ahead of the clock: later events have the same one until the clock
    /// gets there.
    fn publish_time_ahead(&self) -> Duration {
        Duration::ZERO
    }

    /// Forgets topics that keep nothing, the longest empty first, so that new ones can get an id; none of a batch that
    /// is being put together. Called by the sequencer when [`Store::topic_id`] has refused.
    fn evict_topics(&self, batch: &[NewMessage]) -> Vec<TopicId> {
        let _ = batch;
        Vec::new()
    }

    /// Some of the topics that have kept nothing for `TOPIC_UNUSED_MAX`, each once: the sequencer knows whether they
    /// have subscribers, and calls [`Store::forget_topics`] before the next batch.
    fn unused_topics(&self) -> Vec<(TopicId, TopicName)> {
        Vec::new()
    }

    /// Of the topics that [`Store::unused_topics`] gave out some are to be forgotten, and some stay for as long again.
    fn forget_topics(&self, forget: &[TopicId], keep: &[TopicId]) {
        let _ = (forget, keep);
    }

    /// Removes some of the events over the limits of their class, and forgets some topics without events when places
    /// for new ones get scarce: about a millisecond's work. Called by the sequencer, between batches.
    fn trim(&self) -> Trimmed;
}

#[cfg(test)]
pub(crate) mod tests;
