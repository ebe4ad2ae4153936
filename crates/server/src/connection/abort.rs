//! A way to end a response from outside its body.
//!
//! Holds: the stream is reset within one poll of its connection, also while flow control keeps its body from
//! being polled.
//! Does not: say why; that belongs into the call's record before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// Resets one response stream (`RST_STREAM(CANCEL)`). Put a clone into `response.extensions_mut()`; a body that
/// already ended is not harmed by it.
#[derive(Clone, Debug, Default)]
pub struct StreamAbort(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Written by whoever aborts, read by the connection.
    aborted: AtomicBool,
    /// Written by the connection, taken by whoever aborts.
    stream: AtomicWaker,
}

impl StreamAbort {
    /// For one response.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resets the stream, from any thread, any number of times.
    pub fn abort(&self) {
        self.0.aborted.store(true, Ordering::Release);
        self.0.stream.wake();
    }

    /// Whether `abort` was called.
    pub fn is_aborted(&self) -> bool {
        self.0.aborted.load(Ordering::Acquire)
    }

    /// `is_aborted`, and otherwise `waker` is woken when it becomes so.
    pub(super) fn poll_aborted(&self, waker: &Waker) -> bool {
        if self.is_aborted() {
            return true;
        }
        self.0.stream.register(waker);
        // Between the first look and the registration it may have been set without anybody to wake.
        self.is_aborted()
    }
}
