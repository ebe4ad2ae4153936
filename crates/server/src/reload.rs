//! Files that a running node reads again.

use std::sync::Arc;

use tokio::sync::Notify;

/// Makes a node read its auth file and the files of its certificate at once, as on SIGHUP.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Vec<Arc<Notify>>);

impl ReloadHandle {
    /// For those who wait for these; `None` if there are none.
    pub(crate) fn of(asked: impl Iterator<Item = Arc<Notify>>) -> Option<Self> {
        let asked: Vec<_> = asked.collect();
        (!asked.is_empty()).then_some(Self(asked))
    }

    /// Does not wait: the log says what became of it.
    pub fn reload(&self) {
        for asked in &self.0 {
            asked.notify_one();
        }
    }
}
