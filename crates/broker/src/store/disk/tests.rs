//! The store over files in memory that can be killed, cut off and damaged: the store without faults, and the support of
//! all of its tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use longlived_topic::{TopicFilter, TopicName};

use super::*;
use crate::{
    Message, Principal,
    frame::{self, Encoding, Slice},
    message::MessageKey,
    store::{Damaged, FilterFrom, HistoryClass, Limits, RetentionConfig},
};

mod clock;
mod damage;
mod directory;
mod each_file;
mod floors;
mod full;
mod ids;
mod mishaps;
mod properties;
mod releases;
mod resume;

const TOPICS: [&str; 12] = [
    "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "b.1", "b.2", "b.3", "b.4", "c", "inbox.1",
];

fn environment() -> Environment {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async { Environment::seeded(1, SystemTime::UNIX_EPOCH) })
}

fn retention(classes: &[(&str, u64)]) -> RetentionConfig {
    let class = |&(filter, events): &(&str, u64)| HistoryClass {
        filter: TopicFilter::parse(filter).unwrap(),
        limits: Limits {
            events,
            bytes: u64::MAX,
            age: None,
        },
    };
    RetentionConfig::new(classes.iter().map(class).collect())
}

fn config() -> DiskConfig {
    DiskConfig {
        segment_bytes: 4 << 10,
        segment_begin_bytes: 4 << 10,
        reserve_bytes: 0,
        inline: true,
        ..DiskConfig::new("/data".into())
    }
}

fn open(files: &MemoryFiles, classes: &[(&str, u64)]) -> DiskStore {
    let files = Arc::new(files.clone());
    DiskStore::open_with(files, config(), environment(), retention(classes), 1_000).unwrap()
}

fn list(files: &MemoryFiles, dir: &str) -> Vec<String> {
    files.list(Path::new(dir)).unwrap()
}

fn message(store: &DiskStore, topic: &str, id: &str) -> NewMessage {
    let name = TopicName::parse(topic).unwrap();
    let message = Message {
        message_id: id.to_owned(),
        ..Message::new(name.clone(), format!("payload of {topic}"))
    };
    let secret = store.message_key_secret();
    NewMessage {
        topic: store.topic_id(&name).unwrap(),
        message_key: MessageKey::of(&message, &Principal::anonymous(), secret),
        message,
    }
}

fn append(store: &DiskStore, topics: &[&str]) -> Result<(), AppendError> {
    let messages: Vec<_> = topics
        .iter()
        .map(|topic| message(store, topic, ""))
        .collect();
    let frames = store.append(&messages).now_or_never().unwrap()?;
    assert_eq!(frames.frames().unwrap().entries().len(), topics.len());
    Ok(())
}

fn read(
    store: &DiskStore,
    filters: &[(&str, Sequence)],
    after: Sequence,
    bytes_max: usize,
) -> Page {
    let wanted = |&(filter, after): &(&str, Sequence)| FilterFrom {
        filter: TopicFilter::parse(filter).unwrap(),
        after,
    };
    let query = Query {
        filters: filters.iter().map(wanted).collect(),
        after,
        through: store.last_sequence(),
        bytes_max,
    };
    store.read(query).now_or_never().unwrap().unwrap()
}

/// Every file of the directory, with its content.
fn contents(files: &MemoryFiles) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for dir in ["/data", "/data/log", "/data/sealed"] {
        for name in list(files, dir) {
            let path = Path::new(dir).join(name);
            // The others are directories.
            if let Ok(file) = files.open(&path, OpenMode::Read) {
                contents.insert(path, super::files::read_all(&*file).unwrap());
            }
        }
    }
    contents
}

/// The events of a page, each as it was published.
fn sequences(page: &Page) -> Vec<Sequence> {
    let slices: Vec<_> = page.slices.iter().cloned().collect();
    let events = frame::events(frame::join(&slices, Encoding::V1));
    let said = events.map(|(_, event)| {
        assert_eq!(event.payload, format!("payload of {}", event.topic));
        event.sequence
    });
    let entries = slices.iter().flat_map(Slice::entries);
    let sequences: Vec<_> = entries.map(|entry| entry.sequence).collect();
    assert_eq!(said.collect::<Vec<_>>(), sequences);
    sequences
}

/// All events of a filter, page by page, and the ranges announced as damaged.
fn read_all(
    store: &DiskStore,
    filters: &[(&str, Sequence)],
    after: Sequence,
    bytes_max: usize,
) -> (Vec<Sequence>, Vec<Damaged>) {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    let mut at = after;
    while at < store.last_sequence() {
        let page = read(store, filters, at, bytes_max);
        found.extend(sequences(&page));
        damaged.extend(page.damaged.iter().copied());
        assert!(page.through > at, "each page makes progress");
        at = page.through;
    }
    (found, damaged)
}

