//! Bytes on the disk that changed or are gone.

use super::*;

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
fn a_file_that_lost_its_footer_is_there_after_every_restart_and_so_are_the_others() {
    let files = MemoryFiles::new();
    let mut store = open(&files, &[]);
    for _ in 0..5 {
        for _ in 0..3 {
            append(&store, &["a.1"; 20]).unwrap();
        }
        files.kill();
        drop(store);
        store = open(&files, &[]);
    }
    let last = store.last_sequence();
    files.kill();
    drop(store);
    let names = list(&files, "/data/sealed");
    files.damage(&Path::new("/data/sealed").join(&names[0]), |c| {
        let at = c.len() - 1;
        c[at] ^= 1;
    });
    for round in 0..2 {
        let store = open(&files, &[]);
        let (found, _) = read_all(&store, &[(">", 0)], 0, 1 << 20);
        assert_eq!(found.len() as u64, last, "round {round}");
        files.kill();
    }
}

#[test]
fn damage_that_is_found_later_in_older_history_is_announced_too() {
    let files = MemoryFiles::new();
    let mut store = open(&files, &[]);
    for _ in 0..4 {
        append(&store, &["a.1"; 20]).unwrap();
        files.kill();
        drop(store);
        store = open(&files, &[]);
    }
    files.kill();
    drop(store);
    let names = list(&files, "/data/sealed");
    for index in [2, 0] {
        files
            .remove(&Path::new("/data/sealed").join(&names[index]))
            .unwrap();
        let store = open(&files, &[]);
        append(&store, &["a.1"]).unwrap();
        files.kill();
        drop(store);
    }
    let store = open(&files, &[]);
    let (_, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert!(
        damaged.iter().any(|d| d.after == 0 && d.through >= 20),
        "{damaged:?}"
    );
}

#[test]
fn a_damaged_batch_before_a_torn_one_is_announced() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1"; 10]).unwrap();
    append(&store, &["a.1"; 10]).unwrap();
    let at = {
        let history = store.shared.history.read();
        let segment = history.log.back().unwrap();
        segment
            .records
            .iter()
            .map(|r| r.frames_at as usize)
            .collect::<Vec<_>>()
    };
    append(&store, &["a.1"; 10]).unwrap();
    let third = store.shared.history.read().log[0].records[2].frames_at as usize - 192;
    let path = Path::new("/data/log").join(&list(&files, "/data/log")[0]);
    files.kill();
    drop(store);
    files.damage(&path, |content| {
        content[at[1] + 5] ^= 1;
        // The third: its header never got there, its end did.
        assert_eq!(&content[third..third + 4], b"LLR2");
        content[third..third + 64].fill(0);
    });
    let store = open(&files, &[]);
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert!(
        store.last_sequence() >= 20,
        "{} {found:?} {damaged:?}",
        store.last_sequence()
    );
    assert!(
        damaged.iter().any(|d| d.after <= 10 && d.through >= 20),
        "{damaged:?}"
    );
}

#[test]
fn events_lost_to_damage_are_not_counted_as_kept() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1"; 20]).unwrap();
    let at = store.shared.history.read().log[0].records[0].frames_at as usize;
    for _ in 0..5 {
        append(&store, &["a.1"; 20]).unwrap();
    }
    let path = store.shared.history.read().log[0].file.path.clone();
    files.damage(&path, |content| content[at + 5] ^= 1);
    while store.shared.seal_oldest(false).unwrap() {}
    let history = store.shared.history.read();
    let class = history.classes.last().unwrap();
    assert_eq!(class.events, 100);
}

#[test]
fn a_damaged_place_in_a_trailer_does_not_keep_the_store_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let config = DiskConfig {
        inline: true,
        reserve_bytes: 0,
        segment_bytes: 4096,
        ..DiskConfig::new(dir.path().join("data"))
    };
    let open = || DiskStore::open(config.clone(), environment(), retention(&[]), 100);
    let store = open().unwrap();
    append(&store, &["a.1"; 10]).unwrap();
    drop(store);
    drop(open().unwrap());
    let path = std::fs::read_dir(dir.path().join("data/sealed"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut content = std::fs::read(&path).unwrap();
    let at = content.len() - 40 + 7;
    content[at] ^= 0x80;
    std::fs::write(&path, content).unwrap();
    if let Err(e) = open() {
        panic!("{e}")
    }
}

/// Each of them has a checksum that holds over nothing: that of no bytes is zero.
#[test]
fn a_trailer_that_is_zeros_before_its_last_sector_is_not_taken_for_an_empty_file() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1"; 10]).unwrap();
    files.kill();
    drop(store);
    drop(open(&files, &[]));
    files.kill();
    let path = Path::new("/data/sealed").join(&list(&files, "/data/sealed")[0]);
    assert!(files.damage(&path, |content| {
        let end = content.len() - 8;
        content[end - 32..end].fill(0);
    }));
    let store = open(&files, &[]);
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert_eq!((found, damaged), ((1..=10).collect(), vec![]));
}

