use std::time::SystemTime;

use longlived_topic::TopicFilter;
use proptest::prelude::*;

use super::*;
use crate::{
    message::Message,
    store::{HistoryClass, Limits},
};

fn store(classes: &[(&str, u64)], topics_max: usize) -> MemoryStore {
    let classes = classes
        .iter()
        .map(|&(filter, events)| HistoryClass {
            filter: TopicFilter::parse(filter).unwrap(),
            limits: Limits {
                events,
                bytes: u64::MAX,
                age: None,
            },
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let environment = runtime.block_on(async { Environment::seeded(1, SystemTime::UNIX_EPOCH) });
    MemoryStore::new(environment, RetentionConfig::new(classes), topics_max)
}

fn append(store: &MemoryStore, topics: &[&str]) {
    let messages: Vec<_> = topics
        .iter()
        .map(|topic| {
            let name = TopicName::parse(topic).unwrap();
            NewMessage {
                topic: store.topic_id(&name).unwrap(),
                message: Message::new(name, "payload"),
                message_key: None,
            }
        })
        .collect();
    store.append(&messages).now_or_never().unwrap().unwrap();
}

fn read(
    store: &MemoryStore,
    filters: &[(&str, Sequence)],
    after: Sequence,
    bytes_max: usize,
) -> Page {
    let filters = filters
        .iter()
        .map(|&(filter, after)| FilterFrom {
            filter: TopicFilter::parse(filter).unwrap(),
            after,
        })
        .collect();
    let query = Query {
        filters,
        after,
        through: store.last_sequence(),
        bytes_max,
    };
    store.read(query).now_or_never().unwrap().unwrap()
}

fn sequences(page: &Page) -> Vec<Sequence> {
    let entries = page.slices.iter().flat_map(Slice::entries);
    entries.map(|entry| entry.sequence).collect()
}

use crate::{
    frame::Slice,
    store::{
        FilterFrom,
        tests::properties::{Kind, hold, reading, steps},
    },
};

proptest! {
    /// The three ways of reading (few topics, scan, many topics) agree with filtering a `Vec`.
    #[test]
    fn reading_page_by_page_gives_the_events_of_a_filter_over_a_vec(
        steps in steps(), reading in reading(),
    ) {
        hold(Kind::Memory, steps, &reading)?;
    }
}

#[test]
fn rare_matches_far_apart_are_found_in_one_page() {
    let store = store(&[], 10_000);
    let noise = ["noise"; 1_000];
    for round in 0..10 {
        append(&store, &noise);
        let rare: Vec<String> = (0..3).map(|n| format!("rare.{}", round * 3 + n)).collect();
        append(&store, &rare.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let page = read(&store, &[("rare.*", 0)], 0, 1 << 20);
    assert_eq!(sequences(&page).len(), 30);
    assert_eq!(page.through, store.last_sequence());
}

#[test]
fn a_topic_that_keeps_nothing_is_evicted_and_its_loss_is_not_forgotten() {
    let store = store(&[("old.>", 0)], 20);
    for n in 0..19 {
        append(&store, &[&format!("old.{n}")]);
    }
    let forgotten = store.trim().forgotten;
    assert_eq!(forgotten.len(), 1, "one topic over nine tenths");
    for filter in ["old.0", "old.*"] {
        assert!(
            read(&store, &[(filter, 0)], 0, 1).trimmed_through > 0,
            "{filter}"
        );
    }
    // Known again under the same name: its former losses are still announced.
    append(&store, &["old.0"]);
    assert!(read(&store, &[("old.0", 0)], 0, 1).trimmed_through > 0);
    assert_eq!(
        store
            .topic_id(&TopicName::parse("new").unwrap())
            .map(|_| ()),
        Ok(())
    );
    assert!(store.topic_id(&TopicName::parse("newer").unwrap()).is_err());
}
