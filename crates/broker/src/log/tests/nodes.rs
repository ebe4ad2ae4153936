//! Several nodes over one log that numbers at append, as a distributed log would be.

use std::{collections::HashMap, sync::atomic::Ordering};

use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;
use crate::{
    Begin, Compression, Cursor, Delivery, Encoding, GapPolicy, MessageKey, Outcome, ReadOptions,
    SlowPolicy,
    frame::{self, Entry, Frames, Slice, TopicId},
    store::{
        Admitted, Appended, FilterFrom, Own, Page, Query, ReadError, RecentId, TopicInfo,
        TopicsExhausted, Trimmed,
    },
};

/// A log that several nodes append to, as one of them sees it: what others append reaches it when it asks.
struct OneOfMany {
    inner: Arc<MemoryStore>,
    seen: Arc<Mutex<Sequence>>,
    // Rises with every append of any node.
    news: watch::Sender<()>,
    // What the log itself remembers of message ids, for all nodes.
    ids: Arc<Mutex<HashMap<MessageKey, Sequence>>>,
    // Whether it answers.
    silent: Arc<AtomicBool>,
}

impl OneOfMany {
    /// Everything after what this node has seen.
    async fn unseen(inner: &MemoryStore, seen: &Mutex<Sequence>) -> Option<Arc<Frames>> {
        let after = *seen.lock();
        let head = inner.head();
        let filters = [">", "inbox.>"].map(|filter| FilterFrom {
            filter: TopicFilter::parse(filter).unwrap(),
            after,
        });
        let query = Query {
            filters: filters.to_vec(),
            after,
            through: head,
            bytes_max: usize::MAX,
        };
        let page = inner.read(query).await.unwrap();
        *seen.lock() = head;
        let slices: Vec<_> = page.slices.into_iter().collect();
        let mut offset = 0;
        let entries = slices.iter().flat_map(Slice::entries).map(|entry| {
            let moved = Entry { offset, ..*entry };
            offset += entry.len;
            moved
        });
        let entries = entries.collect();
        Frames::from_parts(frame::join(&slices, Encoding::V1), entries)
    }
}

impl Store for OneOfMany {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn head(&self) -> Sequence {
        *self.seen.lock()
    }

    fn admit(&self, topic: &TopicName) -> Result<TopicId, TopicsExhausted> {
        self.inner.admit(topic)
    }

    fn append<'a>(
        &'a self,
        messages: &'a [Admitted],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
            let known = |admitted: &Admitted| self.ids.lock().get(&admitted.message_key?).copied();
            let before: Vec<_> = messages.iter().map(known).collect();
            let new = messages
                .iter()
                .zip(&before)
                .filter(|(_, known)| known.is_none());
            let new: Vec<_> = new.map(|(admitted, _)| admitted.clone()).collect();
            if !new.is_empty() {
                let own = self.inner.append(&new).await?;
                for (admitted, entry) in new.iter().zip(own.frames().unwrap().entries()) {
                    if let Some(key) = admitted.message_key {
                        self.ids.lock().insert(key, entry.sequence);
                    }
                }
            }
            let last = self.inner.head();
            let all = Self::unseen(&self.inner, &self.seen).await;
            self.news.send_replace(());
            if self.silent.load(Ordering::Relaxed) {
                // Stored, and the answer does not come.
                *self.seen.lock() = last - u64::try_from(new.len()).unwrap();
                return Err(AppendError::Unknown("no answer".to_owned()));
            }
            let mut next = last - u64::try_from(new.len()).unwrap();
            let places = before.into_iter().map(|known| {
                known.map_or_else(
                    || {
                        next += 1;
                        let entries = all.as_ref().unwrap().entries();
                        let found = entries.iter().position(|e| e.sequence == next);
                        Own::New(u32::try_from(found.unwrap()).unwrap())
                    },
                    Own::Duplicate,
                )
            });
            let places = places.collect();
            Ok(Appended::among_others(all, places))
        }
        .boxed()
    }

    fn appended_elsewhere(&self) -> BoxFuture<'static, Result<Arc<Frames>, AppendError>> {
        let (inner, seen) = (self.inner.clone(), self.seen.clone());
        let mut news = self.news.subscribe();
        async move {
            loop {
                // What comes late comes late: a publisher's own append may hand it out before.
                tokio::time::sleep(Duration::from_millis(3)).await;
                if let Some(frames) = Self::unseen(&inner, &seen).await {
                    return Ok(frames);
                }
                news.changed().await.unwrap();
            }
        }
        .boxed()
    }

    fn has_reached(&self, sequence: Sequence) -> BoxFuture<'static, Result<bool, ReadError>> {
        futures_util::future::ready(Ok(sequence <= self.inner.head())).boxed()
    }

    fn room(&self) -> Result<(), AppendError> {
        self.inner.room()
    }

    fn message_key_secret(&self) -> [u64; 2] {
        self.inner.message_key_secret()
    }

    fn recent_ids(&self) -> Vec<RecentId> {
        self.inner.recent_ids()
    }

    fn topics(
        &self,
        filter: TopicFilter,
        after: Option<TopicName>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<TopicInfo>, ReadError>> {
        self.inner.topics(filter, after, limit)
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        self.inner.read(query)
    }

    fn before_time(&self, unix_nanos: i64) -> BoxFuture<'static, Result<Sequence, ReadError>> {
        self.inner.before_time(unix_nanos)
    }

    fn trim(&self) -> Trimmed {
        Trimmed::default()
    }
}

