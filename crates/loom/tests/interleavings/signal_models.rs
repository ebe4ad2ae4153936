//! `Signal`: a subscriber that sleeps is woken for everything that is published.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

use crate::explore;
use crate::signal::{Interest, Signal};
use crate::sync::{Mistake, Mutex};

/// A live tail and a session's owner each want something of one subscriber, which sleeps between.
fn a_subscriber() {
    let shared = Arc::new((Signal::default(), AtomicU64::new(0), AtomicU64::new(0)));
    let writer = Arc::clone(&shared);
    thread::spawn(move || {
        let (signal, published, _) = &*writer;
        for sequence in 1..=2 {
            published.store(sequence, Relaxed);
            signal.raise(Interest::Data);
        }
    });
    let owner = Arc::clone(&shared);
    thread::spawn(move || {
        let (signal, _, wanted) = &*owner;
        wanted.store(1, Relaxed);
        signal.raise(Interest::Control);
    });
    let (signal, published, wanted) = &*shared;
    let (mut read, mut told) = (0, 0);
    block_on(poll_fn(|cx| {
        if !Mistake::RegistersLate.is_planted() {
            signal.register(cx.waker());
        }
        if signal.take(Interest::Data) {
            read = published.load(Relaxed);
        }
        if signal.take(Interest::Control) {
            told = wanted.load(Relaxed);
        }
        if (read, told) == (2, 1) {
            return Poll::Ready(());
        }
        if Mistake::RegistersLate.is_planted() {
            signal.register(cx.waker());
        }
        Poll::Pending
    }));
}

#[test]
fn a_subscriber_is_woken_for_all_that_is_published_and_wanted() {
    explore(a_subscriber);
}

/// A live tail that leaves its reader out when it finds the mark of the event before, as `LiveTail::wake` does after more of
/// them, and a reader that does as `Cursor::poll_next`.
fn a_slow_subscriber() {
    let shared = Arc::new((Signal::default(), AtomicU64::new(0), Mutex::new(true)));
    let tail = Arc::clone(&shared);
    thread::spawn(move || {
        let (signal, visible, is_woken) = &*tail;
        for sequence in 1..=3 {
            visible.store(sequence, Relaxed);
            let mut is_woken = is_woken.lock();
            if *is_woken && !signal.raise(Interest::Data) && signal.leave_out() {
                *is_woken = false;
            }
        }
    });
    let (signal, visible, is_woken) = &*shared;
    block_on(poll_fn(|cx| {
        signal.register(cx.waker());
        if signal.take_data() && !Mistake::LeftOutForGood.is_planted() {
            *is_woken.lock() = true;
        }
        if visible.load(Relaxed) == 3 {
            return Poll::Ready(());
        }
        Poll::Pending
    }));
}

#[test]
fn a_subscriber_that_was_left_out_misses_nothing() {
    explore(a_slow_subscriber);
}
