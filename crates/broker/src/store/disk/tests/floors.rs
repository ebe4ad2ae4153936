//! Removed events stay removed, with any limits of the next process.

use super::*;

fn trimmed(store: &DiskStore, filter: &str) -> (Sequence, Vec<Sequence>) {
    let page = read(store, &[(filter, 0)], 0, 1 << 20);
    (
        page.trimmed_through,
        read_all(store, &[(filter, 0)], 0, 1 << 20).0,
    )
}

/// Ten events, of which the first eight go; all of them are still in the log.
fn with_eight_gone(files: &MemoryFiles, classes: &[(&str, u64)]) -> DiskStore {
    let store = open(files, classes);
    for _ in 0..10 {
        append(&store, &["a.1"]).unwrap();
    }
    store.trim();
    assert_eq!(trimmed(&store, "a.1"), (8, vec![9, 10]));
    assert_eq!(store.shared.history.read().sealed_through, 0);
    store
}

#[test]
fn trimmed_events_stay_trimmed_after_a_restart_with_larger_limits() {
    // The same class with a larger limit, and another class for the same topic.
    for larger in [("a.>", 100), ("a.1", 100)] {
        for killed in [true, false] {
            let files = MemoryFiles::new();
            let store = with_eight_gone(&files, &[("a.>", 2)]);
            if killed {
                files.kill();
            }
            drop(store);
            for _ in 0..2 {
                let store = open(&files, &[larger]);
                assert_eq!(trimmed(&store, "a.1"), (8, vec![9, 10]), "{larger:?}");
                files.kill();
            }
            let store = open(&files, &[larger]);
            append(&store, &["a.1"]).unwrap();
            assert_eq!(trimmed(&store, "a.1"), (8, vec![9, 10, 11]), "{larger:?}");
        }
    }
}

#[test]
fn nothing_is_gone_for_readers_before_the_disk_knows() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("a.>", 2)]);
    for _ in 0..10 {
        append(&store, &["a.1"]).unwrap();
    }
    let all = (0, (1..=10).collect());
    files.set_faults(Faults {
        sync: false,
        bytes_left: Some(0),
    });
    store.trim();
    assert_eq!(
        trimmed(&store, "a.1"),
        all,
        "the removal could not be written down"
    );
    files.set_faults(Faults::default());
    files.kill();
    drop(store);
    let store = open(&files, &[("a.>", 100)]);
    assert_eq!(trimmed(&store, "a.1"), all);
    drop(store);
    let store = open(&files, &[("a.>", 2)]);
    assert_eq!(trimmed(&store, "a.1"), (8, vec![9, 10]));
}

#[test]
fn damaged_or_missing_floors_cost_only_their_own_entries() {
    for gone in [true, false] {
        let files = MemoryFiles::new();
        drop(with_eight_gone(&files, &[("a.>", 2)]));
        files.kill();
        let path = Path::new("/data/FLOORS");
        if gone {
            files.remove(path).unwrap();
        } else {
            assert!(files.damage(path, |content| content[20] ^= 1));
        }
        let store = open(&files, &[("a.>", 2)]);
        assert_eq!(trimmed(&store, "a.1"), (8, vec![9, 10]));
    }
}

#[test]
fn floors_of_a_later_time_hide_nothing_that_is_published_from_then_on() {
    let files = MemoryFiles::new();
    drop(open(&files, &[("a.>", 2)]));
    files.kill();
    let later = MemoryFiles::new();
    drop(with_eight_gone(&later, &[("a.>", 2)]));
    later.kill();
    let content = {
        let file = later
            .open(Path::new("/data/FLOORS"), OpenMode::Read)
            .unwrap();
        super::super::files::read_all(&*file).unwrap()
    };
    super::super::files::replace(&files, Path::new("/data/FLOORS"), &content).unwrap();
    let store = open(&files, &[("a.>", 2)]);
    append(&store, &["a.1"]).unwrap();
    assert_eq!(trimmed(&store, "a.1").1, [1]);
}

#[test]
fn an_event_that_was_announced_as_damaged_is_not_counted_as_kept() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for _ in 0..200 {
        append(&store, &["a.1", "b.1"]).unwrap();
    }
    store.trim();
    files.kill();
    drop(store);
    let dir = Path::new("/data/sealed");
    let names = files.list(dir).unwrap();
    let damaged = files.damage(&dir.join(&names[0]), |content| {
        // In the frames of the first block.
        let at = content
            .windows(14)
            .position(|part| part == b"payload of a.1")
            .unwrap();
        content[at] ^= 1;
    });
    assert!(damaged);
    let store = open(&files, &[]);
    for filter in ["a.1", "b.1"] {
        let (found, damaged) = read_all(&store, &[(filter, 0)], 0, 1 << 20);
        assert!(!damaged.is_empty());
        let topics = store.topics(TopicFilter::parse(filter).unwrap(), None, 10);
        let topics = topics.now_or_never().unwrap().unwrap();
        assert_eq!(topics[0].events, found.len() as u64, "{filter}");
        assert_eq!(topics[0].first, found[0], "{filter}");
        let bytes: u64 = read_bytes(&store, filter);
        assert_eq!(topics[0].bytes, bytes, "{filter}");
    }
}

/// The frames of everything that is kept of a topic.
fn read_bytes(store: &DiskStore, filter: &str) -> u64 {
    let mut bytes = 0;
    let mut at = 0;
    while at < store.last_sequence() {
        let page = read(store, &[(filter, 0)], at, 1 << 20);
        bytes += page
            .slices
            .iter()
            .map(|slice| slice.len_bytes() as u64)
            .sum::<u64>();
        at = page.through;
    }
    bytes
}
