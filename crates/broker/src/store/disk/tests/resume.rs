//! The cost of a resume: reads of the delivered events, with any number of others in the store.

use super::*;

const EVENTS: usize = 4_000;
/// One event in this number goes to `one`, and as many to the topics of `few`, one each.
const RARE_ONE_IN: usize = 400;
const DELIVERED: usize = EVENTS / RARE_ONE_IN;
const PAYLOAD_BYTES: usize = 1 << 10;
/// So that each sealed file has several blocks.
const SEGMENT_BYTES: u64 = 256 << 10;

fn topic_of(number: usize) -> String {
    match number % RARE_ONE_IN {
        100 => "one".to_owned(),
        300 => format!("few.{}", number / RARE_ONE_IN),
        _ => format!("many.{}", number % 50),
    }
}

fn open_large(files: &MemoryFiles) -> DiskStore {
    let config = DiskConfig {
        segment_bytes: SEGMENT_BYTES,
        ..config()
    };
    let files = Arc::new(files.clone());
    DiskStore::open_with(files, config, environment(), retention(&[]), 1_000).unwrap()
}

/// Many sealed files on a disk that nothing was read from yet.
fn filled(files: &MemoryFiles) -> DiskStore {
    let store = open_large(files);
    let numbers: Vec<_> = (0..EVENTS).collect();
    for batch in numbers.chunks(40) {
        let messages = batch.iter().map(|&number| {
            let message = message(&store, &topic_of(number), "");
            let payload = vec![b'x'; PAYLOAD_BYTES].into();
            let message = Message {
                payload,
                ..message.message
            };
            NewMessage {
                topic: store.topic_id(&message.topic).unwrap(),
                message_key: None,
                message,
            }
        });
        let messages: Vec<_> = messages.collect();
        store.append(&messages).now_or_never().unwrap().unwrap();
        store.trim();
    }
    files.kill();
    drop(store);
    let store = open_large(files);
    assert_eq!(store.shared.history.read().sealed_through, EVENTS as u64);
    assert_eq!(store.stats().unwrap().reads, 0, "nobody has read yet");
    store
}

/// Sealed files, and the blocks in them.
fn sizes(store: &DiskStore) -> (usize, usize) {
    let history = store.shared.history.read();
    let files = history.classes.iter().flat_map(|class| class.files.iter());
    files.fold((0, 0), |(files, blocks), file| {
        (files + 1, blocks + file.blocks.len())
    })
}

#[test]
fn a_resume_reads_the_delivered_events_and_no_others() {
    for filter in ["one", "few.*"] {
        let files = MemoryFiles::new();
        let store = filled(&files);
        let (files, blocks) = sizes(&store);
        let reads_max = DELIVERED + files;
        assert!(files > 10 && blocks > 3 * reads_max, "{files}, {blocks}");
        let wanted = TopicFilter::parse(filter).unwrap();
        let matches = |&number: &usize| wanted.matches(&topic_of(number));
        let expected: Vec<_> = (0..EVENTS).filter(matches).map(|n| n as u64 + 1).collect();
        assert_eq!(expected.len(), DELIVERED);

        let mut found = Vec::new();
        let mut at = 0;
        while at < store.last_sequence() {
            let page = read(&store, &[(filter, 0)], at, 64 << 10);
            let entries = page.slices.iter().flat_map(Slice::entries);
            found.extend(entries.map(|entry| entry.sequence));
            at = page.through;
        }
        assert_eq!(found, expected);
        let reads = store.stats().unwrap().reads;
        assert!(
            reads <= reads_max as u64,
            "{filter}: {reads} reads for {DELIVERED} events in {files} files of {blocks} blocks"
        );
        assert!(reads > 0, "they come from the disk");
    }
}
