//! A response body as a connection serves it.
//!
//! Most bodies are only asked for their frames. One that would do nothing for a long time but repeat what a live tail
//! says may show its cursor, and the connection reads for it.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use longlived_broker::{Cursor, Signal};

use super::Followed;

/// What a connection can serve. All of it is optional.
pub trait ResponseBody: Body<Data = Bytes> + Unpin {
    /// The cursor of a body that was pending and has nothing else to say.
    fn cursor(&mut self) -> Option<&mut Cursor> {
        None
    }

    /// From now on another reads for it; `reader` says how far that has come at least. The body is not asked for
    /// anything until `unfollow`.
    fn follow(&mut self, _reader: &Arc<Signal>) {}

    /// It reads by itself again, and what was sent for it is this.
    fn unfollow(&mut self, _followed: Followed) {}
}

/// Bodies of other makers are only asked for their frames.
impl ResponseBody for tonic::body::Body {}
