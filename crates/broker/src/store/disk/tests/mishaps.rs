//! Mishaps that a reading of the store found, each as it would happen.

use super::*;

fn open_max(files: &MemoryFiles, classes: &[(&str, u64)], max: usize) -> DiskStore {
    let files = Arc::new(files.clone());
    DiskStore::open_with(files, config(), environment(), retention(classes), max).unwrap()
}

fn list(files: &MemoryFiles, dir: &str) -> Vec<String> {
    files.list(Path::new(dir)).unwrap()
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
    let head = store.head();
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
        assert_eq!(found.len() as u64, head, "round {round}");
        files.kill();
    }
}

#[test]
fn a_new_topic_shows_nothing_of_one_that_was_forgotten() {
    let files = MemoryFiles::new();
    let store = open_max(&files, &[("a.>", 1)], 10);
    for topic in [
        "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "a.7", "a.8", "a.9", "a.10",
    ] {
        append(&store, &[topic]).unwrap();
    }
    store.trim();
    append(&store, &["secret.other"]).unwrap();
    let page = read(&store, &[("secret.other", 0)], 0, 1 << 20);
    assert_eq!(sequences(&page), vec![11]);
}

#[test]
fn what_a_forgotten_topic_has_lost_is_known_after_a_restart() {
    let files = MemoryFiles::new();
    let store = open_max(&files, &[("a.>", 1)], 10);
    for topic in [
        "a.1", "a.2", "a.3", "a.4", "a.5", "a.6", "a.7", "a.8", "a.9", "a.10",
    ] {
        append(&store, &[topic]).unwrap();
    }
    for _ in 0..5 {
        append(&store, &["a.10"; 20]).unwrap();
        store.trim();
    }
    append(&store, &["b.1"]).unwrap();
    store.trim();
    append(&store, &["b.1"; 60]).unwrap();
    append(&store, &["b.1"; 60]).unwrap();
    store.trim();
    let sealed = store.shared.history.read().sealed_through;
    assert!(sealed > 10, "{sealed}");
    let gone = TopicName::parse("a.1").unwrap();
    assert!(store.shared.history.read().topics.id_of(&gone).is_none());
    append(&store, &["a.1"]).unwrap();
    let before = read(&store, &[("a.1", 0)], 0, 1 << 20).trimmed_through;
    files.kill();
    drop(store);
    let store = open_max(&files, &[("a.>", 1)], 10);
    let page = read(&store, &[("a.1", 0)], 0, 1 << 20);
    assert!(page.trimmed_through >= 1, "before {before}, after {page:?}");
}

#[test]
fn a_class_whose_filter_is_written_anew_keeps_its_history() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("a.>", 5_000_000), (">", 10)]);
    for _ in 0..20 {
        append(&store, &["a.1"; 20]).unwrap();
        store.trim();
    }
    files.kill();
    drop(store);
    let classes = retention(&[("a.*", 5_000_000), (">", 10)]);
    let small = RetentionConfig::new(
        [("a.*", 5_000_000), (">", 10)]
            .iter()
            .map(|&(f, events)| HistoryClass {
                filter: TopicFilter::parse(f).unwrap(),
                limits: Limits {
                    events,
                    bytes: u64::MAX,
                    age: None,
                },
            })
            .collect(),
    );
    drop(classes);
    let store = DiskStore::open_with(
        Arc::new(files.clone()),
        config(),
        environment(),
        small,
        1_000,
    )
    .unwrap();
    let retired: Vec<_> = store
        .shared
        .history
        .read()
        .classes
        .iter()
        .map(|c| (c.identity.clone(), c.limits))
        .collect();
    let limits = retired.iter().find(|(name, _)| name == "a.>").unwrap().1;
    assert_eq!(limits.events, 5_000_000);
}

#[test]
fn a_topic_that_moves_into_a_class_with_a_higher_floor_says_what_it_lost() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("b.big", 1_000), ("b.>", 1)]);
    append(&store, &["b.big"; 5]).unwrap();
    append(&store, &["b.1", "b.2", "b.3"]).unwrap();
    store.trim();
    store.shared.write_state().unwrap();
    append(&store, &["c"]).unwrap();
    files.kill();
    drop(store);
    let store = open(&files, &[("b.>", 1)]);
    let page = read(&store, &[("b.big", 0)], 0, 1 << 20);
    assert!(
        sequences(&page).len() == 5 || page.trimmed_through == 5,
        "{page:?}"
    );
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
fn files_that_could_not_be_removed_on_a_full_disk_are_removed_later() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("a.>", 10)]);
    for _ in 0..20 {
        append(&store, &["a.1"; 20]).unwrap();
    }
    store.shared.prepared.lock().take();
    while store.shared.seal_oldest(false).unwrap() {}
    let before = list(&files, "/data/sealed").len();
    files.set_faults(Faults {
        sync: false,
        bytes_left: Some(0),
    });
    store.trim();
    files.set_faults(Faults::default());
    for _ in 0..3 {
        store.trim();
    }
    let after = list(&files, "/data/sealed").len();
    let known = store.shared.history.read().classes[0].files.len();
    assert_eq!(after, known, "of {before}");
}

