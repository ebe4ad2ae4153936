//! `WakeSet`: of many streams that share words, each that was woken is polled.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

use crate::explore;
use crate::wake_set::{BLOCK, WakeSet};
use crate::wakes::{SOCKET, STREAMS, Wakes};
use crate::wakes_models::{Ends, run};

/// Two streams, whose slots are so far apart, are woken by threads of their own. A turn polls one stream and puts the others
/// back.
fn two_streams(apart: usize) {
    let wakes = Wakes::new();
    let mut set = WakeSet::new(wakes.streams.clone());
    let come = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let slots = [0, apart];
    for (stream, slot) in slots.into_iter().enumerate() {
        let (wake_up, come) = (set.waker(slot), Arc::clone(&come));
        thread::spawn(move || {
            come[stream].store(1, Relaxed);
            wake_up.raise();
        });
    }
    let mut read = [0, 0];
    run(&wakes, Ends::Asking, |wakes| {
        wakes.take(SOCKET);
        if wakes.take(STREAMS) != 0 {
            let mut polled = false;
            for (stream, slot) in slots.into_iter().enumerate() {
                let (block, bit) = (slot / BLOCK, 1 << (slot % BLOCK));
                if set.take(block, bit) == 0 {
                    continue;
                }
                if polled {
                    set.put_back(block, bit);
                    wakes.mark(STREAMS);
                    continue;
                }
                polled = true;
                read[stream] = come[stream].load(Relaxed);
            }
            if slots.iter().any(|slot| set.woken(slot / BLOCK) != 0) {
                wakes.mark(STREAMS);
            }
        }
        read == [1, 1]
    });
}

#[test]
fn streams_that_share_a_word_are_all_polled() {
    explore(|| two_streams(1));
}

#[test]
fn streams_in_two_words_are_all_polled() {
    explore(|| two_streams(BLOCK));
}
