//! The reader that streams of a connection share when they send the same: it is asked once for all of them.
//!
//! Does not: know its source; the bodies of the service do.

use std::task::{Context, Poll};

use bytes::Bytes;

/// Reads for several streams that say the same.
pub trait SharedReader: Send + 'static {
    /// The source. Streams of the same source may have one reader.
    type Source<'a>: PartialEq;

    /// The source of this reader.
    fn source(&self) -> Self::Source<'_>;

    /// The next piece for all its streams, of at most `bytes_max` or one event. Pending means that there is none yet, and that the
    /// waker is woken when that changes. `None` means that the reader cannot go on for all: each stream reads for itself again.
    fn poll_next(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<Option<SharedPiece>>;

    /// The position of a stream that got every piece so far.
    fn position(&self) -> u64;

    /// Every piece so far was sent to all its streams.
    fn settle(&self);

    /// Flow control holds its last piece, if `sending`, or else keeps it from being polled.
    fn hold(&self, sending: bool);
}

/// The same bytes for each stream of a reader.
#[derive(Debug)]
pub struct SharedPiece {
    /// The piece to send.
    pub bytes: Bytes,
    /// How many events that is.
    pub events: u64,
    /// The position of a stream that has not got it.
    pub after: u64,
}

/// The reader of bodies that share nothing: there is none.
#[derive(Debug)]
pub enum NotShared {}

impl SharedReader for NotShared {
    type Source<'a> = ();

    fn source(&self) {
        match *self {}
    }

    fn poll_next(&mut self, _: &mut Context<'_>, _bytes_max: usize) -> Poll<Option<SharedPiece>> {
        match *self {}
    }

    fn position(&self) -> u64 {
        match *self {}
    }

    fn settle(&self) {
        match *self {}
    }

    fn hold(&self, _sending: bool) {
        match *self {}
    }
}