#[test]
fn retention_goes_on_past_what_cannot_be_read() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("a.>", 40)]);
    for _ in 0..2 {
        append(&store, &["a.1"; 20]).unwrap();
    }
    for _ in 0..6 {
        append(&store, &["b.1"; 20]).unwrap();
    }
    while store.shared.seal_oldest(false).unwrap() {}
    let path = store.shared.history.read().classes[0].files[0].path.clone();
    files.damage(&path, |content| content.truncate(70));
    for _ in 0..6 {
        append(&store, &["a.1"; 20]).unwrap();
    }
    {
        let r = store.shared.enforce_retention();
        assert!(r.is_ok(), "{r:?}");
    }
}

#[test]
fn a_segment_made_ahead_that_is_too_small_is_not_left_behind() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for _ in 0..5 {
        store.trim();
        append(&store, &["a.1"; 300]).unwrap();
    }
    store.trim();
    let left = list(&files, "/data/log");
    assert!(left.len() <= 2, "{left:?}");
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
    let third = store.shared.history.read().log[0].records[2].frames_at as usize - 184;
    let path = Path::new("/data/log").join(&list(&files, "/data/log")[0]);
    files.kill();
    drop(store);
    files.damage(&path, |content| {
        content[at[1] + 5] ^= 1;
        // The third: its header never got there, its end did.
        assert_eq!(&content[third..third + 4], b"LLR1");
        content[third..third + 64].fill(0);
    });
    let store = open(&files, &[]);
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert!(store.head() >= 20, "{} {found:?} {damaged:?}", store.head());
    assert!(
        damaged.iter().any(|d| d.after <= 10 && d.through >= 20),
        "{damaged:?}"
    );
}

#[test]
fn what_is_lost_to_damage_is_not_counted_as_kept() {
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
fn ids_are_remembered_once_whenever_the_process_was_killed() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for id in 0..60 {
        let message = message(&store, "a.1", &id.to_string());
        store.append(&[message]).now_or_never().unwrap().unwrap();
    }
    let ids = store.shared.history.read().ids_through(40);
    format::write(&files, Path::new("/data/IDS"), &ids).unwrap();
    files.kill();
    drop(store);
    // The first STATE.
    let store = open(&files, &[]);
    drop(store);
    let store = open(&files, &[]);
    for id in 60..120 {
        let message = message(&store, "a.1", &id.to_string());
        store.append(&[message]).now_or_never().unwrap().unwrap();
    }
    let ids = store.shared.history.read().ids_through(100);
    format::write(&files, Path::new("/data/IDS"), &ids).unwrap();
    files.kill();
    drop(store);
    let store = open(&files, &[]);
    assert_eq!(store.recent_ids().len(), 120);
}

#[test]
fn a_quiet_class_does_not_come_to_have_many_files() {
    let config = DiskConfig {
        segment_bytes: 32 << 10,
        ..config()
    };
    let classes = retention(&[("alerts", 10_000)]);
    let files = Arc::new(MemoryFiles::new());
    let store = DiskStore::open_with(files, config, environment(), classes, 100).unwrap();
    for _ in 0..60 {
        append(&store, &["alerts"]).unwrap();
        append(&store, &["b.1"; 300]).unwrap();
        store.trim();
    }
    let count = store.shared.history.read().classes[0].files.len();
    assert!((1..10).contains(&count), "{count} files for 60 events");
    assert_eq!(read_all(&store, &[("alerts", 0)], 0, 1_000).0.len(), 60);
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

#[test]
fn a_segment_that_lost_its_end_has_lost_what_may_have_been_there() {
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
            .find(|&at| content[at..].starts_with(b"LLR1"));
        content.truncate(end.unwrap());
    });
    let store = open(&files, &[]);
    assert!(store.head() >= 20, "no number is given out again");
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 1 << 20);
    assert_eq!(found, (1..=10).collect::<Vec<_>>());
    assert!(
        damaged
            .iter()
            .any(|range| range.after == 10 && range.through >= 20)
    );
}

#[test]
fn a_damaged_byte_of_room_that_was_never_used_takes_nothing_and_nothing_is_announced() {
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
        assert_eq!(store.head(), 5, "{beyond}");
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
    store.shared.history.write().last_time = time;
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
    assert!(store.shared.history.read().last_time >= time);
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

#[test]
fn one_page_says_what_is_gone_wherever_the_sealed_files_end() {
    let files = MemoryFiles::new();
    let store = open(&files, &[("a.>", 3)]);
    for _ in 0..9 {
        append(&store, &["a.1"; 10]).unwrap();
    }
    store.trim();
    let sealed = store.shared.history.read().sealed_through;
    assert!(0 < sealed && sealed < 80, "{sealed}");
    let page = read(&store, &[("a.1", 0)], 0, 1);
    assert_eq!((page.trimmed_through, sequences(&page)), (87, vec![88]));
}
