//! A store whose appends stand still while it is told to hold them.
//!
//! Holds: a call that the sequencer may make only between two appends panics while one is in flight.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_topic::TopicName;
use tokio::sync::watch;

use crate::{
    frame::TopicId,
    store::{AppendError, Appended, Delegate, NewMessage, Store, TopicsExhausted, Trimmed},
};

pub(crate) struct Gate {
    inner: Arc<dyn Store>,
    held: watch::Sender<bool>,
    // Appends that have begun and not ended.
    in_flight: watch::Sender<usize>,
    trims: AtomicUsize,
}

impl Gate {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            held: watch::Sender::new(false),
            in_flight: watch::Sender::new(0),
            trims: AtomicUsize::new(0),
        })
    }

    /// Appends from now on wait.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }

    /// Returns when an append is in flight.
    pub(crate) async fn appending(&self) {
        let mut in_flight = self.in_flight.subscribe();
        in_flight.wait_for(|&count| count > 0).await.unwrap();
    }

    /// How often it was told to let go of something.
    pub(crate) fn trims(&self) -> usize {
        self.trims.load(Ordering::Relaxed)
    }

    pub(crate) fn is_appending(&self) -> bool {
        *self.in_flight.borrow() > 0
    }

    fn assert_between_appends(&self) {
        assert!(!self.is_appending(), "an append is in flight");
    }
}

impl Delegate for Gate {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        self.assert_between_appends();
        self.in_flight.send_modify(|count| *count += 1);
        let mut held = self.held.subscribe();
        async move {
            held.wait_for(|held| !held).await.unwrap();
            let appended = self.inner.append(messages).await;
            self.in_flight.send_modify(|count| *count -= 1);
            appended
        }
        .boxed()
    }

    fn writable(&self) -> Result<(), AppendError> {
        self.assert_between_appends();
        self.inner.writable()
    }

    fn topic_id(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted> {
        self.assert_between_appends();
        self.inner.topic_id(topic)
    }

    fn evict_topics(&self, batch: &[NewMessage]) -> Vec<TopicId> {
        self.assert_between_appends();
        self.inner.evict_topics(batch)
    }

    fn unused_topics(&self) -> Vec<(TopicId, TopicName)> {
        self.assert_between_appends();
        self.inner.unused_topics()
    }

    fn forget_topics(&self, forget: &[TopicId], keep: &[TopicId]) {
        self.assert_between_appends();
        self.inner.forget_topics(forget, keep);
    }

    fn trim(&self) -> Trimmed {
        self.assert_between_appends();
        self.trims.fetch_add(1, Ordering::Relaxed);
        self.inner.trim()
    }
}
