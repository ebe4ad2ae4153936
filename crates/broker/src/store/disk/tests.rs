use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::{
    Message, MessageKey, Principal, TopicFilter, TopicName,
    frame::{self, Encoding, Slice},
    store::{Damaged, FilterFrom, HistoryClass, Limits, RetentionConfig},
};

mod mishaps;

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
        reserve_bytes: 0,
        inline: true,
        ..DiskConfig::new("/data".into())
    }
}

fn open(files: &MemoryFiles, classes: &[(&str, u64)]) -> DiskStore {
    let files = Arc::new(files.clone());
    DiskStore::open_with(files, config(), environment(), retention(classes), 1_000).unwrap()
}

fn message(store: &DiskStore, topic: &str, id: &str) -> Admitted {
    let name = TopicName::parse(topic).unwrap();
    let message = Message {
        message_id: id.to_owned(),
        ..Message::new(name.clone(), format!("payload of {topic}"))
    };
    let secret = store.message_key_secret();
    Admitted {
        topic: store.admit(&name).unwrap(),
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
        through: store.head(),
        bytes_max,
    };
    store.read(query).now_or_never().unwrap().unwrap()
}

/// What a page delivers, each event as it was published.
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

/// Everything that a filter gets, page by page, and what is announced as damaged.
fn read_all(
    store: &DiskStore,
    filters: &[(&str, Sequence)],
    after: Sequence,
    bytes_max: usize,
) -> (Vec<Sequence>, Vec<Damaged>) {
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    let mut at = after;
    while at < store.head() {
        let page = read(store, filters, at, bytes_max);
        found.extend(sequences(&page));
        damaged.extend(page.damaged.iter().copied());
        assert!(page.through > at, "each page makes progress");
        at = page.through;
    }
    (found, damaged)
}