#[test]
fn message_ids_are_known_after_a_restart_whether_sealed_or_not() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    let mut keys = Vec::new();
    for id in 0..100 {
        let message = message(&store, "a.1", &id.to_string());
        keys.extend(message.message_key);
        store.append(&[message]).now_or_never().unwrap().unwrap();
    }
    store.trim();
    assert!(store.shared.history.read().sealed_through > 0);
    files.kill();
    drop(store);
    let store = open(&files, &[]);
    let recent = store.recent_ids();
    let found: Vec<_> = recent.iter().map(|recent| recent.key).collect();
    assert_eq!(found, keys);
    let numbers: Vec<_> = recent.iter().map(|recent| recent.sequence).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_time_is_found_wherever_its_events_are() {
    let files = MemoryFiles::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let environment = Environment::seeded(1, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        let files = Arc::new(files.clone());
        let store = DiskStore::open_with(
            files,
            config(),
            environment,
            retention(&[("a.>", 150)]),
            100,
        )
        .unwrap();
        for _ in 0..200_u64 {
            append(&store, &["a.1", "b.1"]).unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        store.trim();
        assert!(store.shared.history.read().sealed_through > 0);
        for second in [0, 1, 2, 60, 150, 199, 200, 201, 300] {
            let nanos = i64::try_from(second).unwrap() * 1_000_000_000;
            let before = store.before_time(nanos).await.unwrap();
            // The batch of second n has the sequences 2n-1 and 2n.
            assert_eq!(before, (second.max(1) - 1).min(200) * 2, "{second}");
        }
    });
}

#[test]
fn threads_and_a_real_directory_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = DiskConfig {
        segment_bytes: 16 << 10,
        reserve_bytes: 0,
        retention_interval: Duration::from_millis(5),
        ..DiskConfig::new(dir.path().join("data"))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut last = 0;
        for round in 1..=3_u64 {
            let store = DiskStore::open(
                config.clone(),
                Environment::system(),
                retention(&[("a.>", 500)]),
                100,
            )
            .unwrap();
            assert_eq!(store.last_sequence(), last);
            for _ in 0..300 {
                let messages = [message(&store, "a.1", ""), message(&store, "b.1", "")];
                let appended = store.append(&messages).await.unwrap();
                let frames = appended.frames().unwrap();
                assert_eq!(frames.first(), last + 1);
                last = frames.last();
            }
            let mut at = 0;
            let mut found = Vec::new();
            while at < last {
                let wanted = FilterFrom {
                    filter: TopicFilter::parse("b.>").unwrap(),
                    after: 0,
                };
                let query = Query {
                    filters: vec![wanted],
                    after: at,
                    through: last,
                    bytes_max: 1_000,
                };
                let page = store.read(query).await.unwrap();
                found.extend(sequences(&page));
                at = page.through;
            }
            let expected: Vec<_> = (1..=300 * round).map(|number| number * 2).collect();
            assert_eq!(found, expected);
        }
    });
}

/// The publish time of an event whose process began when the clock showed `seconds`.
fn published_at(files: &MemoryFiles, seconds: u64) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let environment = runtime.block_on(async { Environment::seeded(1, start) });
    let shared = Arc::new(files.clone());
    let store = DiskStore::open_with(shared, config(), environment, retention(&[]), 1_000).unwrap();
    append(&store, &["a.1"]).unwrap();
    let page = read(&store, &[("a.1", 0)], store.last_sequence() - 1, 1 << 20);
    let slices: Vec<_> = page.slices.into();
    let event = frame::events(frame::join(&slices, Encoding::V1)).next();
    files.kill();
    event.unwrap().1.publish_time.unwrap().seconds
}

#[test]
fn no_event_is_older_than_the_one_before_it_though_the_clock_was_set_back() {
    let files = MemoryFiles::new();
    let times = [1_000, 10, 2_000].map(|seconds| published_at(&files, seconds));
    assert_eq!(times, [1_000, 1_000, 2_000]);
}

#[test]
fn no_event_is_older_than_one_that_the_disk_has_lost_though_the_clock_was_set_back() {
    let files = MemoryFiles::new();
    assert_eq!(published_at(&files, 500), 500);
    assert_eq!(published_at(&files, 1_000), 1_000);
    for name in list(&files, "/data/log") {
        files.remove(&Path::new("/data/log").join(name)).unwrap();
    }
    let times = [10, 1_500].map(|seconds| published_at(&files, seconds));
    assert_eq!(times, [1_000, 1_500]);
}
