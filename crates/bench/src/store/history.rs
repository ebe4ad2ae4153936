//! Makes history in a data directory, with the store itself: many times faster than publishing it.
//!
//! Holds: the event with the sequence `n + 1` is the n-th that was written.

use std::path::Path;

use anyhow::{Context as _, ensure};
use longlived_server::storage::{DiskStore, NewMessage, RetentionConfig};
use longlived_server::{DiskConfig, Environment, HistoryClass, Limits, Message, Store as _};
use longlived_topic::{TopicFilter, TopicName};
use tokio::runtime::Handle;

use crate::stop::Stop;

/// Events of one commit.
const BATCH: u64 = 1_000;
/// Topics that a store with such history must be allowed.
pub(super) const TOPICS_MAX: usize = 2_000_000;
/// More than any measurement keeps.
const BYTES_MAX: u64 = 1 << 42;

/// The history to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) events: u64,
    pub(super) payload_bytes: u32,
    /// Topics of the shared events, in turn.
    pub(super) topics: u32,
    /// How many topics have events of their own ...
    pub(super) own_topics: u32,
    /// ... and how many each, spread evenly.
    pub(super) own_events: u64,
}

/// The written history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) epoch: u64,
    pub(super) last: u64,
}

/// The topics of the shared events begin with this token.
pub(super) const SHARED: &str = "bench.history";

/// The topic of one subscriber's own events.
pub(super) fn own_topic(number: u32) -> String {
    format!("bench.own.{number}")
}

/// The flags with which `serve` keeps and finds it all.
pub(super) fn serve_flags(dir: &Path) -> anyhow::Result<Vec<String>> {
    let dir = dir.to_str().context("the directory's name is no text")?;
    Ok(vec![
        "--data-dir".to_owned(),
        dir.to_owned(),
        "--history".to_owned(),
        format!("bench.>=bytes:{BYTES_MAX},events:{BYTES_MAX}"),
        "--topics-max".to_owned(),
        TOPICS_MAX.to_string(),
    ])
}

/// Writes it and closes the store, as a server that ends does.
pub(super) fn fill(dir: &Path, plan: &Plan, stop: &Stop) -> anyhow::Result<Filled> {
    let class = HistoryClass {
        filter: TopicFilter::parse("bench.>").context("a filter")?,
        limits: Limits {
            bytes: BYTES_MAX,
            events: BYTES_MAX,
            age: None,
        },
    };
    let store = DiskStore::open(
        DiskConfig::new(dir.to_owned()),
        Environment::system(),
        RetentionConfig::new(vec![class]),
        TOPICS_MAX,
    )?;
    let id_of = |name: String| {
        let topic = TopicName::parse(&name).context("a topic")?;
        let id = store.topic_id(&topic)?;
        anyhow::Ok((topic, id))
    };
    let shared = (0..plan.topics).map(|number| id_of(format!("{SHARED}.{number}")));
    let shared: Vec<_> = shared.collect::<Result<_, _>>()?;
    let own = (0..plan.own_topics).map(|number| id_of(own_topic(number)));
    let own: Vec<_> = own.collect::<Result<_, _>>()?;
    let own_in_all = u64::from(plan.own_topics) * plan.own_events;
    ensure!(
        own_in_all <= plan.events,
        "{} events cannot hold {own_in_all} of own topics",
        plan.events
    );
    let payload = bytes::Bytes::from(vec![b'.'; plan.payload_bytes as usize]);
    let mut batch: Vec<NewMessage> = Vec::new();
    for number in 0..plan.events {
        // Rises by one with each own event.
        let owned = |number: u64| {
            let share = u128::from(number) * u128::from(own_in_all) / u128::from(plan.events);
            u64::try_from(share).expect("a share of a number is not above it")
        };
        let before = owned(number);
        let topics = if owned(number + 1) > before {
            (&own, before)
        } else {
            (&shared, number)
        };
        let (topic, id) = &topics.0[(topics.1 % topics.0.len() as u64) as usize];
        batch.push(NewMessage {
            topic: *id,
            message: Message::new(topic.clone(), payload.clone()),
            message_key: None,
        });
        if batch.len() as u64 == BATCH || number + 1 == plan.events {
            stop.check()?;
            Handle::current().block_on(store.append(&batch))?;
            batch.clear();
        }
    }
    Ok(Filled {
        epoch: store.epoch().get(),
        last: store.last_sequence(),
    })
}
