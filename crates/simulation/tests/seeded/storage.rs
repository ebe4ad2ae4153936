//! What keeps the log of a simulated node from one life to the next.
//!
//! A store that is to be run here stands behind [`Storage`]: it is opened anew for each life, and told how the last
//! one ended, so that it can lose what such an end loses.

use std::sync::Arc;

use longlived_broker::Environment;
use longlived_broker::store::{
    DiskConfig, DiskStore, HistoryClass, MemoryFiles, MemoryStore, RetentionConfig, Store,
};
use rand::Rng as _;
use rand::rngs::StdRng;

/// Topics known at a time.
pub(crate) const TOPICS_MAX: usize = 1_000;

/// Small, so that a run seals many segments and reads most from the disk.
const SEGMENT_BYTES: u64 = 8 << 10;
const CACHE_BYTES: u64 = 16 << 10;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// By a drain: everything was handed over.
    Drained,
    /// The process was killed; its machine goes on.
    Killed,
    /// The machine lost its power.
    PowerCut,
}

/// Gives each life of a node its store.
pub(crate) trait Storage {
    /// The store of a life that begins. No earlier one writes any more.
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store>;

    /// A life has ended.
    fn ended(&mut self, death: Death);
}

/// Memory: each life begins with nothing.
pub(crate) struct Forgetful {
    pub(crate) history: Vec<HistoryClass>,
}

impl Storage for Forgetful {
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(
            environment.clone(),
            RetentionConfig::new(self.history.clone()),
            TOPICS_MAX,
        ))
    }

    fn ended(&mut self, _: Death) {}
}

/// The disk store, over a disk that keeps what was synced when its power is cut, and any part of the rest.
pub(crate) struct OnDisk {
    pub(crate) files: MemoryFiles,
    pub(crate) history: Vec<HistoryClass>,
    /// What a power cut leaves.
    pub(crate) rng: StdRng,
}

impl Storage for OnDisk {
    fn open(&mut self, environment: &Environment) -> Arc<dyn Store> {
        let config = DiskConfig {
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: CACHE_BYTES,
            inline: true,
            ..DiskConfig::new("/data".into())
        };
        let store = DiskStore::open_with(
            Arc::new(self.files.clone()),
            config,
            environment.clone(),
            RetentionConfig::new(self.history.clone()),
            TOPICS_MAX,
        );
        Arc::new(store.expect("the directory can be opened after any end"))
    }

    fn ended(&mut self, death: Death) {
        match death {
            Death::Drained | Death::Killed => self.files.kill(),
            Death::PowerCut => self.files.cut_power(|| self.rng.next_u64()),
        }
    }
}
