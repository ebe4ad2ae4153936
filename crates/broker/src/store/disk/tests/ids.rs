//! The file of message ids, damaged.

use proptest::prelude::*;

use super::*;

/// A store that has sealed a thousand ids and was killed.
fn sealed() -> (MemoryFiles, Vec<MessageKey>) {
    let files = MemoryFiles::new();
    let store = open(&files, &[]);
    let mut keys = Vec::new();
    for id in 0..1_000 {
        let message = message(&store, "a.1", &id.to_string());
        keys.extend(message.message_key);
        store.append(&[message]).now_or_never().unwrap().unwrap();
    }
    files.kill();
    drop(store);
    // Opening seals the rest.
    drop(open(&files, &[]));
    (files, keys)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_damaged_bit_costs_one_part_of_the_ids(
        places in prop::collection::vec((any::<prop::sample::Index>(), 0..8), 1..3),
    ) {
        let (files, keys) = sealed();
        files.damage(Path::new("/data/IDS"), |content| {
            for (at, bit) in &places {
                let at = at.index(content.len());
                content[at] ^= 1_u8 << bit;
            }
        });
        let store = open(&files, &[]);
        let known: Vec<_> = store.recent_ids().iter().map(|recent| recent.key).collect();
        let lost = keys.len() - known.len();
        prop_assert!(lost <= places.len() * format::IDS_PART_MAX, "{lost} are lost");
        prop_assert!(known.iter().all(|key| keys.contains(key)));
    }
}

#[test]
fn the_rest_of_a_file_of_ids_that_was_cut_is_kept() {
    let (files, keys) = sealed();
    files.damage(Path::new("/data/IDS"), |content| {
        content.truncate(content.len() * 2 / 3);
    });
    let store = open(&files, &[]);
    let known = store.recent_ids().len();
    assert!((keys.len() / 4..keys.len()).contains(&known), "{known}");
}
