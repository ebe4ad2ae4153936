//! History on disk: synced before it is acknowledged, in files of our own.
//!
//! A batch is appended to the log's [`segment`] and synced. Full segments are moved, in the background, into
//! [`sealed`] files of one retention class each, with an index by topic; [`retention`] removes those. `STATE` lists the
//! sealed files and the removed ranges. It is replaced as a whole, before a file is removed that it does not name any
//! more.
//!
//! Holds: messages that `append` returned are on the disk; a sequence is never given out twice; an unreadable range is
//! named as damaged and never taken for something else; everything behind it is kept.
//! Does not: protect from a disk that acknowledges a sync without doing it.

mod append;
mod builder;
#[cfg(any(test, feature = "storage"))]
mod epoch;
mod files;
mod floors;
mod format;
mod head;
mod history;
mod lost;
mod maintenance;
mod open;
mod read;
mod record;
mod recover;
mod retention;
mod seal;
mod sealed;
mod segment;
mod writer;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_topic::{TopicFilter, TopicName};
use parking_lot::{Condvar, Mutex, RwLock};
use quick_cache::{Weighter, sync::Cache};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::Semaphore;

#[cfg(any(test, feature = "storage"))]
pub use epoch::{EpochChange, NewEpochError};
#[cfg(any(test, feature = "testkit"))]
pub use files::{Faults, MemoryFiles};
pub use files::{File, Files, Lock, OpenMode};
#[cfg(any(test, feature = "storage"))]
pub use files::{Kept, LockError, SystemFiles};
pub use open::OpenError;

use self::{
    format::Postings, head::HeadFile, history::History, lost::Lost, read::TopicSet, sealed::Loaded,
    segment::SegmentFile, writer::Commits,
};
use super::{
    AppendError, Appended, Durability, NewMessage, Page, Query, ReadError, RecentId, Store,
    StoreStats, TopicInfo, TopicsExhausted, Trimmed, clock::AgeClock,
};
use crate::{
    environment::Environment,
    frame::TopicId,
    position::{Epoch, Sequence},
};

/// Reads of the disk that run at a time, each on a thread of its own.
const READS_MAX: usize = 8;

/// How a data directory is used.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Where the history is; one process at a time.
    pub dir: PathBuf,
    /// Length of a full segment of the log, in bytes: so much is moved at a time, and read when the store opens.
    pub segment_bytes: u64,
    /// Length of the first segment; each that follows is larger, until they are full ones.
    pub segment_begin_bytes: u64,
    /// Bytes of the disk that publishing leaves free, so that segments can be moved and retention can work.
    pub reserve_bytes: u64,
    /// Bytes of history that are kept in memory for readers.
    pub cache_bytes: u64,
    /// How often retention looks.
    pub retention_interval: Duration,
    /// Message ids that are remembered across a restart.
    pub ids_max: usize,
    /// ... and for how long.
    pub ids_age_max: Duration,
    /// Do everything on the caller's thread: slower, and the same at every run. For simulation.
    pub inline: bool,
}

impl DiskConfig {
    /// The usual sizes, in a directory.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            segment_bytes: 64 << 20,
            segment_begin_bytes: 64 << 10,
            reserve_bytes: 256 << 20,
            cache_bytes: 64 << 20,
            retention_interval: Duration::from_secs(1),
            ids_max: 100_000,
            ids_age_max: Duration::from_secs(120),
            inline: false,
        }
    }
}

/// Its counters since it was opened.
#[derive(Debug, Default)]
struct Counters {
    commits: AtomicU64,
    events: AtomicU64,
    reads: AtomicU64,
    damaged: AtomicU64,
}

/// A store in a directory.
#[derive(Debug)]
pub struct DiskStore {
    shared: Arc<Shared>,
    commits: Commits,
    maintenance: maintenance::Runner,
}

/// A block of a sealed file, or a batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BlockKey {
    file: u64,
    block: u32,
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<BlockKey, Loaded> for ByBytes {
    fn weight(&self, _: &BlockKey, block: &Loaded) -> u64 {
        match block {
            Loaded::Whole(frames) => {
                let entries = size_of_val(frames.entries());
                (frames.len_bytes() + entries) as u64 + 128
            }
            Loaded::Damaged(_) => 128,
        }
    }
}

impl Weighter<u64, Arc<Postings>> for ByBytes {
    fn weight(&self, _: &u64, postings: &Arc<Postings>) -> u64 {
        let places = postings.topics.iter().map(|topic| topic.places.len());
        (places.sum::<usize>() * 4 + postings.topics.len() * 24) as u64 + 64
    }
}

impl Weighter<(u64, TopicFilter), Arc<TopicSet>> for ByBytes {
    fn weight(&self, (_, filter): &(u64, TopicFilter), set: &Arc<TopicSet>) -> u64 {
        (set.len_bytes() + filter.as_str().len()) as u64 + 128
    }
}

