//! The directory of a store: its owner, and its name.

use super::*;

#[test]
fn a_directory_in_use_or_of_a_newer_format_or_of_others_is_refused_untouched() {
    let files = MemoryFiles::new();
    let open = |files: &MemoryFiles| {
        let files = Arc::new(files.clone());
        DiskStore::open_with(files, config(), environment(), retention(&[]), 10)
    };
    let store = open(&files).unwrap();
    append(&store, &TOPICS[..4]).unwrap();
    let refused = open(&files).unwrap_err();
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap();
    let own = format!("process {} on {host}", std::process::id());
    assert!(
        matches!(&refused, OpenError::InUse { holder, .. } if *holder == own),
        "{refused}"
    );
    drop(store);
    let unnamed = files.lock(Path::new("/data/LOCK"), "").unwrap();
    let refused = open(&files).unwrap_err().to_string();
    assert!(
        refused.ends_with("is in use by another process"),
        "{refused}"
    );
    drop(unnamed);

    for name in ["META", "META.copy"] {
        files.damage(&Path::new("/data").join(name), |content| {
            let meta = format::Meta {
                format: format::FORMAT + 1,
                ..format::unseal(content).unwrap()
            };
            *content = format::seal(&meta);
        });
    }
    let before = contents(&files);
    assert!(
        before.len() > 2,
        "there is more than the file with the format"
    );
    assert!(matches!(
        open(&files),
        Err(OpenError::NewerFormat { found: 3, .. })
    ));
    let new_epoch = DiskStore::new_epoch_with(&files, Path::new("/data"), &environment());
    assert!(matches!(
        new_epoch,
        Err(NewEpochError::Open(OpenError::NewerFormat { found: 3, .. }))
    ));
    assert_eq!(contents(&files), before);

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
    assert_eq!(store.last_sequence(), 4, "numbers go on");
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
