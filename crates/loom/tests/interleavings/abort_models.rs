//! `AbortFlag`: a response that is aborted from outside is reset, also when nobody knew its stream yet.

use std::sync::Arc;

use loom::thread;

use crate::abort::{AbortFlag, StreamAbort};
use crate::explore;
use crate::wake_set::WakeSet;
use crate::wakes::{SOCKET, STREAMS, Wakes};
use crate::wakes_models::{Ends, run};

/// Two threads abort a response while its connection registers the stream.
fn a_response() {
    let wakes = Wakes::new();
    let mut set = WakeSet::new(wakes.streams.clone());
    let stream = set.waker(0);
    let flag = Arc::new(AbortFlag::new());
    for _ in 0..2 {
        let flag = Arc::clone(&flag);
        thread::spawn(move || flag.abort());
    }
    StreamAbort::within(flag).register(&stream);
    run(&wakes, Ends::Asking, |wakes| {
        wakes.take(SOCKET);
        wakes.take(STREAMS) && set.take(0, 1) != 0 && stream.is_aborted()
    });
}

#[test]
fn a_response_that_is_aborted_is_reset() {
    explore(a_response);
}
