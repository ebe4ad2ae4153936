//! Frames of responses. Nothing is queued here: what a window does not allow stays with the caller.

use super::Connection;
use super::flow::{stream_window, usable};
use crate::frame;
use crate::hpack;
use crate::output::Output;
use crate::slot::Slot;

/// The payload of a DATA frame, at most: a peer that reads several streams sees each of them in turn. It is the size that
/// every peer takes (RFC 9113, 4.2).
pub const DATA_BYTES_MAX: usize = frame::SIZE_MIN as usize;

/// Frames that [`Connection::data_by_reference`] makes heads for at once.
pub const HEADS_MAX: usize = 4;

/// The heads of DATA frames, whose payloads are [`DATA_BYTES_MAX`] bytes each and the last what is left.
#[derive(Debug, Default)]
pub struct Heads {
    bytes: [[u8; frame::HEAD_BYTES]; HEADS_MAX],
    count: usize,
}

impl Heads {
    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[..self.count].iter().map(|head| &head[..])
    }
}

impl<V> Connection<V> {
    /// Sends the head of the response: a block of [`encode`](crate::hpack::encode). With `end` the response has no content and no
    /// trailers. The answer to a HEAD request always ends here.
    pub fn respond(&mut self, slot: Slot, block: &[u8], end: bool, out: &mut Output) {
        let end = end || self.streams.get(slot).head_request;
        self.headers(slot, block, end, out);
    }

    /// Sends an informational response (8.1), such as 100.
    pub fn inform(&mut self, slot: Slot, block: &[u8], out: &mut Output) {
        self.headers(slot, block, false, out);
    }

    /// Ends the response with trailers.
    pub fn trailers(&mut self, slot: Slot, block: &[u8], out: &mut Output) {
        if !self.streams.get(slot).response_ended {
            self.headers(slot, block, true, out);
        }
    }

    fn headers(&mut self, slot: Slot, block: &[u8], end: bool, out: &mut Output) {
        let stream = self.streams.get_mut(slot);
        debug_assert!(!stream.response_ended, "a response ends once");
        stream.response_ended = end;
        let id = stream.id;
        // The first block says that the table has no entries: some peers refuse other sizes later (RFC 7541, 4.2).
        let first: &[u8] = if std::mem::replace(&mut self.block_sent, true) {
            &[]
        } else {
            &[hpack::encode::TABLE_SIZE_ZERO]
        };
        frame::headers(out, id, (first, block), end, self.peer.frame_size_max);
    }

    /// Sends as much of `bytes` as the windows allow, and says how much that is. With `end`, the response ends with the last of them.
    /// If some are left, [`next_writable`](Self::next_writable) names the stream when it may go on.
    pub fn data(&mut self, slot: Slot, bytes: &[u8], end: bool, out: &mut Output) -> usize {
        self.data_and_value(slot, bytes, end, out).0
    }

    /// As [`data`](Self::data), for a caller that counts what was sent with its value: a delivery looks a stream up once.
    pub fn data_and_value(
        &mut self,
        slot: Slot,
        bytes: &[u8],
        end: bool,
        out: &mut Output,
    ) -> (usize, &mut V) {
        let (initial, connection) = (self.peer.initial_window, self.send_window);
        let stream = self.streams.get_mut(slot);
        let window = usable(stream_window(initial, stream), connection);
        let mut sent = bytes.len();
        if sent <= window.min(DATA_BYTES_MAX) && sent > 0 && !stream.response_ended {
            // Most of what is sent goes whole into one frame.
            stream.response_ended = end;
            stream.send_offset -= (sent as u32).cast_signed();
            self.send_window = connection - sent as u32;
            frame::data(out, stream.id, bytes, end);
        } else {
            sent = self.data_in_parts(slot, bytes, end, out);
        }
        (sent, self.value_mut(slot))
    }

    fn data_in_parts(&mut self, slot: Slot, bytes: &[u8], end: bool, out: &mut Output) -> usize {
        let sent = self.send_window(slot).min(bytes.len());
        let stream = self.streams.get_mut(slot);
        if stream.response_ended {
            // The answer to HEAD has no content.
            debug_assert!(stream.head_request, "a response ends once");
            return bytes.len();
        }
        let ends = end && sent == bytes.len();
        stream.response_ended = ends;
        let id = stream.id;
        let mut rest = &bytes[..sent];
        while rest.len() > DATA_BYTES_MAX {
            let (part, after) = rest.split_at(DATA_BYTES_MAX);
            frame::data(out, id, part, false);
            rest = after;
        }
        if !rest.is_empty() || ends {
            frame::data(out, id, rest, ends);
        }
        self.use_send_window(slot, sent);
        if sent < bytes.len() {
            self.wait_for_window(slot);
        }
        sent
    }

    /// Sends as much of `bytes` as the windows allow, at most [`HEADS_MAX`] frames, without copying them: the caller writes each head, and after it
    /// the bytes that it is about, before anything else. Says how much of `bytes` that is, and the stream's value.
    pub fn data_by_reference(
        &mut self,
        slot: Slot,
        bytes: &[u8],
        heads: &mut Heads,
    ) -> (usize, &mut V) {
        let most = HEADS_MAX * DATA_BYTES_MAX;
        let sent = self.send_window(slot).min(bytes.len()).min(most);
        let stream = self.streams.get(slot);
        heads.count = 0;
        if stream.response_ended {
            // The answer to HEAD has no content.
            debug_assert!(stream.head_request, "a response ends once");
            return (bytes.len(), self.value_mut(slot));
        }
        for part in bytes[..sent].chunks(DATA_BYTES_MAX) {
            heads.bytes[heads.count] = frame::data_head(stream.id, part.len(), false);
            heads.count += 1;
        }
        self.use_send_window(slot, sent);
        if sent < bytes.len().min(most) {
            self.wait_for_window(slot);
        }
        (sent, self.value_mut(slot))
    }

    fn use_send_window(&mut self, slot: Slot, sent: usize) {
        self.send_window -= sent as u32;
        // A window is at least `sent`, so the offset stays above -(2^31).
        self.streams.get_mut(slot).send_offset -= (sent as u32).cast_signed();
    }

    /// Whether this end has sent all of the response.
    pub fn is_response_ended(&self, slot: Slot) -> bool {
        self.streams.get(slot).response_ended
    }

    /// Asks the peer whether it is there. The answer is [`Event::Pong`](crate::Event::Pong) with the same bytes. A peer whose preface has
    /// not come is not asked: nothing goes before our SETTINGS (3.4).
    pub fn ping(&mut self, payload: [u8; 8], out: &mut Output) {
        if !self.is_before_preface() {
            frame::ping(out, payload, false);
        }
    }
}
