//! `StreamWaker::abort`: a stream that is aborted from outside is reset, however often and by whom.

use std::sync::Arc;

use loom::thread;

use crate::explore;
use crate::wake_set::WakeSet;
use crate::wakes::{SOCKET, STREAMS, Wakes};
use crate::wakes_models::{Ends, run};

/// Two threads abort a stream, which its connection polls when it is woken and not otherwise.
fn a_stream() {
    let wakes = Wakes::new();
    let mut set = WakeSet::new(wakes.streams.clone());
    let stream = set.waker(0);
    for _ in 0..2 {
        let stream = Arc::clone(&stream);
        thread::spawn(move || stream.abort());
    }
    run(&wakes, Ends::Asking, |wakes| {
        wakes.take(SOCKET);
        wakes.take(STREAMS) != 0 && set.take(0, 1) != 0 && stream.is_aborted()
    });
}

#[test]
fn a_stream_that_is_aborted_is_reset() {
    explore(a_stream);
}