proptest! {
    /// Sealed or not, before and after any number of restarts: what is read is what a filter over a Vec gives.
    #[test]
    fn reading_page_by_page_gives_what_a_filter_over_a_vec_gives(
        steps in prop::collection::vec(
            prop_oneof![
                8 => prop::collection::vec(0..TOPICS.len(), 1..30).prop_map(Some),
                1 => Just(None),
            ], 1..60),
        filters in prop::collection::vec(
            (prop::sample::select(vec!["a.1", "a.*", "*.2", ">", "b.>", "inbox.1", "c"]), 0..500u64), 1..4),
        after in 0..500u64,
        keep in (1..200u64, 1..600u64),
        bytes_max in prop::sample::select(vec![1usize, 100, 5_000, 1 << 20]),
    ) {
        let files = MemoryFiles::new();
        let classes = [("a.>", keep.0), (">", keep.1)];
        let mut store = open(&files, &classes);
        let mut log: Vec<&str> = Vec::new();
        for step in steps {
            if let Some(batch) = step {
                let topics: Vec<_> = batch.into_iter().map(|index| TOPICS[index]).collect();
                append(&store, &topics).unwrap();
                log.extend(topics);
                store.trim();
            } else {
                files.kill();
                drop(store);
                store = open(&files, &classes);
                prop_assert_eq!(store.head(), log.len() as u64);
            }
        }
        let mut left = [keep.0, 200_000, keep.1];
        let mut kept: Vec<bool> = log.iter().rev().map(|topic| {
            let class = if topic.starts_with("a.") { 0 } else if *topic == "inbox.1" { 1 } else { 2 };
            let keeps = left[class] > 0;
            left[class] = left[class].saturating_sub(1);
            keeps
        }).collect();
        kept.reverse();
        let matches = |filter: &str, index: usize| TopicFilter::parse(filter).unwrap().matches(log[index]);
        let wanted = |index: usize| {
            let sequence = index as u64 + 1;
            sequence > after && filters.iter()
                .any(|&(filter, from)| sequence > from && matches(filter, index))
        };
        let all = || 0..log.len();
        let expected: Vec<_> = all().filter(|&i| kept[i] && wanted(i)).map(|i| i as u64 + 1).collect();
        let trimmed = all().filter(|&i| !kept[i] && wanted(i)).map(|i| i as u64 + 1).max();
        let first = read(&store, &filters, after, bytes_max);
        prop_assert_eq!(first.trimmed_through, trimmed.unwrap_or(0), "exactly what is gone");
        let (found, damaged) = read_all(&store, &filters, after, bytes_max);
        prop_assert_eq!(found, expected);
        prop_assert_eq!(damaged, vec![]);

        let infos = store.topics(TopicFilter::parse(">").unwrap(), None, 100);
        for info in infos.now_or_never().unwrap().unwrap() {
            let of_topic = || all().filter(|&i| log[i] == info.topic.as_str() && kept[i]);
            prop_assert_eq!(info.events, of_topic().count() as u64);
            prop_assert_eq!(info.first, of_topic().next().map_or(0, |i| i as u64 + 1));
            let last = all().rfind(|&i| log[i] == info.topic.as_str());
            prop_assert_eq!(info.last, last.map_or(0, |i| i as u64 + 1));
        }
    }

    /// Whenever the power is cut and whatever is left of what was not synced: all that was acknowledged is there,
    /// nothing else is, and no number is given out again.
    #[test]
    fn what_was_acknowledged_survives_every_power_cut(
        seed in any::<u64>(),
        rounds in prop::collection::vec(prop::collection::vec(1..40usize, 0..12), 1..6),
    ) {
        let mut state = seed;
        let mut random = move || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let files = MemoryFiles::new();
        let mut acknowledged = Vec::new();
        let mut attempted = 0;
        for batches in rounds {
            let store = open(&files, &[]);
            prop_assert!(store.head() >= attempted || acknowledged.last().is_none_or(|&l| store.head() >= l));
            for count in batches {
                let before = store.head();
                if random() % 8 == 0 {
                    files.set_faults(Faults { sync: true, bytes_left: None });
                }
                let topics: Vec<_> = (0..count).map(|_| TOPICS[random() as usize % TOPICS.len()]).collect();
                if append(&store, &topics).is_ok() {
                    acknowledged.extend(before + 1..=before + count as u64);
                }
                attempted = before + count as u64;
                if random() % 3 == 0 {
                    store.trim();
                }
            }
            files.set_faults(Faults::default());
            files.cut_power(&mut random);
            drop(store);
        }
        let store = open(&files, &[]);
        let filters = [(">", 0), ("inbox.1", 0)];
        let (found, damaged) = read_all(&store, &filters, 0, 1 << 20);
        prop_assert_eq!(damaged, vec![], "a torn write is no damage");
        let missing: Vec<_> = acknowledged.iter().filter(|s| !found.contains(s)).collect();
        prop_assert!(missing.is_empty(), "missing {:?} of {:?}", missing, found);
    }

    /// One flipped byte anywhere in the data: every event is delivered or announced, and no event is both or wrong.
    #[test]
    fn damage_is_announced_and_costs_nothing_else(
        batches in prop::collection::vec(prop::collection::vec(0..TOPICS.len(), 1..30), 5..40),
        file in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        restart in any::<bool>(),
        filter in prop::sample::select(vec![">", "a.*", "a.1", "b.>"]),
    ) {
        let files = MemoryFiles::new();
        let mut store = open(&files, &[("a.>", 10_000)]);
        let mut log = Vec::new();
        for batch in batches {
            let topics: Vec<_> = batch.into_iter().map(|index| TOPICS[index]).collect();
            append(&store, &topics).unwrap();
            log.extend(topics);
            store.trim();
        }
        let mut paths = Vec::new();
        for dir in ["/data/log", "/data/sealed"] {
            let names = files.list(Path::new(dir)).unwrap();
            paths.extend(names.into_iter().map(|name| Path::new(dir).join(name)));
        }
        let path = &paths[file.index(paths.len())];
        let damage = |content: &mut Vec<u8>| {
            // What was never written does not count.
            let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if used > 64 {
                let at = 64 + place.index(used - 64);
                content[at] ^= 0x5a;
            }
        };
        if restart {
            files.kill();
            drop(store);
            files.damage(path, damage);
            store = open(&files, &[("a.>", 10_000)]);
            prop_assert!(store.head() >= log.len() as u64, "no number is given out again");
        } else {
            files.damage(path, damage);
            store.shared.blocks.clear();
            store.shared.postings.clear();
        }
        let (found, damaged) = read_all(&store, &[(filter, 0)], 0, 5_000);
        let parsed = TopicFilter::parse(filter).unwrap();
        for (index, topic) in log.iter().enumerate() {
            let sequence = index as u64 + 1;
            let delivered = found.contains(&sequence);
            let announced = damaged.iter().any(|range| range.after < sequence && sequence <= range.through);
            if parsed.matches(topic) {
                prop_assert!(delivered != announced, "{} delivered {} announced {}", sequence, delivered, announced);
            } else {
                prop_assert!(!delivered);
            }
        }
        // What is published after it is as ever.
        let before = store.head();
        append(&store, &["a.1", "b.1"]).unwrap();
        let (found, damaged) = read_all(&store, &[(">", before)], before, 5_000);
        prop_assert_eq!(found, vec![before + 1, before + 2]);
        prop_assert_eq!(damaged, vec![]);
    }
}

