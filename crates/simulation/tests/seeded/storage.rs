//! What keeps the log of a simulated node from one life to the next.
//!
//! A store that is to be run here stands behind [`Storage`]: it is opened anew for each life, and told how the last
//! one ended, so that it can lose what such an end loses.

use std::sync::Arc;

use longlived_broker::Environment;
use longlived_broker::store::{HistoryClass, MemoryStore, RetentionConfig, Store};

/// Topics known at a time.
pub(crate) const TOPICS_MAX: usize = 1_000;

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

/// One store for all lives: what an append returned is never lost, whatever happens.
pub(crate) struct Lasting {
    pub(crate) store: Arc<dyn Store>,
}

impl Storage for Lasting {
    fn open(&mut self, _: &Environment) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn ended(&mut self, _: Death) {}
}
