//! A way to end a response from outside its body.
//!
//! Holds: the stream is reset within one poll of its connection, also while flow control keeps its body from
//! being polled.
//! Does not: say why; that belongs into the call's record before.

use std::fmt;
use std::sync::Arc;

use super::sync::{AtomicBool, Mutex, Ordering};
use super::wake_set::StreamWaker;

/// The state behind a `StreamAbort`. A struct that every response has anyway can hold it (`StreamAbort::within`).
#[derive(Debug, Default)]
pub struct AbortFlag {
    /// Written by whoever aborts, before it looks for the stream.
    aborted: AtomicBool,
    /// Written by the connection when the response is there.
    stream: Mutex<Option<Arc<StreamWaker>>>,
}

impl AbortFlag {
    /// For one response.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resets the stream (`RST_STREAM(CANCEL)`), from any thread, any number of times.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        let stream = self.stream.lock().take();
        if let Some(stream) = stream {
            stream.abort();
        }
    }

    /// Whether `abort` was called.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }
}

impl AsRef<AbortFlag> for AbortFlag {
    fn as_ref(&self) -> &AbortFlag {
        self
    }
}

/// Lets the connection see an `AbortFlag`. Put it into `response.extensions_mut()`; a body that already ended is
/// not harmed by it.
#[derive(Clone)]
pub struct StreamAbort(Arc<dyn AsRef<AbortFlag> + Send + Sync>);

impl StreamAbort {
    /// With a flag of its own.
    pub fn new() -> Self {
        Self(Arc::new(AbortFlag::new()))
    }

    /// With the flag in `owner`, which saves an allocation and a line of cache per stream.
    pub fn within<T: AsRef<AbortFlag> + Send + Sync + 'static>(owner: Arc<T>) -> Self {
        Self(owner)
    }

    /// As `AbortFlag::abort`.
    pub fn abort(&self) {
        self.flag().abort();
    }

    /// As `AbortFlag::is_aborted`.
    pub fn is_aborted(&self) -> bool {
        self.flag().is_aborted()
    }

    /// `abort` tells `stream`; at once if it was called before.
    pub(super) fn register(&self, stream: &Arc<StreamWaker>) {
        let flag = self.flag();
        let mut registered = flag.stream.lock();
        // Whoever aborts from here on takes it out again.
        if flag.is_aborted() {
            stream.abort();
        } else {
            *registered = Some(Arc::clone(stream));
        }
    }

    fn flag(&self) -> &AbortFlag {
        (*self.0).as_ref()
    }
}

impl Default for StreamAbort {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StreamAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamAbort").field(self.flag()).finish()
    }
}
