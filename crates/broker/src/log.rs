//! The log as its users see it: publish, attach to live tails, read history. `visible` is the one position beyond which
//! nothing may be shown. Only the sequencer has more.

mod dedupe;
mod matcher;
mod publish;
mod sequencer;
mod topics;
mod warnings;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use longlived_topic::TopicFilter;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

pub use dedupe::DedupeConfig;
pub use publish::{PublishError, PublishOptions, PublishReply, Published};
pub use sequencer::Sequencer;
pub use topics::{ListedTopic, TopicsPage};

use self::{matcher::Node, publish::Submission};
use crate::{
    frame::{COMPRESSED_BYTES_MIN, CompressionCounts, Compressor},
    live_tail::{Attachment, LiveTail},
    position::{Epoch, Position, Sequence},
    signal::Signal,
    store::{AppendError, Durability, Store, StoreStats},
};

/// Sizes of the log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Bytes of messages that may wait for the sequencer; publishers wait beyond that.
    pub publish_queue_bytes_max: usize,
    /// Bytes of chunks that all live tails together keep for live readers.
    pub tail_bytes_max: usize,
    /// How long a chunk stays in its live tail, however little there is.
    pub tail_age_max: Duration,
    /// Live tails that are linked at a time; a filter that needs a further one is refused.
    pub channels_max: usize,
    /// How long a live tail without readers stays linked; not longer than a sweep once nine tenths of `channels_max` are.
    pub live_tail_linger: Duration,
    /// How often live tails, message ids and history are swept.
    pub sweep_interval: Duration,
    /// The window of message ids.
    pub dedupe: DedupeConfig,
    /// Bytes of compressed events that are kept for further readers, beside the tails and history.
    pub compressed_bytes_max: usize,
}

impl LogConfig {
    /// The least that [`Self::compressed_bytes_max`] keeps.
    pub const COMPRESSED_BYTES_MIN: usize = COMPRESSED_BYTES_MIN;
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            publish_queue_bytes_max: 64 << 20,
            tail_bytes_max: 64 << 20,
            tail_age_max: Duration::from_secs(5),
            channels_max: 2_000_000,
            live_tail_linger: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(1),
            dedupe: DedupeConfig::default(),
            compressed_bytes_max: 64 << 20,
        }
    }
}

/// Submissions that may wait for the sequencer; the bytes they hold are bounded beside it.
const SUBMISSIONS_MAX: usize = 16_384;
/// Live tails that may wait to be linked.
const LINKS_MAX: usize = 1_024;

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// Why a live tail cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The sequencer has ended.
    #[error("the log is closed")]
    Closed,
    /// The limit of live tails is reached.
    #[error(
        "the limit channels_max of {limit} topic filters that are followed at a time is reached"
    )]
    ChannelsExhausted {
        /// The limit.
        limit: usize,
    },
}

/// The state that the sequencer and its users share.
struct Shared {
    began: Instant,
    store: Arc<dyn Store>,
    // Written by the sequencer alone, after a batch is in all its live tails.
    visible: AtomicU64,
    live_tails: DashMap<TopicFilter, Arc<LiveTail>>,
    // The live tails whose filter has a wildcard, by their filters. Written by the sequencer, read by calls that count
    // the subscribers of a topic.
    wildcards: RwLock<Node<Arc<LiveTail>>>,
    publish: mpsc::Sender<Submission>,
    // Taken only when no publisher waits.
    background: mpsc::Sender<Submission>,
    links: mpsc::Sender<Link>,
    // Written by the sequencer alone.
    writable: watch::Sender<Result<(), AppendError>>,
    queue_bytes: Arc<Semaphore>,
    queue_bytes_max: usize,
    compressor: Compressor,
    live_tails_refused: AtomicU64,
    // Written by the sequencer alone.
    ids_pushed_out: AtomicU64,
    // Written by the sequencer alone.
    elsewhere_failures: AtomicU64,
}

/// Asks the sequencer for the live tail of a filter.
struct Link {
    filter: TopicFilter,
    reply: oneshot::Sender<Result<Arc<LiveTail>, AttachError>>,
}

