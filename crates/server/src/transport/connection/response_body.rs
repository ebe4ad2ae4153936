//! A response body as a connection serves it.
//!
//! Most bodies are only asked for their frames. One that would do nothing for a long time but repeat what a live tail
//! says is a follower: it may show its cursor, and the connection reads for it.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use longlived_broker::{Cursor, Signal};
use tokio::time::Instant;

use super::Followed;

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
    /// What is to be followed with; `None` for a body that is only asked for its frames.
    fn follower(&mut self) -> Option<&mut dyn Follower> {
        None
    }

    /// Ready when its time is over and its reader was waited for long enough: the stream is reset. Asked while nothing can
    /// be sent, when the body is not asked for its frames.
    fn poll_late(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A body, or what is inside of one, that leaves its reading to the connection when it can.
pub trait Follower {
    /// The cursor of a body that was pending and has nothing else to say.
    fn cursor(&mut self) -> Option<&mut Cursor>;

    /// When a body that was pending wants to be asked again although nothing woke it; `spoke_at` is when something was
    /// last sent for it, if it follows. `None` is never.
    fn speaks(&self, spoke_at: Option<Instant>) -> Option<Speaks>;

    /// The piece that it has just given, with something behind it that makes it so large, if its contract has a word for
    /// that.
    fn larger(&mut self, piece: Bytes, bytes: usize) -> Bytes;

    /// From now on another reads for it; `reader` says how far that has come at least. The body is not asked for
    /// anything until `unfollow`.
    fn follow(&mut self, reader: &Arc<Signal>);

    /// It reads by itself again, and what was sent for it is this.
    fn unfollow(&mut self, followed: Followed);
}

/// Bodies of other makers are only asked for their frames.
impl ResponseBody for tonic::body::Body {}
