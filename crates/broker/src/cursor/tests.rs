//! Cursors over a real log: how they come to rest, and the support of all of these tests.

use std::{future::Future, task::Waker, time::SystemTime};

use longlived_api::v1;
use longlived_topic::{TopicFilter, TopicName};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Environment, Epoch, LogConfig, Message, PublishOptions, PublishReply,
    frame::{Compression, Encoding},
    store::{AppendError, HistoryClass, Limits, MemoryStore, RetentionConfig, tests::gate::Gate},
};

mod begin;
mod behind;
mod gaps;
mod properties;
mod shared;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

/// Some epoch that this is not.
fn other(epoch: Epoch) -> Epoch {
    Epoch::new(epoch.get() ^ 1).expect("an epoch of a seed, far from the ends")
}

fn limits(events: u64) -> Limits {
    Limits {
        events,
        bytes: u64::MAX,
        age: None,
    }
}

/// Runs a test against a real sequencer, which ends with it.
fn with_log<T>(
    classes: Vec<(&str, u64)>,
    tail_bytes_max: usize,
    test: impl AsyncFnOnce(Log) -> T,
) -> T {
    with_gate(classes, tail_bytes_max, async |log, _| test(log).await)
}

/// The same over a store whose appends can be held.
fn with_gate<T>(
    classes: Vec<(&str, u64)>,
    tail_bytes_max: usize,
    test: impl AsyncFnOnce(Log, Arc<Gate>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
        let classes = classes
            .into_iter()
            .map(|(text, events)| HistoryClass {
                filter: filter(text),
                limits: limits(events),
            })
            .collect();
        let store = MemoryStore::new(environment, RetentionConfig::new(classes), 1000);
        let config = LogConfig {
            tail_bytes_max,
            ..LogConfig::default()
        };
        let gate = Gate::new(Arc::new(store));
        let (log, sequencer) = Log::new(gate.clone(), config);
        let run: std::pin::Pin<Box<dyn Future<Output = Result<(), AppendError>>>> =
            Box::pin(sequencer.run(CancellationToken::new()));
        tokio::select! {
            _ = run => unreachable!("nobody stops it"),
            result = test(log, gate) => result,
        }
    })
}

async fn submit(log: &Log, topics: &[&str]) -> oneshot::Receiver<PublishReply> {
    let messages = topics
        .iter()
        .map(|topic| Message::new(TopicName::parse(topic).unwrap(), topic.as_bytes().to_vec()))
        .collect();
    let answer = log.submit(messages, PublishOptions::default());
    answer.await.unwrap()
}

async fn publish(log: &Log, topics: &[&str]) -> Vec<Sequence> {
    stored(submit(log, topics).await).await
}

/// Where the messages of a request are.
async fn stored(answer: oneshot::Receiver<PublishReply>) -> Vec<Sequence> {
    let reply = answer.await.unwrap();
    assert_eq!(reply.refused, None);
    reply.published.iter().map(|p| p.sequence).collect()
}

const OPTIONS: ReadOptions = ReadOptions {
    gap_policy: GapPolicy::Earliest,
    slow_policy: SlowPolicy::Park,
    message_bytes_max: 4 << 20,
    encoding: Encoding::V1,
    compression: Compression::Identity,
};

async fn open(log: &Log, filters: &[TopicFilter], begin: Begin, options: ReadOptions) -> Opened {
    Cursor::open(log, filters, begin, options, Arc::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

fn poll(cursor: &mut Cursor) -> Poll<Result<Delivery, CursorError>> {
    cursor.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn events(mut bytes: &[u8]) -> Vec<v1::Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let response = v1::SubscribeResponse::decode(&bytes[5..5 + len]).unwrap();
        match response.frame {
            Some(v1::subscribe_response::Frame::Event(event)) => events.push(event),
            other => panic!("not an event: {other:?}"),
        }
        bytes = &bytes[5 + len..];
    }
    events
}

#[test]
fn a_catch_up_is_over_at_the_head_it_came_to_however_busy_the_log_is() {
    with_log(vec![], 1 << 20, async |log| {
        publish(&log, &["t"; 3]).await;
        let mut cursor = open(&log, &[filter("t")], Begin::Earliest, OPTIONS)
            .await
            .cursor;
        for _ in 0..10 {
            publish(&log, &["t"]).await;
            match poll(&mut cursor) {
                Poll::Ready(Ok(Delivery::Current)) => return,
                Poll::Ready(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("never current");
    });
}

async fn publish_large(log: &Log, count: usize) {
    let topic = TopicName::parse("t").unwrap();
    let message = || Message::new(topic.clone(), vec![7; 100 << 10]);
    let messages = (0..count).map(|_| message()).collect();
    let answer = log.submit(messages, PublishOptions::default()).await;
    assert_eq!(answer.unwrap().await.unwrap().published.len(), count);
}

#[test]
fn settling_while_an_event_is_ready_passes_nothing() {
    with_log(vec![], 1 << 20, async |log| {
        let mut cursor = open(&log, &[filter("a")], Begin::Next, OPTIONS)
            .await
            .cursor;
        publish(&log, &["a", "b"]).await;
        let (position, current) = cursor.settle();
        assert_eq!((position.sequence, current), (0, false));
        let Poll::Ready(Ok(Delivery::Events { bytes, .. })) = poll(&mut cursor) else {
            panic!("the ready event is delivered");
        };
        assert_eq!(events(&bytes)[0].sequence, 1);
        let (position, current) = cursor.settle();
        assert_eq!((position.sequence, current), (2, true));
    });
}

#[test]
fn of_several_filters_one_that_has_much_to_give_loses_nothing_to_the_others() {
    with_log(vec![], 64 << 20, async |log| {
        let mut cursor = open(&log, &[filter("t"), filter("b")], Begin::Next, OPTIONS)
            .await
            .cursor;
        for _ in 0..4 {
            // Each by itself is more than one delivery holds.
            publish_large(&log, 1).await;
        }
        publish(&log, &["b"]).await;
        let mut seen = Vec::new();
        while let Poll::Ready(Ok(delivery)) = poll(&mut cursor) {
            if let Delivery::Events { bytes, .. } = delivery {
                seen.extend(events(&bytes).iter().map(|event| event.sequence));
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    });
}