impl Log {
    /// A log over a store, and the sequencer that must be run for it.
    pub fn new(store: Arc<dyn Store>, config: LogConfig) -> (Self, Sequencer) {
        #[cfg(longlived_faults)]
        let (store, config) = crate::faults::faulty_log(store, config);
        let (publish, publish_requests) = mpsc::channel(SUBMISSIONS_MAX);
        let (background, background_requests) = mpsc::channel(SUBMISSIONS_MAX);
        let (links, link_requests) = mpsc::channel(LINKS_MAX);
        let queue_bytes_max = config.publish_queue_bytes_max.min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            began: Instant::now(),
            visible: AtomicU64::new(store.last_sequence()),
            store,
            live_tails: DashMap::new(),
            wildcards: RwLock::default(),
            publish,
            background,
            links,
            writable: watch::Sender::new(Ok(())),
            queue_bytes: Arc::new(Semaphore::new(queue_bytes_max)),
            queue_bytes_max,
            compressor: Compressor::new(config.compressed_bytes_max),
            live_tails_refused: AtomicU64::new(0),
            ids_pushed_out: AtomicU64::new(0),
            elsewhere_failures: AtomicU64::new(0),
        });
        let sequencer = Sequencer::new(
            shared.clone(),
            sequencer::Queues {
                publish: publish_requests,
                background: background_requests,
                links: link_requests,
            },
            config,
        );
        (Self { shared }, sequencer)
    }

    /// Identity of the history.
    pub fn epoch(&self) -> Epoch {
        self.shared.store.epoch()
    }

    /// The position of a sequence in this history.
    pub fn position_at(&self, sequence: Sequence) -> Position {
        Position {
            epoch: self.epoch(),
            sequence,
        }
    }

    /// The durability of an answered publish.
    pub fn durability(&self) -> Durability {
        self.shared.store.durability()
    }

    /// Whether messages are taken, and the news when that changes.
    pub fn writable(&self) -> watch::Receiver<Result<(), AppendError>> {
        self.shared.writable.subscribe()
    }

    /// The last sequence that may be shown to anybody.
    pub fn visible(&self) -> Sequence {
        self.shared.visible.load(Ordering::Acquire)
    }

    /// The time since this log was made.
    pub fn age(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// How far the publish time of the last event is ahead of the clock.
    pub fn publish_time_ahead(&self) -> Duration {
        self.shared.store.publish_time_ahead()
    }

    /// How many live tails are linked.
    pub fn live_tails(&self) -> usize {
        self.shared.live_tails.len()
    }

    /// How many filters were refused for the limit of live tails since the start.
    pub fn live_tails_refused(&self) -> u64 {
        self.shared.live_tails_refused.load(Ordering::Relaxed)
    }

    /// How many message ids newer ones have pushed out before their age since the start.
    pub fn message_ids_evicted_early(&self) -> u64 {
        self.shared.ids_pushed_out.load(Ordering::Relaxed)
    }

    /// How often the events of other nodes could not be had since the start, so that they were asked for again.
    pub fn elsewhere_failures(&self) -> u64 {
        self.shared.elsewhere_failures.load(Ordering::Relaxed)
    }

    /// The statistics of the store, when it counts anything.
    pub fn store_stats(&self) -> Option<StoreStats> {
        self.shared.store.stats()
    }

    /// Bytes of messages that wait for the sequencer.
    pub fn publish_queue_bytes(&self) -> usize {
        let free = self.shared.queue_bytes.available_permits();
        self.shared.queue_bytes_max.saturating_sub(free)
    }

    /// Bytes of messages that may wait for the sequencer.
    pub fn publish_queue_bytes_max(&self) -> usize {
        self.shared.queue_bytes_max
    }

    /// The statistics of compression.
    pub fn compression_counts(&self) -> CompressionCounts {
        self.shared.compressor.counts()
    }

    pub(crate) fn compressor(&self) -> &Compressor {
        &self.shared.compressor
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// A place in the live tail of a filter, which is linked first if need be.
    pub(crate) async fn attach(
        &self,
        filter: &TopicFilter,
        signal: &Arc<Signal>,
    ) -> Result<Attachment, AttachError> {
        loop {
            let known = self
                .shared
                .live_tails
                .get(filter)
                .map(|entry| entry.value().clone());
            let tail = match known {
                Some(tail) => tail,
                None => self.link(filter).await?,
            };
            // A live tail that closed between the look-up and here: its successor is linked.
            match tail.attach(signal) {
                Some(attachment) => return Ok(attachment),
                None => tokio::task::yield_now().await,
            }
        }
    }

    async fn link(&self, filter: &TopicFilter) -> Result<Arc<LiveTail>, AttachError> {
        let (reply, linked) = oneshot::channel();
        let link = Link {
            filter: filter.clone(),
            reply,
        };
        let sent = self.shared.links.send(link).await;
        sent.map_err(|_| AttachError::Closed)?;
        linked.await.map_err(|_| AttachError::Closed)?
    }
}

#[cfg(test)]
mod tests;