/// Reads so many events, and where the cursor then stands.
async fn read_events(cursor: &mut Cursor, events: usize) -> Vec<Sequence> {
    let mut found = Vec::new();
    while found.len() < events {
        match std::future::poll_fn(|cx| cursor.poll_next(cx))
            .await
            .unwrap()
        {
            Delivery::Events { bytes, .. } => {
                found.extend(frame::events(bytes).map(|(_, event)| event.sequence));
            }
            Delivery::Current | Delivery::Scanned => {}
            Delivery::Gap(gap) => panic!("{gap:?}"),
        }
    }
    found
}

#[tokio::test(start_paused = true)]
async fn nodes_of_one_log_show_the_same_order_and_take_over_positions_from_each_other() {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let retention = RetentionConfig::new(Vec::new());
    let inner = Arc::new(MemoryStore::new(environment, retention, 10));
    let news = watch::Sender::new(());
    let ids = Arc::new(Mutex::new(HashMap::new()));
    let silent = Arc::new(AtomicBool::new(false));
    let node = || {
        let store = OneOfMany {
            inner: inner.clone(),
            seen: Arc::new(Mutex::new(0)),
            news: news.clone(),
            ids: ids.clone(),
            silent: silent.clone(),
        };
        Log::new(Arc::new(store), LogConfig::default())
    };
    let (one, one_runs) = node();
    let (two, two_runs) = node();
    let open = async |log: &Log, begin| {
        let options = ReadOptions {
            gap_policy: GapPolicy::Fail,
            slow_policy: SlowPolicy::Park,
            message_bytes_max: 1 << 20,
            encoding: Encoding::V1,
            compression: Compression::Identity,
        };
        let filters = [TopicFilter::parse(">").unwrap()];
        let opened = Cursor::open(log, &filters, begin, options, Arc::default()).await;
        opened.unwrap()
    };
    let test = async {
        let mut on_one = open(&one, Begin::Next).await.cursor;
        let mut on_two = open(&two, Begin::Next).await.cursor;
        let publish = |log: &Log, topic: &'static str| {
            let log = log.clone();
            async move {
                let published = log.publish(message(topic, ""), PublishOptions::default());
                published.await.unwrap().sequence
            }
        };
        // Both at once, many times: numbers of the two are mixed.
        let mut given = Vec::new();
        for _ in 0..50 {
            let (a, b, c) =
                tokio::join!(publish(&one, "a"), publish(&two, "b"), publish(&one, "c"));
            given.extend([a, b, c]);
        }
        given.sort_unstable();
        assert_eq!(given, (1..=150).collect::<Vec<_>>());
        assert_eq!(read_events(&mut on_one, 150).await, given);
        assert_eq!(read_events(&mut on_two, 150).await, given);

        // The other node has not heard of it, and the subscriber that has seen it comes there.
        let seen = publish(&one, "a").await;
        assert!(two.visible() < seen);
        let position = one.position_at(seen);
        let resumed = open(&two, Begin::After(position)).await;
        assert_eq!(
            (resumed.outcome, resumed.position),
            (Outcome::Resumed, position)
        );
        let next = publish(&one, "a").await;
        let mut cursor = resumed.cursor;
        assert_eq!(read_events(&mut cursor, 1).await, [next]);

        // One answer does not come; the other node takes the same message id and finds it stored.
        silent.store(true, Ordering::Relaxed);
        let lost = one.publish(message("a", "once"), PublishOptions::default());
        assert!(matches!(
            lost.await,
            Err(PublishError::Append(AppendError::Unknown(_)))
        ));
        silent.store(false, Ordering::Relaxed);
        publish(&two, "b").await;
        let again = two.publish(message("a", "once"), PublishOptions::default());
        let again = again.await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.sequence, next + 1);
        assert_eq!(read_events(&mut cursor, 2).await, [next + 1, next + 2]);
    };
    tokio::select! {
        _ = one_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        _ = two_runs.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = test => {}
    }
}
