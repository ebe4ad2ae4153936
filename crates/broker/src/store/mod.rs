//! What keeps the log. A store numbers what it is given, makes it as durable as it promises, and can be read.
//!
//! Holds: numbers rise by at least 1 in the order of `append`; what `append` returned can be read at once.
//! Does not: know who reads; `visible` and the channels are the log's matter.

mod memory;
mod query;
mod retention;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use memory::MemoryStore;
pub use query::{FilterFrom, Page, Query};
pub use retention::{HistoryClass, Limits, RetentionConfig, RetentionError};

use crate::{
    frame::{Frames, TopicId},
    message::Message,
    position::{Epoch, Sequence},
    topic::TopicName,
};

/// How safe an event is once `append` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process loses it.
    Memory,
}

/// A message whose topic the store has admitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The topic, as [`Store::admit`] named it.
    pub topic: TopicId,
    /// The message.
    pub message: Message,
}

/// No further topic can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`topic` would be a new one, and the limit topics_max of {limit} topics is reached")]
pub struct TopicsExhausted {
    /// The limit.
    pub limit: usize,
}

/// The store could not take a batch; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
#[error("the store could not append: {0}")]
pub struct AppendError(pub String);

/// The store could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store could not be read: {0}")]
pub struct ReadError(pub String);

/// Keeps the log. Written by the sequencer alone, read by anybody.
pub trait Store: Send + Sync + 'static {
    /// Identity of the history.
    fn epoch(&self) -> Epoch;

    /// What `append` promises.
    fn durability(&self) -> Durability;

    /// The last sequence appended; 0 before the first.
    fn head(&self) -> Sequence;

    /// The id of a topic, a new one when the topic is new and there is room.
    fn admit(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted>;

    /// Numbers and keeps the messages (at least one) in their order, all or none. The frames have one entry
    /// for each message, in that order.
    fn append<'a>(
        &'a self,
        messages: &'a [Admitted],
    ) -> BoxFuture<'a, Result<Arc<Frames>, AppendError>>;

    /// The next matching events of a range.
    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>>;

    /// The last position that is certainly before every event published at or after a time (nanoseconds
    /// since 1970).
    fn before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>>;

    /// Lets go of what is older than its class keeps, and forgets topics that keep nothing when room for new
    /// ones gets scarce. Returns the forgotten ids; they may be given out again. Called by the sequencer,
    /// between batches.
    fn trim(&self) -> Vec<TopicId>;
}