#[test]
fn a_failed_sync_is_the_end_of_publishing() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1"]).unwrap();
    files.set_faults(Faults {
        sync: true,
        bytes_left: None,
    });
    assert!(matches!(
        append(&store, &["a.1"]),
        Err(AppendError::Broken(_))
    ));
    files.set_faults(Faults::default());
    // What is on the disk is not known: trying again would prove nothing.
    assert!(matches!(
        append(&store, &["a.1"]),
        Err(AppendError::Broken(_))
    ));
    assert!(matches!(store.room(), Err(AppendError::Broken(_))));
    assert_eq!(store.head(), 1);
    assert_eq!(read_all(&store, &[(">", 0)], 0, 100).0, vec![1]);
}

#[test]
fn a_full_disk_takes_nothing_and_goes_on_by_itself_when_there_is_room() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1", "a.2"]).unwrap();
    let topics = |store: &DiskStore| {
        let infos = store.topics(TopicFilter::parse("a.*").unwrap(), None, 10);
        infos.now_or_never().unwrap().unwrap()
    };
    let before = topics(&store);
    for bytes_left in [0, 100, 3_000] {
        files.set_faults(Faults {
            sync: false,
            bytes_left: Some(bytes_left),
        });
        let large = ["a.1"; 60];
        assert!(
            matches!(append(&store, &large), Err(AppendError::Full { .. })),
            "{bytes_left}"
        );
        assert_eq!(store.head(), 2);
        assert_eq!(topics(&store), before, "numbers and heads are as before");
        assert_eq!(read_all(&store, &[("a.*", 0)], 0, 100).0, vec![1, 2]);
    }
    files.set_faults(Faults::default());
    append(&store, &["a.1"]).unwrap();
    files.kill();
    drop(store);
    let store = open(&files, &[]);
    assert_eq!(store.head(), 3);
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 100);
    assert_eq!((found, damaged), (vec![1, 2, 3], vec![]));
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
fn a_directory_in_use_or_of_a_newer_format_or_of_others_is_refused_untouched() {
    let files = MemoryFiles::new();
    let open = |files: &MemoryFiles| {
        let files = Arc::new(files.clone());
        DiskStore::open_with(files, config(), environment(), retention(&[]), 10)
    };
    let store = open(&files).unwrap();
    let refused = open(&files).unwrap_err();
    let own = format!("process {}", std::process::id());
    assert!(
        matches!(&refused, OpenError::InUse { holder, .. } if *holder == own),
        "{refused}"
    );
    drop(store);

    for name in ["META", "META.copy"] {
        files.damage(&Path::new("/data").join(name), |content| {
            let meta = format::Meta {
                format: 2,
                ..format::unseal(content).unwrap()
            };
            *content = format::seal(&meta);
        });
    }
    assert!(matches!(
        open(&files),
        Err(OpenError::NewerFormat { found: 2, .. })
    ));

    let files = MemoryFiles::new();
    files
        .open(Path::new("/data/letters"), OpenMode::Create)
        .unwrap();
    assert!(matches!(open(&files), Err(OpenError::Foreign { name, .. }) if name == "letters"));
    assert_eq!(files.list(Path::new("/data")).unwrap(), ["letters"]);
}

