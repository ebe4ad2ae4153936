//! The log while the store works on a batch that it does not finish.

use std::{
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join},
};
use parking_lot::Mutex;

use super::*;
use crate::{
    Begin, Compression, Cursor, Delivery, Encoding, GapPolicy, ReadOptions, SlowPolicy, frame,
    store::{Appended, Delegate, NewMessage, Own, tests::gate::Gate},
};

const OPTIONS: ReadOptions = ReadOptions {
    gap_policy: GapPolicy::Earliest,
    slow_policy: SlowPolicy::Park,
    message_bytes_max: 1 << 20,
    encoding: Encoding::V1,
    compression: Compression::Identity,
};

fn gate() -> Arc<Gate> {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let retention = RetentionConfig::new(Vec::new());
    Gate::new(Arc::new(MemoryStore::new(environment, retention, 10)))
}

async fn with_gate(test: impl AsyncFnOnce(Log, Arc<Gate>)) {
    let gate = gate();
    let (log, sequencer) = Log::new(gate.clone(), LogConfig::default());
    tokio::select! {
        _ = sequencer.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        () = in_time(test(log, gate)) => {}
    }
}

async fn submit(log: &Log, topic: &str) -> oneshot::Receiver<PublishReply> {
    let messages = smallvec![message(topic, "")];
    let answer = log.submit(messages, PublishOptions::default()).await;
    answer.unwrap()
}

async fn open(log: &Log, filter: &str, begin: Begin) -> Cursor {
    let filters = [TopicFilter::parse(filter).unwrap()];
    let opened = Cursor::open(log, &filters, begin, OPTIONS, Arc::default()).await;
    opened.unwrap().cursor
}

