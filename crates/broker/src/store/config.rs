//! Which store a node has, and opening it: where a further one is added.

use std::sync::Arc;

use super::{DiskConfig, DiskStore, HistoryClass, MemoryStore, OpenError, RetentionConfig, Store};
use crate::environment::Environment;

/// Where history is kept.
#[derive(Clone, Debug, Default)]
pub enum StoreConfig {
    /// In memory: gone with the process.
    #[default]
    Memory,
    /// In a directory of this machine.
    Disk(DiskConfig),
}

impl StoreConfig {
    /// Opens the store. Of the classes of history the first that matches a topic holds; at most `topics_max` topics are
    /// known at a time. Must be called inside a tokio runtime.
    pub async fn open(
        self,
        environment: Environment,
        history: Vec<HistoryClass>,
        topics_max: usize,
    ) -> Result<Arc<dyn Store>, OpenError> {
        let retention = RetentionConfig::new(history);
        match self {
            Self::Memory => Ok(Arc::new(MemoryStore::new(
                environment,
                retention,
                topics_max,
            ))),
            Self::Disk(config) => {
                let dir = config.dir.clone();
                let open = move || DiskStore::open(config, environment, retention, topics_max);
                // It reads the log of the last process, which can take seconds.
                let opened = tokio::task::spawn_blocking(open).await;
                let opened = opened.map_err(|ended| OpenError::Io {
                    path: dir,
                    source: ended.into(),
                })?;
                Ok(Arc::new(opened?))
            }
        }
    }
}