#[test]
fn a_new_epoch_keeps_everything_else() {
    let files = MemoryFiles::new();
    let dir = Path::new("/data");
    let new_epoch = || DiskStore::new_epoch_with(&files, dir, &environment());
    assert!(matches!(new_epoch(), Err(NewEpochError::Empty { .. })));
    assert!(files.list(dir).unwrap().is_empty(), "not touched");

    let store = open(&files, &[]);
    append(&store, &["a.1", "b.1"]).unwrap();
    let identified = message(&store, "c", "once");
    let appended = store
        .append(std::slice::from_ref(&identified))
        .now_or_never()
        .unwrap();
    appended.unwrap();
    let before = store.epoch();
    assert!(matches!(
        new_epoch(),
        Err(NewEpochError::Open(OpenError::InUse { .. }))
    ));
    drop(store);

    let change = new_epoch().unwrap();
    assert_eq!(change.before, before);
    assert_ne!(change.after, before);
    let store = open(&files, &[]);
    assert_eq!(store.epoch(), change.after);
    assert_eq!(read_all(&store, &[(">", 0)], 0, 1 << 20).0, [1, 2, 3]);
    let ids = store.recent_ids();
    assert_eq!(ids.len(), 1, "message ids are still known");
    assert_eq!(Some(ids[0].key), identified.message_key);
    append(&store, &["a.1"]).unwrap();
    assert_eq!(store.head(), 4, "numbers go on");
    drop(store);

    // The same random numbers: it is another epoch all the same.
    let again = new_epoch().unwrap();
    assert_eq!(again.before, change.after);
    assert_ne!(again.after, again.before);

    // One copy is enough; none is damage.
    files.damage(&dir.join("META"), Vec::clear);
    assert_eq!(new_epoch().unwrap().before, again.after);
    for name in ["META", "META.copy"] {
        files.damage(&dir.join(name), Vec::clear);
    }
    let refused = new_epoch();
    assert!(matches!(
        refused,
        Err(NewEpochError::Open(OpenError::Damaged { .. }))
    ));
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
        let mut head = 0;
        for round in 1..=3_u64 {
            let store = DiskStore::open(
                config.clone(),
                Environment::system(),
                retention(&[("a.>", 500)]),
                100,
            )
            .unwrap();
            assert_eq!(store.head(), head);
            for _ in 0..300 {
                let messages = [message(&store, "a.1", ""), message(&store, "b.1", "")];
                let appended = store.append(&messages).await.unwrap();
                let frames = appended.frames().unwrap();
                assert_eq!(frames.first(), head + 1);
                head = frames.last();
            }
            let mut at = 0;
            let mut found = Vec::new();
            while at < head {
                let wanted = FilterFrom {
                    filter: TopicFilter::parse("b.>").unwrap(),
                    after: 0,
                };
                let query = Query {
                    filters: vec![wanted],
                    after: at,
                    through: head,
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

#[test]
fn damage_that_was_announced_once_is_announced_after_every_restart() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for _ in 0..6 {
        append(&store, &["a.1"]).unwrap();
    }
    files.kill();
    drop(store);
    let dir = Path::new("/data/log");
    let names = files.list(dir).unwrap();
    let damaged = files.damage(&dir.join(&names[0]), |content| {
        let used = content.iter().rposition(|&byte| byte != 0).unwrap();
        content[used / 2] ^= 0x5a;
    });
    assert!(damaged);
    let mut told = Vec::new();
    for _ in 0..3 {
        let store = open(&files, &[]);
        told.push(read_all(&store, &[("a.1", 0)], 0, 1 << 20));
        files.kill();
    }
    assert!(!told[0].1.is_empty());
    assert_eq!(told[1], told[0]);
    assert_eq!(told[2], told[0]);
}

#[test]
fn publishing_leaves_the_reserve_of_the_disk_alone() {
    let files = MemoryFiles::new();
    let config = DiskConfig {
        reserve_bytes: 1 << 20,
        ..config()
    };
    let shared = Arc::new(files.clone());
    let store = DiskStore::open_with(shared, config, environment(), retention(&[]), 1_000).unwrap();
    append(&store, &["a.1"]).unwrap();
    let left = |bytes_left| {
        files.set_faults(Faults {
            sync: false,
            bytes_left: Some(bytes_left),
        });
    };
    left((1 << 20) - 1);
    let full = AppendError::Full {
        available: (1 << 20) - 1,
        reserve: 1 << 20,
    };
    assert_eq!(append(&store, &["a.1"]), Err(full.clone()));
    assert_eq!(store.room(), Err(full));
    left(2 << 20);
    append(&store, &["a.1"]).unwrap();
    assert_eq!(store.head(), 2);
}

#[test]
fn no_event_is_older_than_the_one_before_it_though_the_clock_was_set_back() {
    let files = MemoryFiles::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut times = Vec::new();
    for seconds in [1_000, 10, 2_000] {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let environment = runtime.block_on(async { Environment::seeded(1, start) });
        let shared = Arc::new(files.clone());
        let store =
            DiskStore::open_with(shared, config(), environment, retention(&[]), 1_000).unwrap();
        append(&store, &["a.1"]).unwrap();
        let page = read(&store, &[("a.1", 0)], store.head() - 1, 1 << 20);
        let slices: Vec<_> = page.slices.into();
        let event = frame::events(frame::join(&slices, Encoding::V1)).next();
        let time = event.unwrap().1.publish_time.unwrap();
        times.push(time.seconds);
        files.kill();
    }
    assert_eq!(times, [1_000, 1_000, 2_000]);
}
