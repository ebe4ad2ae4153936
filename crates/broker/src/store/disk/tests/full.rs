//! A disk that is full or takes nothing any more.

use super::*;

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
    // The state of the disk is not known: another attempt would prove nothing.
    assert!(matches!(
        append(&store, &["a.1"]),
        Err(AppendError::Broken(_))
    ));
    assert!(matches!(store.writable(), Err(AppendError::Broken(_))));
    assert_eq!(store.last_sequence(), 1);
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
        assert_eq!(store.last_sequence(), 2);
        assert_eq!(topics(&store), before, "numbers and topics are as before");
        assert_eq!(read_all(&store, &[("a.*", 0)], 0, 100).0, vec![1, 2]);
    }
    files.set_faults(Faults::default());
    append(&store, &["a.1"]).unwrap();
    files.kill();
    drop(store);
    let store = open(&files, &[]);
    assert_eq!(store.last_sequence(), 3);
    let (found, damaged) = read_all(&store, &[(">", 0)], 0, 100);
    assert_eq!((found, damaged), (vec![1, 2, 3], vec![]));
}

#[test]
fn segments_grow_to_their_size_and_the_next_is_there_before_it_is_needed() {
    let files = MemoryFiles::new();
    let config = DiskConfig {
        segment_bytes: 32 << 10,
        segment_begin_bytes: 1 << 10,
        ..config()
    };
    let open = || {
        let shared = Arc::new(files.clone());
        DiskStore::open_with(shared, config.clone(), environment(), retention(&[]), 1_000).unwrap()
    };
    for _ in 0..2 {
        let store = open();
        store.trim();
        let mut sizes = Vec::new();
        while sizes.len() < 5 {
            append(&store, &["a.1"; 3]).unwrap();
            let active = store.shared.active().unwrap();
            let size = active.file.len_bytes().unwrap();
            if sizes.last() != Some(&(active.number, size)) {
                sizes.push((active.number, size));
            }
            store.trim();
            let is_ahead = store.shared.prepared.lock().is_some();
            assert_eq!(is_ahead, active.used() > size / 2, "{sizes:?}");
        }
        let sizes: Vec<_> = sizes.into_iter().map(|(_, size)| size).collect();
        assert_eq!(sizes, [1 << 10, 4 << 10, 16 << 10, 32 << 10, 32 << 10]);
        let last = store.last_sequence();
        files.kill();
        drop(store);
        let store = open();
        assert_eq!(store.last_sequence(), last);
        let (found, damaged) = read_all(&store, &[("a.1", 0)], 0, 1 << 20);
        assert_eq!(found, (1..=last).collect::<Vec<_>>());
        assert!(damaged.is_empty());
    }
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
    assert_eq!(store.writable(), Err(full));
    left(2 << 20);
    append(&store, &["a.1"]).unwrap();
    assert_eq!(store.last_sequence(), 2);
}
