//! Header blocks: HEADERS and CONTINUATION (RFC 9113, 6.2 and 6.10), and what a whole one means.
//!
//! Every block is decoded to its end, also one of a stream that is refused or ignored: the tables of both ends must agree (4.3).

use std::time::Instant;

use super::Connection;
use super::closing::Closing;
use crate::closed::Closed;
use crate::error::{ConnectionError, ErrorCode, StreamError};
use crate::event::{Event, Opening};
use crate::frame::{self, FrameHead};
use crate::output::Output;
use crate::request::{Head, NoHead};
use crate::slot::Slot;
use crate::streams::NO_CONTENT_LENGTH;

/// A header block that is under way.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) id: u32,
    end_stream: bool,
    meaning: Meaning,
    /// The begin of a field that goes on in the next frame.
    rest: Vec<u8>,
    /// Bytes of the block that have come.
    bytes: usize,
}

/// What a block is for.
#[derive(Debug)]
enum Meaning {
    Request(Box<Head>),
    Trailers(Slot, Box<Head>),
    /// A request over the limit of open streams.
    Refused,
    /// The stream is reset because of this block.
    Wrong(StreamError),
    /// The stream is closed, and the peer may not know it.
    Ignored,
}

impl Block {
    pub(super) fn held_bytes(&self) -> usize {
        let head = match &self.meaning {
            Meaning::Request(head) | Meaning::Trailers(_, head) => head.held_bytes(),
            Meaning::Refused | Meaning::Wrong(_) | Meaning::Ignored => 0,
        };
        size_of::<Self>() + self.rest.capacity() + head
    }

    /// This stream was closed. If it is the block's, the block says nothing any more.
    pub(super) fn forget(&mut self, id: u32) {
        if self.id == id {
            self.meaning = Meaning::Ignored;
        }
    }
}