#[test]
fn a_segment_that_lost_its_end_has_lost_the_records_that_may_have_been_there() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for _ in 0..4 {
        append(&store, &["a.1"; 5]).unwrap();
    }
    let place = {
        let history = store.shared.history.read();
        history.log[0].records[2].frames_at as usize
    };
    let path = Path::new("/data/log").join(&list(&files, "/data/log")[0]);
    files.kill();
    drop(store);
    // Where a record ends, so that nothing else shows it.
    files.damage(&path, |content| {
        let end = (64..place)
            .rev()
            .find(|&at| content[at..].starts_with(b"LLR2"));
        content.truncate(end.unwrap());
    });
    let store = open(&files, &[]);
    assert!(store.last_sequence() >= 20, "no number is given out again");
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert_eq!(found, (1..=10).collect::<Vec<_>>());
    assert!(
        damaged
            .iter()
            .any(|range| range.after == 10 && range.through >= 20)
    );
}

#[test]
fn a_damaged_byte_of_unused_space_takes_nothing_and_nothing_is_announced() {
    for beyond in [0, 1, 63, 64, 511, 512, 3_000] {
        let files = MemoryFiles::new();
        let store = open(&files, &[]);
        append(&store, &["a.1"; 5]).unwrap();
        let path = Path::new("/data/log").join(&list(&files, "/data/log")[0]);
        files.kill();
        drop(store);
        assert!(files.damage(&path, |content| {
            let used = content.iter().rposition(|&byte| byte != 0).unwrap() + 1;
            let end = used.next_multiple_of(record::ALIGN);
            content[end + beyond] ^= 0x40;
        }));
        let store = open(&files, &[]);
        assert_eq!(store.last_sequence(), 5, "{beyond}");
        let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
        assert_eq!(found, (1..=5).collect::<Vec<_>>(), "{beyond}");
        assert!(damaged.is_empty(), "{beyond}: {damaged:?}");
    }
}

#[test]
fn history_without_any_state_is_not_taken_for_a_new_directory() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1"; 5]).unwrap();
    files.kill();
    drop(store);
    for name in ["STATE", "STATE.copy"] {
        files.remove(&Path::new("/data").join(name)).unwrap();
    }
    let files = Arc::new(files);
    let refused = DiskStore::open_with(files, config(), environment(), retention(&[]), 10);
    assert!(matches!(refused, Err(OpenError::Damaged { .. })));
}

#[test]
fn an_event_after_a_damaged_batch_is_not_older_and_claims_to_follow_none_that_was_lost() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    append(&store, &["a.1", "a.2"]).unwrap();
    // As by a clock that is an hour ahead.
    let time = store.shared.environment.unix_nanos() + 3_600_000_000_000;
    store.shared.history.write().last.published = time;
    append(&store, &["a.1"]).unwrap();
    let at = store.shared.history.read().log[0].records[1].frames_at as usize;
    let path = Path::new("/data/log").join(&list(&files, "/data/log")[0]);
    files.kill();
    drop(store);
    files.damage(&path, |content| content[at + 5] ^= 1);

    let store = open(&files, &[]);
    let lost = Damaged {
        after: 2,
        through: 3,
        events: 0,
    };
    assert_eq!(
        read_all(&store, &[(">", 0)], 0, 1 << 20),
        (vec![1, 2], vec![lost])
    );
    append(&store, &["a.1", "a.1", "a.2"]).unwrap();
    let page = read(&store, &[(">", 3)], 3, 1 << 20);
    let slices: Vec<_> = page.slices.iter().cloned().collect();
    let events = frame::events(frame::join(&slices, Encoding::V1));
    let said: Vec<_> = events
        .map(|(_, event)| (event.sequence, event.previous_sequence))
        .collect();
    assert_eq!(said, [(4, 0), (5, 4), (6, 0)]);
    assert!(store.shared.history.read().last.published >= time);
}

#[test]
fn a_start_that_ends_in_the_middle_of_recovering_costs_nothing_before_a_damage() {
    for bytes_left in (0..40_000).step_by(500) {
        let files = MemoryFiles::new();
        let store = open(&files, &[]);
        for _ in 0..12 {
            append(&store, &["a.1"; 10]).unwrap();
        }
        let (number, at) = {
            let history = store.shared.history.read();
            let segment = history.log.back().unwrap();
            let record = segment.records.len() - 2;
            (
                segment.file.number,
                segment.records[record].frames_at as usize,
            )
        };
        let path = segment::path(Path::new("/data/log"), number);
        files.kill();
        drop(store);
        assert!(files.damage(&path, |content| content[at + 5] ^= 1));
        files.set_faults(Faults {
            sync: false,
            bytes_left: Some(bytes_left),
        });
        let started = DiskStore::open_with(
            Arc::new(files.clone()),
            config(),
            environment(),
            retention(&[]),
            1_000,
        );
        drop(started);
        files.kill();
        files.set_faults(Faults::default());
        let store = open(&files, &[]);
        let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
        assert_eq!(found.len(), 110, "{bytes_left}: {found:?}, {damaged:?}");
    }
}