/// The events up to `visible`.
fn read(cursor: &mut Cursor) -> Vec<Sequence> {
    let mut found = Vec::new();
    loop {
        match cursor.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Delivery::Events { bytes, .. })) => {
                found.extend(frame::events(bytes).map(|(_, event)| event.sequence));
            }
            Poll::Ready(Ok(Delivery::Current | Delivery::Scanned)) => {}
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => return found,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_filter_is_linked_and_gets_history_and_then_the_batch_in_flight_once() {
    with_gate(async |log, gate| {
        for topic in ["a", "b", "a"] {
            submit(&log, topic).await.await.unwrap();
        }
        gate.hold();
        let in_flight = submit(&log, "a").await;
        gate.appending().await;
        let mut next = open(&log, "a", Begin::Next).await;
        let mut earliest = open(&log, "*", Begin::Earliest).await;
        assert_eq!(log.live_tails(), 2);
        assert_eq!(read(&mut next), [0; 0]);
        assert_eq!(read(&mut earliest), [1, 2, 3]);
        assert_eq!(log.visible(), 3);
        gate.release();
        assert_eq!(in_flight.await.unwrap().published[0].sequence, 4);
        assert_eq!(read(&mut next), [4]);
        assert_eq!(read(&mut earliest), [4]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn stop_is_heard_and_messages_queued_before_are_stored_and_answered() {
    let gate = gate();
    let (log, sequencer) = Log::new(gate.clone(), LogConfig::default());
    let stop = CancellationToken::new();
    let test = async {
        gate.hold();
        let in_flight = submit(&log, "a").await;
        gate.appending().await;
        let queued = submit(&log, "b").await;
        stop.cancel();
        // A publisher that comes from now on is refused at once.
        let refused = async || {
            let late = log.publish(message("late", ""), PublishOptions::default());
            let late = tokio::time::timeout(Duration::from_millis(1), late).await;
            late == Ok(Err(PublishError::Closed))
        };
        while !refused().await {
            tokio::task::yield_now().await;
        }
        // A subscriber that comes before the end is served.
        let mut cursor = open(&log, ">", Begin::Next).await;
        gate.release();
        assert_eq!(in_flight.await.unwrap().published[0].sequence, 1);
        assert_eq!(queued.await.unwrap().published[0].sequence, 2);
        let seen = read(&mut cursor);
        assert!(seen.starts_with(&[1, 2]), "{seen:?}");
    };
    let (ended, ()) = in_time(join(sequencer.run(stop.clone()), test)).await;
    assert_eq!(ended, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn idle_live_tails_are_unlinked_and_topics_are_forgotten_only_between_appends() {
    with_gate(async |log, gate| {
        drop(open(&log, "nobody", Begin::Next).await);
        gate.hold();
        let in_flight = submit(&log, "new").await;
        gate.appending().await;
        let trims = gate.trims();
        // The gate panics when the store is told to let go of anything while it appends.
        while log.live_tails() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(gate.trims(), trims);
        gate.release();
        assert_eq!(in_flight.await.unwrap().published[0].sequence, 1);
        assert_eq!(gate.trims(), trims + 1, "the waiting work is done at once");
    })
    .await;
}

/// A store that breaks when it is told to; an append that is in flight then ends well.
struct Breaks(Arc<Gate>, AtomicBool);

impl Delegate for Breaks {
    fn inner(&self) -> &dyn Store {
        &*self.0
    }

    fn writable(&self) -> Result<(), AppendError> {
        if self.1.load(Ordering::Relaxed) {
            return Err(AppendError::Broken("on purpose".to_owned()));
        }
        self.inner().writable()
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_while_it_holds_an_append_ends_the_log_when_that_is_answered() {
    let gate = gate();
    let store = Arc::new(Breaks(gate.clone(), AtomicBool::new(false)));
    let (log, sequencer) = Log::new(store.clone(), LogConfig::default());
    let test = async {
        drop(open(&log, "nobody", Begin::Next).await);
        gate.hold();
        let in_flight = submit(&log, "a").await;
        gate.appending().await;
        store.1.store(true, Ordering::Relaxed);
        // Sweeps go on meanwhile.
        while log.live_tails() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        gate.release();
        assert_eq!(in_flight.await.unwrap().published[0].sequence, 1);
    };
    let (ended, ()) = in_time(join(sequencer.run(CancellationToken::new()), test)).await;
    assert_eq!(ended, Err(AppendError::Broken("on purpose".to_owned())));
}

/// A store that says something else of its next append.
struct Lies(MemoryStore, Mutex<Option<Appended>>);

impl Delegate for Lies {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    fn append<'a>(
        &'a self,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, Result<Appended, AppendError>> {
        async move {
            let appended = self.0.append(messages).await;
            self.1.lock().take().map_or(appended, Ok)
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_contradicts_itself_ends_the_log_and_nothing_of_it_is_shown_or_acknowledged() {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let retention = RetentionConfig::new(Vec::new());
    let memory = || MemoryStore::new(environment.clone(), retention.clone(), 10);
    let before = {
        let store = memory();
        let new = NewMessage {
            topic: store.topic_id(&TopicName::parse("a").unwrap()).unwrap(),
            message: message("a", ""),
            message_key: None,
        };
        store.append(&[new]).await.unwrap()
    };
    let missing = Appended::among_others(None, Box::new([Own::New(7)]));
    let untold = Appended::among_others(None, Box::default());
    for lie in [before, missing, untold] {
        let store = Arc::new(Lies(memory(), Mutex::default()));
        let (log, sequencer) = Log::new(store.clone(), LogConfig::default());
        let test = async {
            let mut cursor = open(&log, "a", Begin::Next).await;
            submit(&log, "a").await.await.unwrap();
            assert_eq!(read(&mut cursor), [1]);
            *store.1.lock() = Some(lie);
            let reply = submit(&log, "a").await.await.unwrap();
            assert!(reply.published.is_empty());
            assert!(matches!(
                reply.refused,
                Some(PublishError::Append(AppendError::Broken(_)))
            ));
            assert_eq!(log.visible(), 1);
            assert_eq!(read(&mut cursor), [0; 0]);
        };
        let (ended, ()) = in_time(join(sequencer.run(CancellationToken::new()), test)).await;
        assert!(matches!(ended, Err(AppendError::Broken(_))), "{ended:?}");
    }
}
