//! A log that several nodes append to and that numbers at append, as one on other machines would.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_topic::TopicName;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    frame::{Frames, TopicId},
    message::MessageKey,
    position::Sequence,
    store::{
        AppendError, Appended, Delegate, ElsewhereError, MemoryStore, NewMessage, Own, ReadError,
        RecentId, Store, Trimmed,
    },
};

/// A message with this payload is not taken; those before and after it are.
pub(crate) const REFUSED: &str = "refused";

/// How long an answer takes to the node that appends ...
const ANSWER: Duration = Duration::from_millis(1);
/// ... and an event to another one.
const EVENT: Duration = Duration::from_millis(3);

/// The state that the nodes share.
pub(crate) struct SharedLog {
    store: MemoryStore,
    // All of them, one by one.
    events: Mutex<Vec<Arc<Frames>>>,
    // The message ids that the log itself remembers, for all nodes.
    ids: Mutex<HashMap<MessageKey, Sequence>>,
    // Rises with every append of any node.
    news: watch::Sender<()>,
    /// Appends are stored and their answers do not come.
    pub(crate) silent: AtomicBool,
    /// The number of further failures to get others' events.
    pub(crate) failures: AtomicU64,
    // Others' events can never be had again.
    broken: AtomicBool,
}

impl SharedLog {
    pub(crate) fn new(store: MemoryStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            events: Mutex::default(),
            ids: Mutex::default(),
            news: watch::Sender::new(()),
            silent: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// A node that has seen nothing yet.
    pub(crate) fn node(self: &Arc<Self>) -> Arc<OneOfMany> {
        Arc::new(OneOfMany {
            log: self.clone(),
            seen: Arc::default(),
        })
    }

    /// Others' events can never be had again, and the nodes that wait for them learn it.
    pub(crate) fn break_for_good(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.news.send_replace(());
    }

    /// Stores one message; where it is, and whether it was there before.
    async fn store(&self, new: &NewMessage) -> Result<(Sequence, bool), AppendError> {
        if let Some(key) = new.message_key
            && let Some(&sequence) = self.ids.lock().get(&key)
        {
            return Ok((sequence, true));
        }
        if new.message.payload == REFUSED {
            return Err(AppendError::Unavailable("on purpose".to_owned()));
        }
        let appended = self.store.append(std::slice::from_ref(new)).await?;
        let frames = appended.frames().expect("it is new").clone();
        let sequence = frames.last();
        self.events.lock().push(frames);
        if let Some(key) = new.message_key {
            self.ids.lock().insert(key, sequence);
        }
        self.news.send_replace(());
        Ok((sequence, false))
    }

    /// The events that a node was not handed out yet, up to one.
    fn hand_out(&self, seen: &mut Seen, through: Sequence) -> Option<Arc<Frames>> {
        let after = seen.through;
        seen.through = through.max(after);
        let events = self.events.lock();
        // Numbers have no gaps here.
        let unseen = events.get(after as usize..seen.through as usize)?;
        (!unseen.is_empty()).then(|| Frames::concat(unseen))
    }
}

/// The log as one node sees it: events of others reach it when it asks.
pub(crate) struct OneOfMany {
    log: Arc<SharedLog>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    // The last event that was handed out.
    through: Sequence,
    // The first of this node's own that an append has stored and not handed out.
    own: Option<Sequence>,
}

impl OneOfMany {
    async fn append_all(&self, messages: &[NewMessage]) -> Result<Appended, AppendError> {
        let mut stored = Vec::with_capacity(messages.len());
        for new in messages {
            let outcome = self.log.store(new).await;
            if let Ok((sequence, false)) = outcome {
                self.seen.lock().own.get_or_insert(sequence);
            }
            stored.push(outcome);
            // Another node may be faster with its next message.
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(ANSWER).await;
        let seen = &mut *self.seen.lock();
        seen.own = None;
        self.log.news.send_replace(());
        if self.log.silent.load(Ordering::Relaxed) {
            return Err(AppendError::Unknown("no answer".to_owned()));
        }
        let new = |outcome: &Result<(Sequence, bool), _>| match outcome {
            Ok((sequence, false)) => Some(*sequence),
            _ => None,
        };
        let last = stored.iter().filter_map(new).next_back();
        let frames = last.and_then(|last| self.log.hand_out(seen, last));
        let index_of = |sequence| {
            let entries = frames.as_ref().expect("some are new").entries();
            entries.iter().position(|entry| entry.sequence == sequence)
        };
        let own = stored.into_iter().map(|outcome| match outcome {
            Ok((sequence, true)) => Own::Duplicate(sequence),
            Ok((sequence, false)) => Own::New(index_of(sequence).unwrap().try_into().unwrap()),
            Err(error) => Own::Failed(error),
        });
        let own = own.collect();
        Ok(Appended::among_others(frames, own))
    }
}

impl Delegate for OneOfMany {
    fn inner(&self) -> &dyn Store {
        &self.log.store
    }

    fn last_sequence(&self) -> Sequence {
        self.seen.lock().through
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        self.append_all(messages).boxed()
    }

    fn appended_elsewhere(&self) -> BoxFuture<'static, Result<Arc<Frames>, ElsewhereError>> {
        let (log, seen) = (self.log.clone(), self.seen.clone());
        let mut news = log.news.subscribe();
        async move {
            loop {
                // A late event stays late: a publisher's own append may hand it out before.
                tokio::time::sleep(EVENT).await;
                if log.broken.load(Ordering::Relaxed) {
                    return Err(ElsewhereError::Broken("on purpose".to_owned()));
                }
                let fails = |left: u64| left.checked_sub(1);
                let failures = &log.failures;
                if failures
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
                    .is_ok()
                {
                    return Err(ElsewhereError::Unavailable("on purpose".to_owned()));
                }
                let last = log.store.last_sequence();
                let unseen = {
                    let seen = &mut *seen.lock();
                    let through = seen.own.map_or(last, |own| own - 1);
                    log.hand_out(seen, through)
                };
                if let Some(frames) = unseen {
                    return Ok(frames);
                }
                news.changed().await.unwrap();
            }
        }
        .boxed()
    }

    fn has_reached(&self, sequence: Sequence) -> BoxFuture<'static, Result<bool, ReadError>> {
        let reached = sequence <= self.log.store.last_sequence();
        futures_util::future::ready(Ok(reached)).boxed()
    }

    fn recent_ids(&self) -> Vec<RecentId> {
        Vec::new()
    }

    // Topics have the same ids on all nodes here: none can forget one.
    fn evict_topics(&self, _: &[NewMessage]) -> Vec<TopicId> {
        Vec::new()
    }

    fn unused_topics(&self) -> Vec<(TopicId, TopicName)> {
        Vec::new()
    }

    fn trim(&self) -> Trimmed {
        Trimmed::default()
    }
}
