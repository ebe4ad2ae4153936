//! A response body as a connection serves it.
//!
//! Most bodies are only asked for their frames. One that would do nothing for a long time but say what others say too is
//! a follower: it leaves its reading to a reader that all of them share.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::Followed;
use super::shared_reader::{NotShared, SharedReader};

/// When a body has something to say because it was silent for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// It may be asked from here on ...
    pub from: Instant,
    /// ... and is by then.
    pub until: Instant,
}

/// What a connection can serve.
pub trait ResponseBody: Body<Data = Bytes> + Unpin {
    /// What reads for several of them; [`NotShared`] where each reads for itself.
    type Reader: SharedReader;

    /// The body as one that may follow a reader; `None` for a body that is only asked for its frames.
    fn follower(&mut self) -> Option<&mut dyn Follower<Self::Reader>> {
        None
    }

    /// Ready when its time is over and its reader was waited for long enough: the stream is reset. Asked while nothing can
    /// be sent, when the body is not asked for its frames.
    fn poll_late(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A body, or what is inside of one, that leaves its reading to a shared reader when it can.
pub trait Follower<R: SharedReader> {
    /// What a reader could read for it; `None` when it had better read for itself. Asked of a body that was pending.
    fn source(&self) -> Option<R::Source<'_>>;

    /// A new reader of its source.
    fn reader(&self) -> Option<R>;

    /// Leaves the reading to `reader`; whether it can, which is so when both have come equally far. From then on the body
    /// is not asked for anything until `unfollow`.
    fn follow(&mut self, reader: &mut R) -> bool;

    /// It reads for itself again, and what was sent for it is this.
    fn unfollow(&mut self, followed: Followed);

    /// When a body that was pending wants to be asked again although nothing woke it; `spoke_at` is when something was
    /// last sent for it, if it follows. `None` is never.
    fn speaks(&self, spoke_at: Option<Instant>) -> Option<Speaks>;

    /// The piece that it has just given, with something behind it that makes it so large, if its contract has a word for
    /// that.
    fn larger(&mut self, piece: Bytes, bytes: usize) -> Bytes;
}

/// Bodies of other makers are only asked for their frames.
impl ResponseBody for tonic::body::Body {
    type Reader = NotShared;
}
