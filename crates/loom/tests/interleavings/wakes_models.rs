//! `Wakes`: a connection's task looks at each source that was woken before it sleeps.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

use crate::explore;
use crate::sync::Mistake;
use crate::wakes::{CONTROL, GROUPS, GroupWakes, SOCKET, STREAMS, Wakes};

/// How a task's turn ends when it has nothing more to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It sleeps if nothing is ready.
    Asking,
    /// Its first turn ends before it has looked at anything.
    GivingWay,
}

/// Runs a connection's task until `is_done`, which looks at the sources and says whether everything has come.
pub(crate) fn run(wakes: &Wakes, ends: Ends, mut is_done: impl FnMut(&Wakes) -> bool) {
    let mut gives_way = ends == Ends::GivingWay;
    block_on(poll_fn(|cx| {
        wakes.begin(cx.waker());
        if std::mem::take(&mut gives_way) {
            wakes.give_way(cx.waker());
            return Poll::Pending;
        }
        loop {
            wakes.take(CONTROL);
            if is_done(wakes) {
                return Poll::Ready(());
            }
            if wakes.end() || Mistake::SleepsWithoutAsking.is_planted() {
                return Poll::Pending;
            }
        }
    }));
}

/// One thread has something for the streams, another for the socket.
fn two_sources(ends: Ends) {
    let wakes = Wakes::new();
    let come = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let (wake_up, of_streams) = (wakes.streams.clone(), Arc::clone(&come));
    thread::spawn(move || {
        of_streams.0.store(1, Relaxed);
        wake_up.wake();
    });
    let (wake_up, of_socket) = (wakes.socket.clone(), Arc::clone(&come));
    thread::spawn(move || {
        of_socket.1.store(1, Relaxed);
        wake_up.wake();
    });
    let (mut streams, mut socket) = (0, 0);
    run(&wakes, ends, |wakes| {
        if wakes.take(STREAMS) != 0 {
            streams = come.0.load(Relaxed);
        }
        if wakes.take(SOCKET) != 0 {
            socket = come.1.load(Relaxed);
        }
        (streams, socket) == (1, 1)
    });
}

/// Two groups are woken by threads of their own.
fn two_groups() {
    let wakes = Wakes::new();
    let groups = wakes.groups();
    let come = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    for group in 0..2 {
        let (wake_up, come) = (groups.waker(group), Arc::clone(&come));
        thread::spawn(move || {
            come[group].store(1, Relaxed);
            wake_up.wake();
        });
    }
    let mut read = [0, 0];
    run(&wakes, Ends::Asking, |wakes| {
        wakes.take(STREAMS | SOCKET);
        if wakes.take(GROUPS) != 0 {
            let woken = groups.take();
            for group in 0..2 {
                if woken & GroupWakes::bit(group) != 0 {
                    read[group] = come[group].load(Relaxed);
                }
            }
        }
        read == [1, 1]
    });
}

#[test]
fn a_task_looks_at_every_source_that_was_woken() {
    explore(|| two_sources(Ends::Asking));
}

#[test]
fn a_task_that_gives_way_looks_at_every_source_that_was_woken() {
    explore(|| two_sources(Ends::GivingWay));
}

#[test]
fn every_group_that_was_woken_is_polled() {
    explore(two_groups);
}
