//! Mishaps that a reading of the store found, each as it would happen.

use super::*;

fn open_max(files: &MemoryFiles, classes: &[(&str, u64)], max: usize) -> DiskStore {
    let files = Arc::new(files.clone());
    DiskStore::open_with(files, config(), environment(), retention(classes), max).unwrap()
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
fn the_losses_of_a_forgotten_topic_are_known_after_a_restart() {
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
fn a_topic_that_moves_into_a_class_with_a_higher_floor_announces_its_losses() {
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
fn retention_goes_on_past_unreadable_events() {
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
fn ids_are_remembered_once_whenever_the_process_was_killed() {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    for id in 0..60 {
        let message = message(&store, "a.1", &id.to_string());
        store.append(&[message]).now_or_never().unwrap().unwrap();
    }
    let ids = store.shared.history.read().ids_through(40);
    format::write_parts(&files, Path::new("/data/IDS"), ids).unwrap();
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
    format::write_parts(&files, Path::new("/data/IDS"), ids).unwrap();
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
fn one_page_announces_a_loss_across_any_ends_of_sealed_files() {
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
