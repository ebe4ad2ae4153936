//! One reader of a live tail for many cursors that stand at the same place.
//!
//! A hundred subscribers of one topic on one connection want the same bytes at the same time. If each reads for itself,
//! each costs a wake-up, a look at the tail and the memory of its cursor. So the cursors at rest leave the reading to
//! one [`TailReader`]. A cursor reads for itself again when it has something of its own to do or to send.
//!
//! Holds: a reader takes over a cursor only while the cursor has nothing to read. From then on the reader hands out
//! exactly the events that the cursor would have.
//! Does not: read history. A reader that fell behind the tail ends, and each of its cursors goes on by itself.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{Cursor, taken::Taken};
use crate::{
    frame::{Compression, Encoding},
    live_tail::{Attachment, LiveTail},
    log::Log,
    position::Sequence,
    signal::Signal,
};

/// Reads one live tail for all its followers.
pub struct TailReader {
    log: Log,
    attachment: Attachment,
    signal: Arc<Signal>,
    position: Sequence,
    encoding: Encoding,
    compression: Compression,
    message_bytes_max: u32,
}

/// The same frames for every follower.
#[derive(Debug)]
pub struct SharedDelivery {
    /// The frames, one after the other.
    pub bytes: Bytes,
    /// How many.
    pub count: usize,
    /// Where a follower stands that has not got them.
    pub after: Sequence,
}

impl TailReader {
    /// The next delivery, of at most `bytes_max` or one event, asked for when all that was handed out is sent. Pending means that there is
    /// none, and that the waker is woken when there is. `None` means that the reader cannot go on for all followers: the next event is no longer
    /// in the tail, or too large for some.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<Option<SharedDelivery>> {
        self.signal.register(cx.waker());
        if self.signal.take_data() {
            self.attachment.rejoin();
        }
        let visible = self.log.visible();
        if visible <= self.position {
            self.settle();
            return Poll::Pending;
        }
        let tail = self.attachment.tail();
        let mut taken = Taken::default();
        let Ok(anything) = taken.take(tail, self.position, visible, bytes_max) else {
            return Poll::Ready(None);
        };
        if !anything {
            self.position = visible;
            self.settle();
            return Poll::Pending;
        }
        if !taken.is_plain(self.message_bytes_max, self.encoding) {
            return Poll::Ready(None);
        }
        let compressor = self.log.compressor();
        let shared = SharedDelivery {
            bytes: compressor.join(&taken.run, self.encoding, self.compression),
            count: taken.count(),
            after: self.position,
        };
        self.position = taken.through;
        Poll::Ready(Some(shared))
    }

    /// Where a follower stands that has got everything handed out.
    pub fn position(&self) -> Sequence {
        self.position
    }

    /// Everything handed out is on its way to all followers; a question about one of them may be answered so.
    pub fn settle(&self) {
        self.signal.set_sequence(self.position);
    }

    /// Flow control holds the last piece, if `sending`, or else the pending events. The signal says so until the reader
    /// is settled or asked again.
    pub fn hold(&self, sending: bool) {
        if sending || self.attachment.tail().has_after(self.position) {
            self.signal.hold(self.log.age());
        }
    }

    /// Says where the followers stand at least.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// The tail that it reads.
    pub fn source(&self) -> TailSource<'_> {
        TailSource {
            tail: self.attachment.tail(),
            encoding: self.encoding,
            compression: self.compression,
            message_bytes_max: self.message_bytes_max,
        }
    }
}

/// The part of one live tail that a cursor reads. One reader may read for all cursors with an equal value.
#[derive(Clone, Copy)]
pub struct TailSource<'a> {
    tail: &'a Arc<LiveTail>,
    encoding: Encoding,
    compression: Compression,
    message_bytes_max: u32,
}

impl PartialEq for TailSource<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.tail, other.tail)
            && self.encoding == other.encoding
            && self.compression == other.compression
            && self.message_bytes_max == other.message_bytes_max
    }
}

impl Cursor {
    /// The live tail that is the only source of this cursor, if it has nothing else to do and others read there too.
    fn shareable(&self) -> Option<&Arc<LiveTail>> {
        let [feed] = self.feeds.as_slice() else {
            return None;
        };
        let tail = feed.attachment.tail();
        let at_rest = !self.catching_up
            && self.history.is_none()
            && self.reset_gap.is_none()
            && self.waiting.is_none()
            && !tail.has_after(self.position);
        (at_rest && tail.reader_count() > 1).then_some(tail)
    }

    /// The source that a reader could read for this cursor; `None` when the cursor had better read by itself.
    pub fn source(&self) -> Option<TailSource<'_>> {
        self.shareable().map(|tail| TailSource {
            tail,
            encoding: self.options.encoding,
            compression: self.options.compression,
            message_bytes_max: self.options.message_bytes_max,
        })
    }

    /// A reader that this cursor could follow; `None` when it had better read by itself.
    pub fn tail_reader(&self) -> Option<TailReader> {
        let tail = self.shareable()?;
        let signal = Arc::new(Signal::default());
        signal.set_sequence(self.position);
        Some(TailReader {
            log: self.log.clone(),
            attachment: tail.attach_shared(&signal)?,
            signal,
            position: self.position,
            encoding: self.options.encoding,
            compression: self.options.compression,
            message_bytes_max: self.options.message_bytes_max,
        })
    }

    /// Leaves the reading to `reader`; whether it can, which is so only when both have all that the tail holds. From
    /// then on, and until [`unfollow`](Self::unfollow), this cursor must not be asked for anything.
    pub fn follow(&mut self, reader: &mut TailReader) -> bool {
        // Asked after the reader was attached: later events are the reader's.
        let both_have_all = self.source().is_some_and(|source| {
            source == reader.source() && !source.tail.has_after(reader.position)
        });
        if both_have_all {
            reader.position = reader.position.max(self.position);
            self.position = reader.position;
            self.feeds[0].attachment.rest();
        }
        both_have_all
    }

    /// Reads by itself again, having got everything up to `position`.
    pub fn unfollow(&mut self, position: Sequence) {
        self.position = self.position.max(position);
        self.signal.set_sequence(self.position);
        self.feeds.iter().for_each(|feed| feed.attachment.rejoin());
    }
}
