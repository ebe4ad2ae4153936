//! A store on files in memory: one that was left by a killed process, damaged, and what is read of it afterwards.
//!
//! Holds: every event that was acknowledged is read as it was published, or announced as lost, and never both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt as _;
use longlived_broker::storage::{
    Damaged, DiskStore, Files, FilterFrom, NewMessage, OpenMode, Query, RetentionConfig, Slice,
};
use longlived_broker::testkit::{MemoryFiles, join};
use longlived_broker::{
    DiskConfig, Encoding, Environment, HistoryClass, Limits, Message, OpenError, Sequence, Store,
    events,
};
use longlived_topic::{TopicFilter, TopicName};

/// The most bytes of a page: an answer has several.
const PAGE_BYTES: usize = 2_000;
/// What is read: all, block by block, and one topic by the index of a file.
const FILTERS: [&str; 2] = [">", "a.1"];
/// Topics that are published to, in turn.
const TOPICS: [&str; 5] = ["a.1", "b.1", "a.2", "b.2", "c"];
const SEGMENT_BYTES: u64 = 4 << 10;

/// An event as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    topic: String,
    payload: Vec<u8>,
}

/// The files of a store whose process was killed, and the events that it had acknowledged, from sequence 1 on.
pub(crate) struct Left {
    contents: BTreeMap<PathBuf, Vec<u8>>,
    events: Vec<Event>,
    environment: Environment,
}

/// What a reader of one filter got.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    events: BTreeMap<Sequence, Event>,
    damaged: Vec<Damaged>,
}

impl Left {
    /// The files after batches of these sizes. Each inner list is the work of one process; the next one seals what it left.
    pub(crate) fn after(processes: &[&[usize]]) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime without threads");
        let environment =
            runtime.block_on(async { Environment::seeded(1, SystemTime::UNIX_EPOCH) });
        let mut left = Self {
            contents: BTreeMap::new(),
            events: Vec::new(),
            environment,
        };
        let files = MemoryFiles::new();
        for batches in processes {
            let store = left.open(&files).expect("nothing is damaged");
            for count in *batches {
                left.publish(&store, *count);
            }
            files.kill();
        }
        for folder in ["/data", "/data/log", "/data/sealed"] {
            for name in files.list(Path::new(folder)).expect("a folder") {
                let path = Path::new(folder).join(name);
                // The others are folders.
                if let Ok(file) = files.open(&path, OpenMode::Read) {
                    let len = file.len_bytes().expect("its length");
                    let mut content = vec![0; usize::try_from(len).expect("a small file")];
                    file.read_exact_at(&mut content, 0).expect("its content");
                    left.contents.insert(path, content);
                }
            }
        }
        left
    }

    fn publish(&mut self, store: &DiskStore, count: usize) {
        let mut batch = Vec::new();
        for _ in 0..count {
            let number = self.events.len();
            let topic = TopicName::parse(TOPICS[number % TOPICS.len()]).expect("a topic");
            let payload = vec![b'0' + (number % 10) as u8; 10 + number % 40];
            self.events.push(Event {
                topic: topic.as_str().to_owned(),
                payload: payload.clone(),
            });
            batch.push(NewMessage {
                topic: store.topic_id(&topic).expect("few topics"),
                message_key: None,
                message: Message::new(topic, payload),
            });
        }
        let appended = store.append(&batch).now_or_never();
        appended.expect("it is done at once").expect("it is stored");
    }

    fn open(&self, files: &MemoryFiles) -> Result<DiskStore, OpenError> {
        let config = DiskConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_begin_bytes: SEGMENT_BYTES,
            reserve_bytes: 0,
            cache_bytes: 64 << 10,
            inline: true,
            ..DiskConfig::new("/data".into())
        };
        let keeps_all = HistoryClass {
            filter: TopicFilter::parse("a.>").expect("a filter"),
            limits: Limits {
                events: u64::MAX,
                bytes: u64::MAX,
                age: None,
            },
        };
        let retention = RetentionConfig::new(vec![keeps_all]);
        let files = Arc::new(files.clone());
        DiskStore::open_with(files, config, self.environment.clone(), retention, 1_000)
    }

    /// The files below a folder, in the order of their names.
    pub(crate) fn files_in(&self, folder: &str) -> Vec<(&Path, &[u8])> {
        let files = self.contents.iter();
        let files = files.filter(|(path, _)| path.parent() == Some(Path::new(folder)));
        files.map(|(path, content)| (&**path, &**content)).collect()
    }

    /// The same disk, on which one file has another content.
    pub(crate) fn with(&self, path: &Path, content: &[u8]) -> MemoryFiles {
        let files = MemoryFiles::new();
        for (other, own) in &self.contents {
            let content = if other == path { content } else { own };
            let file = files.open(other, OpenMode::Create).expect("it is made");
            file.write_all_at(&[content], 0).expect("it is written");
        }
        files
    }

    /// Opens the store of damaged files. `forged` says that a checksum may hold over bytes that nobody has written; otherwise what is read
    /// was published.
    pub(crate) fn judge(&self, files: &MemoryFiles, forged: bool, again: bool) {
        let opened = self.open(files);
        let store = opened.expect("damage of history is no reason to refuse it");
        let last = store.last_sequence();
        if !forged {
            let published = self.events.len() as u64;
            assert!(last >= published, "number {last} is given out again");
        }
        let [all, ..] = FILTERS.map(|filter| self.read(&store, filter, forged));
        let every = TopicFilter::parse(">").expect("a filter");
        let topics = store.topics(every, None, 100).now_or_never();
        let topics = topics.expect("it is done at once");
        topics.expect("the disk can be read");
        let before = store.before_time(1).now_or_never();
        before.expect("it is done at once").expect("a place");
        if again {
            files.kill();
            drop(store);
            self.judge_again(files, forged, &all, last);
        }
    }

    /// Opens it once more: it has the same events up to `last`, has lost the same, and takes more.
    fn judge_again(&self, files: &MemoryFiles, forged: bool, all: &Got, last: Sequence) {
        let store = self.open(files).expect("what was damaged is known");
        assert_eq!(store.last_sequence(), last, "after another start");
        let again = self.read(&store, ">", forged);
        assert_eq!(again.events, all.events, "after another start");
        if !forged {
            let published = self.events.len() as u64;
            let before = all.lost(published);
            assert_eq!(again.lost(published), before, "after another start");
        }
        let mut after = Self {
            contents: BTreeMap::new(),
            events: Vec::new(),
            environment: self.environment.clone(),
        };
        after.publish(&store, 2);
        let got = page_by_page(&store, ">", last);
        let numbers: Vec<_> = got.events.into_keys().collect();
        assert_eq!(numbers, [last + 1, last + 2]);
        assert_eq!(got.damaged, []);
    }

    /// All that a reader of this filter gets.
    fn read(&self, store: &DiskStore, filter: &str, forged: bool) -> Got {
        let got = page_by_page(store, filter, 0);
        if forged {
            return got;
        }
        let wanted = TopicFilter::parse(filter).expect("a filter");
        for (sequence, published) in (1..).zip(&self.events) {
            let delivered = got.events.get(&sequence);
            if !wanted.matches(&published.topic) {
                assert_eq!(delivered, None, "{sequence} is none of {filter}");
                continue;
            }
            let announced = got.damaged.iter().any(|range| is_in(range, sequence));
            match delivered {
                Some(event) => {
                    assert_eq!(event, published, "{sequence}");
                    assert!(!announced, "{sequence} of {filter} is there and announced");
                }
                None => assert!(announced, "{sequence} of {filter} is missing"),
            }
        }
        let highest = got.events.keys().next_back().copied().unwrap_or(0);
        assert!(
            highest <= self.events.len() as u64,
            "nobody published {highest}"
        );
        got
    }
}

