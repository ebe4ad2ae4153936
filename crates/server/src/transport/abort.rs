//! A way to end a stream from outside its body: that of a reader that stalls, of a call whose deadline is over, of a
//! subscriber that was told to go and does not receive it.
//!
//! A body is not polled while flow control holds it back, on any transport, so it cannot end itself then. Each
//! transport puts a [`StreamAbort`] into the extensions of each request, made of its own handle for the stream. Our
//! HTTP/2 resets the one stream. A connection with one response at a time, as HTTP/1.1, waits for a
//! [`CancellationToken`] beside the response and closes.
//!
//! Does not: give a reason; that belongs into the call's record before. Nor wait for the end of the stream.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// The handle by which a transport ends a stream.
pub trait Abort: Send + Sync {
    /// Has the stream ended soon, also while its reader takes nothing. Called from any thread, any number of times, also
    /// when the stream is over.
    fn abort(&self);
}

/// For a task that selects between serving the stream and `cancelled()`.
impl Abort for CancellationToken {
    fn abort(&self) {
        self.cancel();
    }
}

/// Ends one stream; clones end the same one.
#[derive(Clone)]
pub struct StreamAbort(Arc<dyn Abort>);

impl StreamAbort {
    /// By the transport's own state of the stream, which saves an allocation.
    pub fn of(stream: Arc<impl Abort + 'static>) -> Self {
        Self(stream)
    }

    /// As [`Abort::abort`].
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl fmt::Debug for StreamAbort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamAbort").finish_non_exhaustive()
    }
}