impl<V> Connection<V> {
    pub(super) fn begin_block<'a>(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        since: Instant,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        let (fragment, depends_on) = unwrap(head, payload)?;
        let mut meaning = self.meaning(head)?;
        if depends_on == Some(head.stream_id) && !matches!(meaning, Meaning::Ignored) {
            meaning = Meaning::Wrong(StreamError::malformed("a stream depends on itself"));
        }
        self.decoder.begin_block();
        let block = Box::new(Block {
            id: head.stream_id,
            end_stream: head.has(frame::END_STREAM),
            meaning,
            rest: Vec::new(),
            bytes: 0,
        });
        self.fragment(block, head, fragment, since, out)
    }

    pub(super) fn continue_block<'a>(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        since: Instant,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        let block = self
            .block
            .take()
            .expect("CONTINUATION goes on with a block");
        self.fragment(block, head, payload, since, out)
    }

    /// What a block of this stream means in the stream's state (5.1).
    fn meaning(&mut self, head: FrameHead) -> Result<Meaning, ConnectionError> {
        let id = head.stream_id;
        let list_bytes_max = self.config.header_list_bytes_max;
        if id > self.highest_seen {
            self.highest_seen = id;
            if matches!(self.closing, Closing::After(_)) {
                self.closed.insert(id, Closed::ByUs);
                return Ok(Meaning::Ignored);
            }
            if self.streams.len() >= self.config.streams_max as usize {
                return Ok(Meaning::Refused);
            }
            return Ok(Meaning::Request(Box::new(Head::request(list_bytes_max))));
        }
        if let Some(slot) = self.streams.find(id) {
            if self.streams.get(slot).request_ended {
                return Ok(Meaning::Wrong(StreamError::new(
                    ErrorCode::STREAM_CLOSED,
                    "HEADERS after END_STREAM (5.1)",
                )));
            }
            if !head.has(frame::END_STREAM) {
                return Ok(Meaning::Wrong(StreamError::malformed(
                    "HEADERS amid a request without END_STREAM (8.1)",
                )));
            }
            self.streams.get_mut(slot).end_seen = true;
            return Ok(Meaning::Trailers(
                slot,
                Box::new(Head::trailers(list_bytes_max)),
            ));
        }
        match self.closed.how(id) {
            Closed::ByUs | Closed::Forgotten => Ok(Meaning::Ignored),
            Closed::ByPeer => Ok(Meaning::Wrong(StreamError::new(
                ErrorCode::STREAM_CLOSED,
                "HEADERS after RST_STREAM (5.1)",
            ))),
            Closed::Ended => Err(ConnectionError::new(
                ErrorCode::STREAM_CLOSED,
                "HEADERS on a stream that has ended (5.1)",
            )),
            Closed::Skipped => Err(ConnectionError::protocol(
                "HEADERS on a stream below one that was opened (5.1.1)",
            )),
        }
    }

    fn fragment<'a>(
        &mut self,
        mut block: Box<Block>,
        frame: FrameHead,
        fragment: &[u8],
        since: Instant,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        block.bytes += fragment.len();
        if block.bytes > self.config.header_block_bytes_max() {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block is over four times the limit of its list",
            ));
        }
        self.decode(&mut block, fragment, out)?;
        if !frame.has(frame::END_HEADERS) {
            self.half_since.get_or_insert(since);
            self.block = Some(block);
            return Ok(None);
        }
        let ended = self.decoder.end_block(&block.rest);
        ended.map_err(|_| COMPRESSION)?;
        Ok(self.whole(*block, out))
    }

    fn decode(
        &mut self,
        block: &mut Block,
        fragment: &[u8],
        out: &mut Output,
    ) -> Result<(), ConnectionError> {
        let mut rest = std::mem::take(&mut block.rest);
        let input = if rest.is_empty() {
            fragment
        } else {
            rest.extend_from_slice(fragment);
            &rest
        };
        let decoded = match &mut block.meaning {
            Meaning::Request(head) | Meaning::Trailers(_, head) => {
                let field = &mut |field: crate::hpack::Field<'_>| head.field(field);
                self.decoder.decode(input, &mut out.scratch, field)
            }
            Meaning::Refused | Meaning::Wrong(_) | Meaning::Ignored => {
                self.decoder.decode(input, &mut out.scratch, &mut |_| {})
            }
        };
        let decoded = decoded.map_err(|_| COMPRESSION)?;
        if rest.is_empty() {
            block.rest = fragment[decoded..].to_vec();
        } else {
            rest.drain(..decoded);
            block.rest = rest;
        }
        Ok(())
    }

    /// The block is whole.
    fn whole<'a>(&mut self, block: Block, out: &mut Output) -> Option<Event<'a, V>> {
        let Block { id, end_stream, .. } = block;
        match block.meaning {
            Meaning::Request(head) => Some(self.request(id, *head, end_stream, out)),
            Meaning::Trailers(slot, head) => Some(self.request_trailers(slot, *head, out)),
            Meaning::Refused => {
                self.reset_id(id, ErrorCode::REFUSED_STREAM, out);
                Some(Event::Refused)
            }
            Meaning::Wrong(error) => {
                if let Some(slot) = self.streams.find(id) {
                    return Some(self.fail_stream(slot, error, out));
                }
                self.reset_id(id, error.code, out);
                Some(Event::Malformed(error))
            }
            Meaning::Ignored => None,
        }
    }

    fn request<'a>(
        &mut self,
        id: u32,
        head: Head,
        request_ended: bool,
        out: &mut Output,
    ) -> Event<'a, V> {
        let mut opening = Opening {
            id,
            request_ended,
            head_request: false,
            content_left: NO_CONTENT_LENGTH,
        };
        let grpc = head.grpc;
        opening.head_request = head.is_head_request;
        let reason = match head.into_request() {
            Ok(head) => match head.content_length {
                Some(1..) if request_ended => "content-length without content (8.1.1)",
                length => {
                    opening.content_left = length.unwrap_or(NO_CONTENT_LENGTH);
                    return Event::Request(Box::new(head.request), opening);
                }
            },
            Err(NoHead::TooLarge) => return Event::HeadTooLarge { opening, grpc },
            Err(NoHead::Malformed(reason)) => reason,
        };
        let error = StreamError::malformed(reason);
        self.reset_id(id, error.code, out);
        Event::Malformed(error)
    }

    fn request_trailers<'a>(&mut self, slot: Slot, head: Head, out: &mut Output) -> Event<'a, V> {
        let error = match head.into_trailers() {
            Ok(trailers) => {
                let stream = self.streams.get_mut(slot);
                if matches!(stream.content_left, 0 | NO_CONTENT_LENGTH) {
                    stream.request_ended = true;
                    return Event::Trailers { slot, trailers };
                }
                StreamError::malformed("less content than content-length says (8.1.1)")
            }
            Err(NoHead::TooLarge) => StreamError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "trailers are over the limit of a header list (10.5.1)",
            ),
            Err(NoHead::Malformed(reason)) => StreamError::malformed(reason),
        };
        self.fail_stream(slot, error, out)
    }
}

/// The peer can no longer be understood: what it sent does not fit the table that both ends must have (4.3).
const COMPRESSION: ConnectionError = ConnectionError::new(
    ErrorCode::COMPRESSION_ERROR,
    "a header block cannot be decoded (RFC 7541)",
);

/// The fragment of a HEADERS frame without padding and priority, and the stream that it says to depend on.
fn unwrap(head: FrameHead, payload: &[u8]) -> Result<(&[u8], Option<u32>), ConnectionError> {
    const SHORT: ConnectionError =
        ConnectionError::frame_size("HEADERS without room for its own fields (4.2)");
    let (mut rest, mut padding) = (payload, 0);
    if head.has(frame::PADDED) {
        let (length, after) = rest.split_first().ok_or(SHORT)?;
        (rest, padding) = (after, usize::from(*length));
    }
    let mut depends_on = None;
    if head.has(frame::PRIORITY) {
        let (priority, after) = rest.split_first_chunk::<5>().ok_or(SHORT)?;
        let [a, b, c, d, _] = *priority;
        depends_on = Some(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff);
        rest = after;
    }
    let Some(length) = rest.len().checked_sub(padding) else {
        return Err(ConnectionError::protocol("more padding than payload (6.2)"));
    };
    Ok((&rest[..length], depends_on))
}
