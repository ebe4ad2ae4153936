//! Directories as releases wrote them, under `fixtures/release-*`: each later version opens a copy and finds exactly
//! the written events.
//!
//! A fixture is a data directory as a kill leaves it, and the file `EXPECTED`: the events that its release read in it.
//! The ignored test writes the fixture of this version (docs/TESTING.md); the others read all that there are.

use std::{fmt::Write as _, fs};

use longlived_api::v1;

use super::*;

/// When each fixture was begun; its clock moves with tokio's.
const BEGAN: Duration = Duration::from_secs(1_780_000_000);
/// When a later version opens it.
const OPENED: Duration = Duration::from_secs(1_780_000_000 + 3 * 3_600);

/// The age limit of `aged.>`.
const AGE: Duration = Duration::from_secs(3_600);

/// Everything; the first one passes over inboxes.
const ALL: [&str; 2] = [">", "inbox.>"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A class with a limit of events, one with an age and one that keeps all; inboxes have theirs.
fn classes() -> RetentionConfig {
    let class = |filter: &str, events, age| HistoryClass {
        filter: TopicFilter::parse(filter).unwrap(),
        limits: Limits {
            events,
            bytes: u64::MAX,
            age,
        },
    };
    RetentionConfig::new(vec![
        class("orders.>", 60, None),
        class("aged.>", u64::MAX, Some(AGE)),
        class("metrics.>", u64::MAX, None),
    ])
}

fn config_of_fixtures(dir: &Path) -> DiskConfig {
    DiskConfig {
        dir: dir.to_owned(),
        segment_bytes: 8 << 10,
        segment_begin_bytes: 8 << 10,
        ids_age_max: Duration::from_secs(86_400),
        ..config()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

/// The message of a number: topics of each class in turn, each field used by some of them. Every second one has an id,
/// which is its payload.
fn numbered(number: u64) -> Message {
    let topics = ["orders.eu", "orders.us", "aged.a", "inbox.7", "metrics.cpu"];
    let topic = TopicName::parse(topics[number as usize % topics.len()]).unwrap();
    let payload = format!("{number} of {topic}{}", ".".repeat(number as usize % 60));
    let headers = (number.is_multiple_of(5)).then(|| ("number".to_owned(), number.to_string()));
    Message {
        key: if number.is_multiple_of(3) {
            format!("key-{}", number % 4)
        } else {
            String::new()
        },
        headers: headers.into_iter().collect(),
        deleted: number.is_multiple_of(21),
        message_id: if number.is_multiple_of(2) {
            payload.clone()
        } else {
            String::new()
        },
        ..Message::new(topic, payload)
    }
}

async fn publish(store: &DiskStore, messages: Vec<Message>) {
    let secret = store.message_key_secret();
    let new = |message: Message| NewMessage {
        topic: store.topic_id(&message.topic).unwrap(),
        message_key: MessageKey::of(&message, &Principal::anonymous(), secret),
        message,
    };
    let messages: Vec<_> = messages.into_iter().map(new).collect();
    store.append(&messages).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    store.trim();
}

/// Writes 450 events in batches of three, over two hours and two lives, and returns the readable ones when it is
/// killed.
async fn write(dir: &Path) -> String {
    let start = SystemTime::UNIX_EPOCH + BEGAN;
    let environment = Environment::seeded(12, start);
    let open = || DiskStore::open(config_of_fixtures(dir), environment.clone(), classes(), 100);
    let mut store = open().unwrap();
    for batch in 0..150 {
        if batch == 75 {
            tokio::time::advance(2 * AGE).await;
            store.trim();
            drop(store);
            store = open().unwrap();
        }
        publish(
            &store,
            (1..=3).map(|place| numbered(batch * 3 + place)).collect(),
        )
        .await;
    }
    let stats = store.stats().unwrap();
    assert!(stats.files > 3, "{stats:?}");
    assert!(store.shared.history.read().sealed_through < store.last_sequence());
    let text = contents_as_text(&store).await;
    let kept = text.lines().filter(|line| line.starts_with("event "));
    assert!(kept.count() < 450, "retention has removed some");
    copy(dir, &dir.with_extension("killed"));
    text
}

/// All that can be read of a store, as text.
async fn contents_as_text(store: &DiskStore) -> String {
    let mut text = format!(
        "epoch {}\nlast sequence {}\n",
        store.epoch(),
        store.last_sequence()
    );
    for filter in ALL {
        let filter = TopicFilter::parse(filter).unwrap();
        for info in store.topics(filter, None, 100).await.unwrap() {
            let TopicInfo {
                topic,
                first,
                last,
                events,
                bytes,
            } = info;
            writeln!(
                text,
                "topic {topic}: {first} to {last}, {events} events, {bytes} bytes"
            )
            .unwrap();
        }
    }
    for filter in ["orders.>", "aged.>", "inbox.>", "metrics.>"] {
        let page = page(store, &[filter], 0).await;
        let removed = page.removed.within(0, page.through);
        writeln!(
            text,
            "trimmed {filter}: through {}, {removed:?}",
            page.trimmed_through
        )
        .unwrap();
    }
    let mut at = 0;
    while at < store.last_sequence() {
        let page = page(store, &ALL, at).await;
        assert!(page.damaged.is_empty(), "{:?}", page.damaged);
        let slices: Vec<_> = page.slices.into();
        for (bytes, event) in frame::events(frame::join(&slices, Encoding::V1)) {
            writeln!(text, "event {}, {bytes} bytes", event_as_text(&event)).unwrap();
        }
        at = page.through;
    }
    for recent in store.recent_ids() {
        writeln!(
            text,
            "message id {:032x}: {}",
            recent.key.0, recent.sequence
        )
        .unwrap();
    }
    text
}

fn event_as_text(event: &v1::Event) -> String {
    let time = event.publish_time.unwrap();
    let payload = std::str::from_utf8(&event.payload).unwrap();
    format!(
        "{} after {} at {}.{:09} of {}: {payload:?}, key {:?}, headers {:?}, deleted {}",
        event.sequence,
        event.previous_sequence,
        time.seconds,
        time.nanos,
        event.topic,
        event.key,
        event.headers,
        event.deleted
    )
}

async fn page(store: &DiskStore, filters: &[&str], after: Sequence) -> Page {
    let wanted = |filter: &&str| FilterFrom {
        filter: TopicFilter::parse(filter).unwrap(),
        after,
    };
    let query = Query {
        filters: filters.iter().map(wanted).collect(),
        after,
        through: store.last_sequence(),
        bytes_max: 4_000,
    };
    store.read(query).await.unwrap()
}

/// Copies a data directory without `LOCK`, which belongs to the process that has it open.
fn copy(from: &Path, to: &Path) {
    for part in ["", "log", "sealed"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() && entry.file_name() != "LOCK" {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// All fixtures, each with the written events.
fn releases() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_release = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("release-"))
    };
    let read = |path: PathBuf| {
        let expected = fs::read_to_string(path.join("EXPECTED")).unwrap();
        (path.join("data"), expected)
    };
    entries.filter(is_release).map(read).collect()
}

#[test]
fn the_events_of_each_release_are_found_and_their_log_goes_on() {
    let releases = releases();
    assert!(!releases.is_empty());
    for (data, expected) in releases {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        copy(&data, &dir);
        runtime().block_on(async {
            let start = SystemTime::UNIX_EPOCH + OPENED;
            let environment = Environment::seeded(1, start);
            let open = || {
                DiskStore::open(
                    config_of_fixtures(&dir),
                    environment.clone(),
                    classes(),
                    100,
                )
            };
            let store = open().unwrap();
            assert_eq!(
                contents_as_text(&store).await,
                expected,
                "{}",
                data.display()
            );
            let last = store.last_sequence();
            publish(&store, vec![numbered(last + 1)]).await;
            drop(store);
            let store = open().unwrap();
            assert_eq!(store.last_sequence(), last + 1);
            let page = page(&store, &ALL, last).await;
            assert_eq!(page.slices.iter().flat_map(Slice::entries).count(), 1);
        });
    }
}

#[test]
fn the_events_of_each_release_are_found_by_a_server_without_flags() {
    for (data, expected) in releases() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        copy(&data, &dir);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let config = DiskConfig {
                ids_age_max: Duration::MAX,
                reserve_bytes: 0,
                ..DiskConfig::new(dir)
            };
            let class = |filter: &str| HistoryClass {
                filter: TopicFilter::parse(filter).unwrap(),
                limits: Limits {
                    age: None,
                    ..Limits::DEFAULT
                },
            };
            let any_age = RetentionConfig::new(vec![class("inbox.>"), class(">")]);
            let store = DiskStore::open(config, Environment::system(), any_age, 100).unwrap();
            assert_eq!(
                contents_as_text(&store).await,
                expected,
                "{}",
                data.display()
            );
        });
    }
}

#[test]
fn a_message_that_a_release_has_stored_is_known_by_its_id() {
    for (data, _) in releases() {
        let dir = tempfile::tempdir().unwrap();
        copy(&data, dir.path());
        runtime().block_on(async {
            let environment = Environment::seeded(1, SystemTime::UNIX_EPOCH + OPENED);
            let config = config_of_fixtures(dir.path());
            let store = DiskStore::open(config, environment, classes(), 100).unwrap();
            let secret = store.message_key_secret();
            let recent = store.recent_ids();
            assert!(recent.len() > 100);
            for id in recent {
                let message = numbered(id.sequence);
                let key = MessageKey::of(&message, &Principal::anonymous(), secret);
                assert_eq!(key, Some(id.key), "{}", id.sequence);
            }
        });
    }
}

#[test]
#[ignore = "writes the fixture of this version: docs/TESTING.md"]
fn writes_the_fixture_of_this_release() {
    let release = fixtures().join(concat!("release-", env!("CARGO_PKG_VERSION")));
    assert!(!release.exists(), "{} is there already", release.display());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = runtime().block_on(write(&data));
    copy(&data.with_extension("killed"), &release.join("data"));
    fs::write(release.join("EXPECTED"), text).unwrap();
}
