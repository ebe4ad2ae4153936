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
            Admitted {
                topic: store.admit(&name).unwrap(),
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
        through: store.head(),
        bytes_max,
    };
    store.read(query).now_or_never().unwrap().unwrap()
}

fn sequences(page: &Page) -> Vec<Sequence> {
    let entries = page.slices.iter().flat_map(Slice::entries);
    entries.map(|entry| entry.sequence).collect()
}

use crate::{frame::Slice, store::FilterFrom};

const TOPICS: [&str; 12] = [
    "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "b.1", "b.2", "b.3", "b.4", "c", "inbox.1",
];

proptest! {
    /// The three ways of reading (few topics, scan, many topics) agree with filtering a Vec.
    #[test]
    fn reading_page_by_page_gives_what_a_filter_over_a_vec_gives(
        batches in prop::collection::vec(prop::collection::vec(0..TOPICS.len(), 1..30), 1..40),
        filters in prop::collection::vec(
            (prop::sample::select(vec!["a.1", "a.*", "*.2", ">", "b.>", "inbox.1", "c"]), 0..300u64), 1..4),
        after in 0..300u64,
        keep in (1..100u64, 1..400u64),
        bytes_max in prop::sample::select(vec![1usize, 100, 5_000, 1 << 20]),
    ) {
        let store = store(&[("a.>", keep.0), (">", keep.1)], 100);
        let mut log: Vec<&str> = Vec::new();
        for batch in batches {
            let topics: Vec<_> = batch.into_iter().map(|index| TOPICS[index]).collect();
            append(&store, &topics);
            log.extend(topics);
        }
        // The model: each class keeps its newest events.
        let mut left = [keep.0, 200_000, keep.1];
        let mut kept: Vec<bool> = log.iter().rev().map(|topic| {
            let class = if topic.starts_with("a.") { 0 } else if *topic == "inbox.1" { 1 } else { 2 };
            let keeps = left[class] > 0;
            left[class] = left[class].saturating_sub(1);
            keeps
        }).collect();
        kept.reverse();
        let wanted = |index: usize| {
            let sequence = index as u64 + 1;
            sequence > after && filters.iter().any(|&(filter, from)| {
                sequence > from && TopicFilter::parse(filter).unwrap().matches(log[index])
            })
        };
        let expected: Vec<_> = (0..log.len())
            .filter(|&i| kept[i] && wanted(i)).map(|i| i as u64 + 1).collect();
        let trimmed = (0..log.len()).filter(|&i| !kept[i] && wanted(i)).map(|i| i as u64 + 1).max();

        let mut found = Vec::new();
        let mut at = after;
        let first = read(&store, &filters, at, bytes_max);
        prop_assert_eq!(first.trimmed_through, trimmed.unwrap_or(0), "exactly what is gone");
        while at < store.head() {
            let page = read(&store, &filters, at, bytes_max);
            found.extend(sequences(&page));
            prop_assert!(page.through > at, "each page makes progress");
            at = page.through;
        }
        prop_assert_eq!(found, expected);
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
    assert_eq!(page.through, store.head());
}

#[test]
fn a_topic_that_keeps_nothing_makes_room_and_its_loss_is_not_forgotten() {
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
    // Known again under the same name: what it lost before is still lost.
    append(&store, &["old.0"]);
    assert!(read(&store, &[("old.0", 0)], 0, 1).trimmed_through > 0);
    assert_eq!(
        store.admit(&TopicName::parse("new").unwrap()).map(|_| ()),
        Ok(())
    );
    assert!(store.admit(&TopicName::parse("newer").unwrap()).is_err());
}
