//! The store of a simulated node: slow as a disk is, it dies with its node, and it tells the trace the truth.
//!
//! Holds: an append is in the inner store whole or not at all; once the node is dead nothing more gets in. The inner
//! store decides how much of it survives, so a store that loses events that were not synced fits here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longlived_broker::storage::{Appended, NewMessage, Page, Query};
use longlived_broker::testkit::Delegate;
use longlived_broker::{AppendError, Environment, ReadError, Sequence, Store};
use longlived_client::Position;
use tokio::time::sleep;

use crate::trace::{Record, Trace};

/// One life of a node over a store that may have had others.
pub(crate) struct Witness {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) life: u32,
    pub(crate) trace: Trace,
    pub(crate) chance: Environment,
    /// The longest a write or a read takes, in milliseconds.
    pub(crate) slowness: u64,
    /// One append in this number fails; 0 = none.
    pub(crate) fails_one_in: u64,
    pub(crate) dead: Arc<AtomicBool>,
}

impl Witness {
    fn takes(&self) -> Duration {
        Duration::from_millis(self.chance.random_below(self.slowness + 1))
    }

    fn stored<'a>(
        &self,
        certain: bool,
        messages: impl Iterator<Item = (Sequence, &'a NewMessage)>,
    ) {
        for (sequence, new) in messages {
            self.trace.add(Record::Stored {
                life: self.life,
                certain,
                position: Position::new(self.inner.epoch().get(), sequence),
                topic: new.message.topic.as_str().to_owned(),
                message: crate::publisher::name_of(&new.message.payload),
                bytes: new.message.payload.len(),
            });
        }
    }
}

impl Delegate for Witness {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
            sleep(self.takes()).await;
            if self.dead.load(Ordering::Relaxed) {
                return Err(AppendError::Broken("the node is dead".to_owned()));
            }
            if self.fails_one_in > 0 && self.chance.random_below(self.fails_one_in) == 0 {
                self.trace
                    .add(Record::Fault(format!("append of {} fails", messages.len())));
                return Err(AppendError::Full {
                    available: 0,
                    reserve: 1,
                });
            }
            let next = self.inner.last_sequence() + 1;
            let appended = match self.inner.append(messages).await {
                Ok(appended) => appended,
                Err(error) => {
                    let count = messages.len();
                    self.trace
                        .add(Record::Fault(format!("disk: {count} not taken: {error}")));
                    if matches!(error, AppendError::Broken(_)) {
                        // Written, and not synced: the next life may find it.
                        self.stored(false, (next..).zip(messages));
                    }
                    return Err(error);
                }
            };
            let entries = appended.frames().map_or(&[][..], |frames| frames.entries());
            let sequences = entries.iter().map(|entry| entry.sequence);
            self.stored(true, sequences.zip(messages));
            // Between here and the answer a node may die: stored, and nobody knows.
            sleep(self.takes()).await;
            Ok(appended)
        }
        .boxed()
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        let (inner, takes) = (self.inner.clone(), self.takes());
        async move {
            sleep(takes).await;
            inner.read(query).await
        }
        .boxed()
    }
}