/// The state that the writer, the readers and the maintenance share.
#[derive(Debug)]
struct Shared {
    config: DiskConfig,
    files: Arc<dyn Files>,
    environment: Environment,
    /// The clock of ages.
    clock: AgeClock,
    epoch: Epoch,
    record_secret: u64,
    message_key_secret: [u64; 2],
    last: AtomicU64,
    history: RwLock<History>,
    blocks: Cache<BlockKey, Loaded, ByBytes>,
    postings: Cache<u64, Arc<Postings>, ByBytes>,
    // Which topics of a sealed file a filter matches.
    matches: Cache<(u64, TopicFilter), Arc<TopicSet>, ByBytes>,
    reads: Arc<Semaphore>,
    counters: Counters,
    // The first failure after which nothing is certain.
    broken: OnceLock<String>,
    // The next segment, created ahead. A thread that creates a segment holds this lock, so that numbers rise in the
    // order of use.
    prepared: Mutex<Option<SegmentFile>>,
    next_segment: AtomicU64,
    next_file: AtomicU64,
    // Damaged blocks and batches that were noted, by their first sequence: each is news once.
    damaged: Mutex<FxHashSet<Sequence>>,
    // The floor of each class as the disk has it.
    floors_written: Mutex<FxHashMap<String, Sequence>>,
    // The damaged events among those that are counted as kept.
    lost: Mutex<Lost>,
    // Files that nothing names any more once STATE is written.
    doomed: Mutex<Vec<PathBuf>>,
    // Rung when there is work for the maintenance.
    bell: Bell,
    head_file: HeadFile,
    // Held for the life of the store.
    lock: Box<dyn Lock>,
}

/// Wakes the maintenance, and tells it to end.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<BellState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stopped: bool,
}

impl Bell {
    fn ring(&self) {
        self.state.lock().rung = true;
        self.changed.notify_one();
    }

    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Until it is rung or stopped, or a time has passed.
    fn wait(&self, at_most: Duration) {
        let mut state = self.state.lock();
        if !state.rung && !state.stopped {
            self.changed.wait_for(&mut state, at_most);
        }
        state.rung = false;
    }
}

impl Shared {
    fn log_dir(&self) -> PathBuf {
        self.config.dir.join("log")
    }

    fn sealed_dir(&self) -> PathBuf {
        self.config.dir.join("sealed")
    }

    /// Remembers the first failure that makes the store useless.
    fn set_broken(&self, what: &str, error: &std::io::Error) -> AppendError {
        let dir = self.config.dir.display();
        let text = format!("{what} in {dir}: {error}");
        AppendError::Broken(self.broken.get_or_init(|| text).clone())
    }

    fn note_damage(&self, path: &std::path::Path, first: Sequence, last: Sequence) {
        if !self.damaged.lock().insert(first) {
            return;
        }
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::error!(file = %path.display(), first, last, "damaged: these events cannot be read back");
    }
}

impl Store for DiskStore {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn last_sequence(&self) -> Sequence {
        self.shared.last.load(Ordering::Acquire)
    }

    fn topic_id(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted> {
        let known = self.shared.history.read().topics.id_of(topic);
        known.map_or_else(|| self.shared.history.write().topic_id(topic), Ok)
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        append::append(&self.shared, &self.commits, messages)
            .map(|frames| frames.map(Appended::from))
            .boxed()
    }

    fn writable(&self) -> Result<(), AppendError> {
        self.shared.writable()
    }

    fn message_key_secret(&self) -> [u64; 2] {
        self.shared.message_key_secret
    }

    fn stats(&self) -> Option<StoreStats> {
        let history = self.shared.history.read();
        let counters = &self.shared.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(StoreStats {
            events: history.classes.iter().map(|class| class.events).sum(),
            topics: history.topics.count(),
            files: history.classes.iter().map(|class| class.files.len()).sum(),
            commits: load(&counters.commits),
            committed_events: load(&counters.events),
            reads: load(&counters.reads),
            damaged: load(&counters.damaged),
        })
    }

    fn recent_ids(&self) -> Vec<RecentId> {
        let ages = self.shared.clock.ages();
        self.shared.history.read().recent_ids(&ages)
    }

    fn topics(
        &self,
        filter: TopicFilter,
        after: Option<TopicName>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TopicInfo>, ReadError>> {
        read::topics(self.shared.clone(), filter, after, limit).boxed()
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        read::read(self.shared.clone(), query).boxed()
    }

    fn before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>> {
        read::before_time(self.shared.clone(), unix_nanos).boxed()
    }

    fn publish_time_ahead(&self) -> Duration {
        let published = self.shared.history.read().last.published;
        self.shared.environment.ahead(published)
    }

    fn evict_topics(&self, batch: &[NewMessage]) -> Vec<TopicId> {
        self.shared.history.write().topics.evict_topics(batch)
    }

    fn unused_topics(&self) -> Vec<(TopicId, TopicName)> {
        self.shared.history.write().topics.unused()
    }

    fn forget_topics(&self, forget: &[TopicId], keep: &[TopicId]) {
        self.shared
            .history
            .write()
            .topics
            .forget_unused(forget, keep);
    }

    fn trim(&self) -> Trimmed {
        self.maintenance.tick(&self.shared);
        let now = self.shared.clock.ages().now();
        let topics = &mut self.shared.history.write().topics;
        topics.tick(now);
        topics.forget_empty(|_| false)
    }
}

#[cfg(test)]
mod tests;
