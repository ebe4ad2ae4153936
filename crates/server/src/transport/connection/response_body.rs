//! A response body as a connection serves it.
//!
//! Most bodies are only polled for their frames. A body that sends the same as others for a long time is a follower: it
//! leaves the reading to a reader that they share.

use std::error::Error;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tokio::time::Instant;

use super::Followed;
use super::shared_reader::{NotShared, SharedReader};

/// When a body sends a heartbeat, if nothing else is sent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The earliest: streams of a connection fall into step.
    pub from: Instant,
    /// The latest.
    pub until: Instant,
}

/// The body of a response.
pub trait ResponseBody:
    Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin
{
    /// Reads for several of them; [`NotShared`] where each reads for itself.
    type Reader: SharedReader;

    /// The body as a follower; `None` for a body that is only polled for its frames.
    fn follower(&mut self) -> Option<&mut dyn Follower<Self::Reader>> {
        None
    }

    /// Whether what it says counts against a budget of its own, and not against the caps on what calls hold.
    fn has_budget(&self) -> bool {
        false
    }

    /// Goes on with work that needs no response, such as reading further requests, while nothing of the response can be
    /// sent and the body is not polled for its frames. Called when that begins, and whenever the waker of `cx` was
    /// woken meanwhile. Ready when the next frame is the trailers, which need no window.
    fn poll_while_blocked(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A body, or an inner part of one, that can leave its reading to a shared reader.
pub trait Follower<R: SharedReader> {
    /// Its source, if a reader can read that for it. Asked of a body that was pending.
    fn source(&self) -> Option<R::Source<'_>>;

    /// A new reader of its source.
    fn reader(&self) -> Option<R>;

    /// Leaves the reading to `reader`; whether it can, which is so when both have come equally far. From then on the body
    /// is not polled until `unfollow`.
    fn follow(&mut self, reader: &mut R) -> bool;

    /// It reads for itself again; `followed` tells the bytes that were sent for it.
    fn unfollow(&mut self, followed: Followed);

    /// Flow control holds a part of its last piece, if `sending`, or else keeps it from being polled. It is polled when that
    /// is over.
    fn hold(&self, sending: bool);

    /// The reader takes this number of bytes now. What the body gives next is about as much, so that little of it has to wait.
    fn set_capacity(&mut self, bytes: usize);

    /// The reader takes nothing, perhaps for long: what was read ahead for it is let go.
    fn drop_page(&mut self);

    /// When a body that was pending sends a heartbeat; `None` for a body that sends none. `last_sent_at` is when an event was
    /// last sent for it, if it follows.
    fn heartbeat(&self, last_sent_at: Option<Instant>) -> Option<Heartbeat>;

    /// The piece that it has just given, with padding that makes it `bytes` long, if its contract has padding.
    fn larger(&mut self, piece: Bytes, bytes: usize) -> Bytes;
}

/// Bodies of other makers are only polled for their frames.
impl ResponseBody for tonic::body::Body {
    type Reader = NotShared;
}
