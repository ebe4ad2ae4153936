use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use longlived_topic::TopicName;
use smallvec::smallvec;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Environment, Message, Principal,
    store::{DiskConfig, DiskStore, MemoryFiles, MemoryStore, RetentionConfig},
};

mod limits;
mod nodes;
mod storing;

async fn with_log<T>(topics_max: usize, test: impl AsyncFnOnce(Log) -> T) -> T {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let store = MemoryStore::new(environment, RetentionConfig::new(Vec::new()), topics_max);
    let (log, sequencer) = Log::new(Arc::new(store), LogConfig::default());
    tokio::select! {
        _ = sequencer.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        result = test(log) => result,
    }
}

/// Ends a test whose condition never comes. The clock is paused, so the timeout costs no time.
async fn in_time<T>(test: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(600), test).await;
    ended.expect("the condition of the test comes")
}

fn message(topic: &str, id: &str) -> Message {
    Message {
        message_id: id.to_owned(),
        ..Message::new(TopicName::parse(topic).unwrap(), "x")
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_message_id_is_stored_once_per_principal_and_topic_within_the_window() {
    with_log(10, async |log| {
        let publish = |topic, id| log.publish(message(topic, id), PublishOptions::default());
        let stored = |sequence, duplicate| {
            Ok(Published {
                sequence,
                duplicate,
            })
        };
        assert_eq!(publish("a", "1").await, stored(1, false));
        assert_eq!(publish("a", "1").await, stored(1, true));
        assert_eq!(publish("b", "1").await, stored(2, false));
        assert_eq!(publish("a", "").await, stored(3, false));
        assert_eq!(publish("a", "").await, stored(4, false));

        let batch = smallvec![message("a", "2"), message("a", "2")];
        let answer = log.submit(batch, PublishOptions::default()).await.unwrap();
        let published = answer.await.unwrap().published;
        assert_eq!(published[0].sequence, published[1].sequence);
        assert!(published[1].duplicate, "also inside one batch");

        tokio::time::advance(DedupeConfig::default().age_max + Duration::from_secs(2)).await;
        assert_eq!(publish("a", "3").await, stored(6, false));
        assert_eq!(
            publish("a", "1").await,
            stored(7, false),
            "the window has passed"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_or_withdrawn_message_is_not_stored() {
    with_log(10, async |log| {
        let late = PublishOptions {
            deadline: Some(Instant::now()),
            ..PublishOptions::default()
        };
        let refused = log.publish(message("a", ""), late).await;
        assert_eq!(refused, Err(PublishError::DeadlineExceeded));
        let answer = log
            .submit(smallvec![message("a", "")], PublishOptions::default())
            .await;
        drop(answer);
        let next = log
            .publish(message("a", ""), PublishOptions::default())
            .await;
        assert_eq!(next.unwrap().sequence, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_the_first_refusal_of_a_stream_nothing_of_it_is_stored() {
    with_log(1, async |log| {
        let stream = PublishOptions {
            stream: Some(Arc::new(AtomicBool::new(false))),
            ..PublishOptions::default()
        };
        let submit = |messages| log.submit(messages, stream.clone());
        let first = submit(smallvec![
            message("a", ""),
            message("b", ""),
            message("a", "")
        ]);
        let first = first.await.unwrap();
        let second = submit(smallvec![message("a", "")]).await.unwrap();
        let first = first.await.unwrap();
        assert_eq!(first.published.len(), 1);
        assert!(matches!(
            first.refused,
            Some(PublishError::TopicsExhausted(_))
        ));
        let second = second.await.unwrap();
        assert_eq!(second.refused, Some(PublishError::AfterRefusal));
        assert_eq!(log.visible(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_live_tail_that_nobody_reads_is_unlinked_and_comes_back_when_wanted() {
    with_log(10, async |log| {
        let filter = TopicFilter::parse("a.*").unwrap();
        let signal = Arc::default();
        let attachment = log.attach(&filter, &signal).await.unwrap();
        assert_eq!(log.live_tails(), 1);
        drop(attachment);
        tokio::time::sleep(LogConfig::default().live_tail_linger + Duration::from_secs(3)).await;
        assert_eq!(log.live_tails(), 0);
        assert!(log.attach(&filter, &signal).await.is_ok());
        assert_eq!(log.live_tails(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_log_has_stored_its_queue_and_takes_nothing_more() {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let store = MemoryStore::new(environment, RetentionConfig::new(Vec::new()), 10);
    let (log, sequencer) = Log::new(Arc::new(store), LogConfig::default());
    let queued = log
        .submit(smallvec![message("a", "")], PublishOptions::default())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    sequencer.run(stop).await.unwrap();
    assert_eq!(queued.await.unwrap().published.len(), 1);
    let refused = log
        .publish(message("a", ""), PublishOptions::default())
        .await;
    assert_eq!(refused, Err(PublishError::Closed));
    let other = PublishOptions {
        principal: Principal::anonymous(),
        background: true,
        room: None,
        ..PublishOptions::default()
    };
    assert_eq!(
        log.publish(message("a", ""), other).await,
        Err(PublishError::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_published_again_after_a_restart_is_a_duplicate() {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let files = MemoryFiles::new();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let config = DiskConfig {
            inline: true,
            reserve_bytes: 0,
            ..DiskConfig::new("/data".into())
        };
        let opened = DiskStore::open_with(
            Arc::new(files.clone()),
            config,
            environment.clone(),
            RetentionConfig::new(Vec::new()),
            10,
        );
        let (log, sequencer) = Log::new(Arc::new(opened.unwrap()), LogConfig::default());
        let answer = tokio::select! {
            _ = sequencer.run(CancellationToken::new()) => unreachable!("nobody stops it"),
            answer = log.publish(message("a", "1"), PublishOptions::default()) => answer.unwrap(),
        };
        answers.push((answer.sequence, answer.duplicate));
        drop(log);
        files.kill();
    }
    assert_eq!(answers, [(1, false), (1, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_where_the_queue_is_full() {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH);
    let store = MemoryStore::new(environment, RetentionConfig::new(Vec::new()), 10);
    let config = LogConfig {
        publish_queue_bytes_max: message("a", "").queued_bytes() * 2,
        ..LogConfig::default()
    };
    let (log, sequencer) = Log::new(Arc::new(store), config);
    let submit = || {
        let submitted = log.submit(smallvec![message("a", "")], PublishOptions::default());
        tokio::time::timeout(Duration::from_secs(1), submitted)
    };
    // Nobody takes the queue.
    assert!(submit().await.is_ok());
    assert!(submit().await.is_ok());
    assert!(submit().await.is_err(), "there is room for two");
    let published = async { submit().await.unwrap().unwrap().await.unwrap().published };
    let published = tokio::select! {
        _ = sequencer.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        published = published => published,
    };
    assert_eq!(published.len(), 1, "and again once they are stored");
}