impl Got {
    /// The numbers that were announced as lost, up to the last one that was published.
    fn lost(&self, published: Sequence) -> Vec<Sequence> {
        let is_lost = |number: &Sequence| self.damaged.iter().any(|range| is_in(range, *number));
        (1..=published).filter(is_lost).collect()
    }
}

fn is_in(range: &Damaged, sequence: Sequence) -> bool {
    range.after < sequence && sequence <= range.through
}

/// What a reader gets from a sequence on.
fn page_by_page(store: &DiskStore, filter: &str, after: Sequence) -> Got {
    let mut got = Got {
        events: BTreeMap::new(),
        damaged: Vec::new(),
    };
    let mut at = after;
    while at < store.last_sequence() {
        let query = Query {
            filters: vec![FilterFrom {
                filter: TopicFilter::parse(filter).expect("a filter"),
                after: 0,
            }],
            after: at,
            through: store.last_sequence(),
            bytes_max: PAGE_BYTES,
        };
        let page = store
            .read(query)
            .now_or_never()
            .expect("it is done at once");
        let page = page.expect("the disk can be read");
        assert!(page.through > at, "each page makes progress");
        let slices: Vec<_> = page.slices.into();
        let entries = slices.iter().flat_map(Slice::entries);
        let numbers: Vec<_> = entries.map(|entry| entry.sequence).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        let within = |number: &Sequence| *number > at && *number <= page.through;
        assert!(numbers.iter().all(within), "{numbers:?} after {at}");
        let bytes = join(&slices, Encoding::V1);
        got.events.extend(events(bytes).map(|(_, event)| {
            let (topic, payload) = (event.topic, event.payload.to_vec());
            (event.sequence, Event { topic, payload })
        }));
        got.damaged.extend(page.damaged);
        at = page.through;
    }
    got
}
