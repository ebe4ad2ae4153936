//! Removals and refusals when a limit is reached.

use std::ops::AsyncFn;

use super::*;
use crate::store::{HistoryClass, Limits, TOPIC_UNUSED_MAX};

/// How long events are kept here.
const AGE: Duration = Duration::from_secs(60);

async fn with<T>(topics_max: usize, config: LogConfig, test: impl AsyncFnOnce(Log) -> T) -> T {
    let environment = Environment::seeded(7, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    let classes = RetentionConfig::new(vec![HistoryClass {
        filter: TopicFilter::parse(">").unwrap(),
        limits: Limits {
            age: Some(AGE),
            ..Limits::DEFAULT
        },
    }]);
    let store = MemoryStore::new(environment, classes, topics_max);
    let (log, sequencer) = Log::new(Arc::new(store), config);
    tokio::select! {
        _ = sequencer.run(CancellationToken::new()) => unreachable!("nobody stops it"),
        result = test(log) => result,
    }
}

/// Publishes to topics, all in one request.
async fn publish(log: &Log, topics: impl IntoIterator<Item = String>) -> PublishReply {
    let messages = topics
        .into_iter()
        .map(|topic| message(&topic, ""))
        .collect();
    let answer = log.submit(messages, PublishOptions::default()).await;
    answer.unwrap().await.unwrap()
}

async fn listed(log: &Log) -> Vec<String> {
    let filter = TopicFilter::parse(">").unwrap();
    let page = log.topics(&filter, None, 10_000).await.unwrap();
    let topics = page.topics.into_iter();
    topics.map(|listed| listed.info.topic.to_string()).collect()
}

/// Waits, in time that costs none.
async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn nothing_is_kept(log: &Log) -> bool {
    let filter = TopicFilter::parse(">").unwrap();
    let page = log.topics(&filter, None, 10_000).await.unwrap();
    page.topics.iter().all(|listed| listed.info.events == 0)
}

#[tokio::test(start_paused = true)]
async fn new_topics_take_the_place_of_the_longest_empty_and_of_no_other() {
    const TOPICS: usize = 500;
    with(TOPICS, LogConfig::default(), async |log| {
        let names = |of: &'static str| (0..TOPICS).map(move |n| format!("{of}.{n:03}"));
        let reply = publish(&log, names("old")).await;
        assert_eq!(reply.published.len(), TOPICS);
        until(async || nothing_is_kept(&log).await).await;
        // The first of all that are empty is part of the batch that needs its place.
        let mut again: Vec<_> = listed(&log).await.into_iter().take(1).collect();
        let kept = again[0].clone();
        again.extend(names("new").take(TOPICS - 1));
        let reply = publish(&log, again).await;
        assert_eq!(reply.refused, None);
        assert_eq!(reply.published.len(), TOPICS);
        let topics = listed(&log).await;
        assert_eq!(topics.len(), TOPICS);
        assert!(topics.contains(&kept));
        assert!(
            topics
                .iter()
                .all(|topic| *topic == kept || topic.starts_with("new."))
        );

        // And now all keep something.
        let reply = publish(&log, ["newer".to_owned()]).await;
        let refused = reply.refused.expect("there is no room");
        assert!(
            refused.to_string().contains("topics_max of 500"),
            "{refused}"
        );
        assert_eq!(reply.published.len(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_keeps_nothing_and_that_nobody_follows_is_forgotten_after_an_hour() {
    with(1_000, LogConfig::default(), async |log| {
        let signal = Arc::default();
        let followed = TopicFilter::parse("followed").unwrap();
        let place = log.attach(&followed, &signal).await.unwrap();
        publish(&log, ["followed", "nobodys", "again"].map(str::to_owned)).await;
        let begun = Instant::now();
        until(async || nothing_is_kept(&log).await).await;
        tokio::time::sleep(TOPIC_UNUSED_MAX / 2).await;
        publish(&log, ["again".to_owned()]).await;
        until(async || !listed(&log).await.contains(&"nobodys".to_owned())).await;
        assert!(begun.elapsed() >= TOPIC_UNUSED_MAX);
        assert_eq!(listed(&log).await, ["again", "followed"]);

        drop(place);
        until(async || listed(&log).await.is_empty()).await;
        assert_eq!(
            publish(&log, ["nobodys".to_owned()]).await.published.len(),
            1
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_further_filter_is_refused_and_takes_the_place_of_one_that_nobody_follows() {
    let config = LogConfig {
        channels_max: 3,
        ..LogConfig::default()
    };
    with(10, config, async |log| {
        let signal = Arc::default();
        let filter = |text| TopicFilter::parse(text).unwrap();
        let mut followed = Vec::new();
        for text in ["a", "b.*", "c"] {
            followed.push(log.attach(&filter(text), &signal).await.unwrap());
        }
        let refused = log.attach(&filter("d"), &signal).await.err();
        assert_eq!(refused, Some(AttachError::ChannelsExhausted { limit: 3 }));
        assert_eq!((log.live_tails(), log.live_tails_refused()), (3, 1));
        // Further readers of a followed filter cost nothing.
        assert!(log.attach(&filter("b.*"), &signal).await.is_ok());

        followed.pop();
        let dropped = Instant::now();
        until(async || log.attach(&filter("d"), &signal).await.is_ok()).await;
        let linger = LogConfig::default().live_tail_linger;
        assert!(
            dropped.elapsed() < linger,
            "where room is scarce nobody waits for it"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_principal_with_many_message_ids_pushes_out_its_own_before_those_of_others() {
    let config = LogConfig {
        dedupe: DedupeConfig {
            ids_max: 10,
            ..DedupeConfig::default()
        },
        ..LogConfig::default()
    };
    with(10, config, async |log| {
        let publish = async |principal: &str, id: usize| {
            let options = PublishOptions {
                principal: Principal::named(principal).unwrap(),
                ..PublishOptions::default()
            };
            let published = log.publish(message("t", &id.to_string()), options).await;
            published.unwrap().duplicate
        };
        for id in 0..3 {
            assert!(!publish("quiet", id).await);
        }
        for id in 0..1_000 {
            assert!(!publish("busy", id).await);
        }
        for id in 0..3 {
            assert!(publish("quiet", id).await, "{id} is remembered");
        }
        for id in 993..1_000 {
            assert!(publish("busy", id).await, "{id} is among its newest");
        }
        assert!(!publish("busy", 992).await, "its own were pushed out");
        // Two that want more than there is have half each.
        for id in 10..1_000 {
            assert!(!publish("quiet", id).await);
        }
        for id in 995..1_000 {
            assert!(publish("quiet", id).await, "{id} is remembered");
        }
        for id in 996..1_000 {
            assert!(
                publish("busy", id).await,
                "{id} is remembered, and 992 after it"
            );
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn message_ids_that_others_push_out_before_their_age_are_counted() {
    let config = LogConfig {
        dedupe: DedupeConfig {
            ids_max: 10,
            ..DedupeConfig::default()
        },
        ..LogConfig::default()
    };
    let age = config.dedupe.age_max;
    with(10, config, async |log| {
        let publish = async |topic: &str, id: usize| {
            let message = message(topic, &id.to_string());
            let published = log.publish(message, PublishOptions::default()).await;
            published.unwrap().duplicate
        };
        assert!(!publish("mine", 1).await);
        for id in 0..10 {
            assert_eq!(log.message_ids_evicted_early(), 0);
            assert!(!publish("busy", id).await);
        }
        assert_eq!(log.message_ids_evicted_early(), 1);
        assert!(!publish("mine", 1).await, "it is stored a second time");
        assert_eq!(log.message_ids_evicted_early(), 2);
        // Those that have had their time are not missed.
        tokio::time::sleep(age + Duration::from_secs(2)).await;
        for id in 0..10 {
            assert!(!publish("busy", id).await);
        }
        assert_eq!(log.message_ids_evicted_early(), 2);
    })
    .await;
}
