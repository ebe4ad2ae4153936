//! The mistakes of a log that its store can make for it, or sizes that bound nothing.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Fault, planted};
use crate::{
    log::{DedupeConfig, LogConfig},
    store::{Delegate, Page, Query, ReadError, RecentId, Removed, Store},
};

/// What a log gets in place of its store and its sizes.
pub(crate) fn faulty_log(store: Arc<dyn Store>, config: LogConfig) -> (Arc<dyn Store>, LogConfig) {
    (Arc::new(FaultyStore(store)), sizes(config))
}

/// A store that makes the planted mistake, and does everything else as the one behind it.
struct FaultyStore(Arc<dyn Store>);

impl Delegate for FaultyStore {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    fn recent_ids(&self) -> Vec<RecentId> {
        if planted(Fault::DedupeForgottenAtRestart) {
            return Vec::new();
        }
        self.inner().recent_ids()
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        let page = self.inner().read(query);
        if !(planted(Fault::TrimWithoutGap) || planted(Fault::GapBoundsOffByOne)) {
            return page;
        }
        page.map(|page| page.map(mistaken)).boxed()
    }
}

/// A page that says something else of what retention has removed.
fn mistaken(mut page: Page) -> Page {
    if planted(Fault::TrimWithoutGap) {
        page.trimmed_through = 0;
        page.removed = Removed::default();
    } else if page.trimmed_through > 0 {
        page.trimmed_through += 1;
        page.removed.last_ahead += 1;
    }
    page
}

/// The sizes of a log, without the limit that is not to be held.
fn sizes(mut config: LogConfig) -> LogConfig {
    if planted(Fault::DuplicateGetsNewNumber) {
        config.dedupe.ids_max = 0;
    }
    if planted(Fault::DedupeNeverExpires) {
        config.dedupe = DedupeConfig {
            ids_max: usize::MAX,
            age_max: Duration::MAX,
        };
    }
    if planted(Fault::QueueUnbounded) {
        config.publish_queue_bytes_max = usize::MAX;
    }
    if planted(Fault::TailsGrow) {
        config.tail_bytes_max = usize::MAX;
    }
    config
}
