//! With any messages and any mishaps of the machine, reading gives the events of a `Vec`.

use proptest::prelude::*;

use super::*;
use crate::store::tests::properties::{Kind, hold, reading, steps};

proptest! {
    /// Sealed or not, before and after any number of restarts: reading gives the events of a filter over a `Vec`.
    #[test]
    fn reading_page_by_page_gives_the_events_of_a_filter_over_a_vec(
        steps in steps(), reading in reading(),
    ) {
        hold(Kind::Disk, steps, &reading)?;
    }

    /// After a power cut at any moment, with any part of the unsynced bytes: all acknowledged events are there, nothing
    /// else is, and no number is given out again.
    #[test]
    fn acknowledged_events_survive_every_power_cut(
        seed in any::<u64>(),
        rounds in prop::collection::vec(prop::collection::vec(1..40usize, 0..12), 1..6),
    ) {
        let mut state = seed;
        let mut random = move || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let files = MemoryFiles::new();
        let mut acknowledged = Vec::new();
        let mut attempted = 0;
        for batches in rounds {
            let store = open(&files, &[]);
            prop_assert!(store.last_sequence() >= attempted || acknowledged.last().is_none_or(|&l| store.last_sequence() >= l));
            for count in batches {
                let before = store.last_sequence();
                if random() % 8 == 0 {
                    files.set_faults(Faults { sync: true, bytes_left: None });
                }
                let topics: Vec<_> = (0..count).map(|_| TOPICS[random() as usize % TOPICS.len()]).collect();
                if append(&store, &topics).is_ok() {
                    acknowledged.extend(before + 1..=before + count as u64);
                }
                attempted = before + count as u64;
                if random() % 3 == 0 {
                    store.trim();
                }
            }
            files.set_faults(Faults::default());
            files.cut_power(&mut random);
            drop(store);
        }
        let store = open(&files, &[]);
        let filters = [(">", 0), ("inbox.1", 0)];
        let (found, damaged) = read_all(&store, &filters, 0, 1 << 20);
        prop_assert_eq!(damaged, vec![], "a torn write is no damage");
        let missing: Vec<_> = acknowledged.iter().filter(|s| !found.contains(s)).collect();
        prop_assert!(missing.is_empty(), "missing {:?} of {:?}", missing, found);
    }

    /// One flipped byte anywhere in the data: every event is delivered or announced, and no event is both or wrong.
    #[test]
    fn damage_is_announced_and_costs_nothing_else(
        batches in prop::collection::vec(prop::collection::vec(0..TOPICS.len(), 1..30), 5..40),
        file in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        restart in any::<bool>(),
        filter in prop::sample::select(vec![">", "a.*", "a.1", "b.>"]),
    ) {
        let files = MemoryFiles::new();
        let mut store = open(&files, &[("a.>", 10_000)]);
        let mut log = Vec::new();
        for batch in batches {
            let topics: Vec<_> = batch.into_iter().map(|index| TOPICS[index]).collect();
            append(&store, &topics).unwrap();
            log.extend(topics);
            store.trim();
        }
        let mut paths = Vec::new();
        for dir in ["/data/log", "/data/sealed"] {
            let names = files.list(Path::new(dir)).unwrap();
            paths.extend(names.into_iter().map(|name| Path::new(dir).join(name)));
        }
        let path = &paths[file.index(paths.len())];
        let damage = |content: &mut Vec<u8>| {
            // Events that were never written do not count.
            let used = content.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            if used > 64 {
                let at = 64 + place.index(used - 64);
                content[at] ^= 0x5a;
            }
        };
        if restart {
            files.kill();
            drop(store);
            files.damage(path, damage);
            store = open(&files, &[("a.>", 10_000)]);
            prop_assert!(store.last_sequence() >= log.len() as u64, "no number is given out again");
        } else {
            files.damage(path, damage);
            store.shared.blocks.clear();
            store.shared.postings.clear();
        }
        let (found, damaged) = read_all(&store, &[(filter, 0)], 0, 5_000);
        let parsed = TopicFilter::parse(filter).unwrap();
        for (index, topic) in log.iter().enumerate() {
            let sequence = index as u64 + 1;
            let delivered = found.contains(&sequence);
            let announced = damaged.iter().any(|range| range.after < sequence && sequence <= range.through);
            if parsed.matches(topic) {
                prop_assert!(delivered != announced, "{} delivered {} announced {}", sequence, delivered, announced);
            } else {
                prop_assert!(!delivered);
            }
        }
        // Messages published after it are as ever.
        let before = store.last_sequence();
        append(&store, &["a.1", "b.1"]).unwrap();
        let (found, damaged) = read_all(&store, &[(">", before)], before, 5_000);
        prop_assert_eq!(found, vec![before + 1, before + 2]);
        prop_assert_eq!(damaged, vec![]);
    }
}
