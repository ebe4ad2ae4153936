//! Every file of the directory, and a mishap of exactly this one while no server runs: it is gone, empty, full of
//! zeros, has one bit flipped, has lost its second half, or is an older copy of itself.
//!
//! After each mishap the next start gives out no number again, and every acknowledged event is there or is announced as
//! damaged.

use super::*;

/// The mishap of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Gone,
    Empty,
    Zeroed,
    OneBit,
    Half,
    Older,
}

const MISHAPS: [Mishap; 6] = [
    Mishap::Gone,
    Mishap::Empty,
    Mishap::Zeroed,
    Mishap::OneBit,
    Mishap::Half,
    Mishap::Older,
];

/// Files by their path.
type Contents = BTreeMap<PathBuf, Vec<u8>>;

impl Mishap {
    /// Lets it happen to one file; `false` when there is nothing that could.
    fn happen(self, files: &MemoryFiles, path: &Path, older: &Contents) -> bool {
        match self {
            Self::Gone => files.remove(path).is_ok(),
            Self::Empty => files.damage(path, Vec::clear),
            Self::Zeroed => files.damage(path, |content| content.fill(0)),
            Self::OneBit => files.damage(path, |content| {
                let used = content
                    .iter()
                    .rposition(|&byte| byte != 0)
                    .map_or(0, |at| at + 1);
                if used > 0 {
                    content[used / 2] ^= 0x10;
                }
            }),
            Self::Half => files.damage(path, |content| content.truncate(content.len() / 2)),
            Self::Older => older
                .get(path)
                .is_some_and(|older| files.damage(path, |content| content.clone_from(older))),
        }
    }
}

/// The content of a directory when its server was killed.
struct Left {
    files: MemoryFiles,
    epoch: Epoch,
    /// The topic of each event that was acknowledged, from sequence 1 on.
    log: Vec<&'static str>,
    /// Its files at an earlier time.
    older: Contents,
    now: Contents,
}

impl Left {
    /// Publishes, seals, publishes more, and is killed. With `ahead` the next segment is made; without, the log has
    /// several segments that are not sealed yet.
    fn of(ahead: bool) -> Self {
        let files = MemoryFiles::new();
        let mut log = Vec::new();
        let publish = |store: &DiskStore, log: &mut Vec<&'static str>, rounds: usize| {
            for round in 0..rounds {
                let topics: Vec<_> = (0..8).map(|n| TOPICS[(round + n) % TOPICS.len()]).collect();
                let messages: Vec<_> = topics
                    .iter()
                    .map(|topic| message(store, topic, &log.len().to_string()))
                    .collect();
                store.append(&messages).now_or_never().unwrap().unwrap();
                log.extend(topics);
            }
        };
        let store = open(&files, &[]);
        publish(&store, &mut log, 12);
        store.trim();
        files.kill();
        drop(store);
        let store = open(&files, &[]);
        publish(&store, &mut log, 12);
        store.trim();
        publish(&store, &mut log, 1);
        let older = contents(&files);
        // Less than a segment: the one that is written to is in both.
        publish(&store, &mut log, if ahead { 2 } else { 9 });
        if ahead {
            store.trim();
        }
        let segments = list(&files, "/data/log").len();
        assert!(
            if ahead { segments == 2 } else { segments > 2 },
            "{segments} segments"
        );
        let left = Self {
            epoch: store.epoch(),
            log,
            older,
            now: contents(&files),
            files: files.clone(),
        };
        files.kill();
        drop(store);
        left
    }

    /// Starts a server and compares its events with the acknowledged ones. Returns the sequences that it does not have.
    fn start(&self, what: &str) -> (DiskStore, Vec<Sequence>) {
        let store = open(&self.files, &[]);
        let acknowledged = self.log.len() as u64;
        assert_eq!(store.epoch(), self.epoch, "{what}");
        assert!(
            store.last_sequence() >= acknowledged,
            "{what}: {} is given out again",
            store.last_sequence() + 1
        );
        let filters = [(">", 0), ("inbox.1", 0)];
        let (found, damaged) = read_all(&store, &filters, 0, 1 << 20);
        let announced = |sequence: Sequence| {
            let covers = |range: &Damaged| range.after < sequence && sequence <= range.through;
            damaged.iter().any(covers)
        };
        let lost: Vec<_> = (1..=acknowledged).filter(|n| !found.contains(n)).collect();
        let silent: Vec<_> = lost.iter().filter(|n| !announced(**n)).collect();
        assert!(
            silent.is_empty(),
            "{what}: lost in silence: {silent:?}, {damaged:?}"
        );
        for topic in TOPICS {
            let (of_topic, _) = read_all(&store, &[(topic, 0)], 0, 1 << 20);
            let other = of_topic.iter().find(|&&n| {
                self.log
                    .get(n as usize - 1)
                    .is_some_and(|other| *other != topic)
            });
            assert_eq!(other, None, "{what}: is no event of {topic}");
        }
        (store, lost)
    }
}

#[test]
fn after_any_mishap_of_one_file_no_number_is_given_out_again_and_nothing_is_lost_in_silence() {
    for ahead in [true, false] {
        let paths: Vec<_> = Left::of(ahead).now.into_keys().collect();
        assert!(paths.len() >= 8, "{paths:?}");
        for path in &paths {
            for mishap in MISHAPS {
                let left = Left::of(ahead);
                let what = format!("{} {mishap:?}, ahead {ahead}", path.display());
                if !mishap.happen(&left.files, path, &left.older) {
                    continue;
                }
                let (store, lost) = left.start(&what);
                let holds_events =
                    path.starts_with("/data/log") || path.starts_with("/data/sealed");
                assert!(holds_events || lost.is_empty(), "{what}: lost {lost:?}");
                let end = store.last_sequence();
                append(&store, &["a.1", "b.1"]).unwrap();
                assert_eq!(store.last_sequence(), end + 2, "{what}");
                left.files.kill();
                drop(store);
                // It is as true at the next start.
                let (store, again) = left.start(&what);
                assert_eq!(again, lost, "{what}");
                assert_eq!(store.last_sequence(), end + 2, "{what}");
                let (found, damaged) = read_all(&store, &[(">", end)], end, 1 << 20);
                assert_eq!((found, damaged), (vec![end + 1, end + 2], vec![]), "{what}");
            }
        }
    }
}

#[test]
fn a_log_without_any_segment_has_lost_the_acknowledged_events() {
    for ahead in [true, false] {
        let left = Left::of(ahead);
        for name in list(&left.files, "/data/log") {
            left.files
                .remove(&Path::new("/data/log").join(name))
                .unwrap();
        }
        let (_, lost) = left.start("no segment");
        assert!(!lost.is_empty());
    }
}

#[test]
fn an_older_copy_of_the_file_with_the_epoch_does_not_bring_back_the_epoch_before() {
    for name in ["META", "META.copy"] {
        let files = MemoryFiles::new();
        let store = open(&files, &[]);
        append(&store, &["a.1"; 5]).unwrap();
        files.kill();
        drop(store);
        let older = contents(&files);
        let change = DiskStore::new_epoch_with(&files, Path::new("/data"), &environment()).unwrap();
        let path = Path::new("/data").join(name);
        assert!(Mishap::Older.happen(&files, &path, &older));
        let store = open(&files, &[]);
        assert_eq!(store.epoch(), change.after, "{name}");
    }
}
