//! Header blocks: HEADERS and CONTINUATION (RFC 9113, 6.2 and 6.10), and what a whole one means.
//!
//! Every block is decoded to its end, also one of a stream that is refused or ignored: the tables of both ends must agree (4.3).

use super::Connection;
use super::closing::Closing;
use super::receive::Reading;
use crate::closed::Closed;
use crate::error::{ConnectionError, ErrorCode, StreamError};
use crate::event::{Event, Opening, Received};
use crate::frame::{self, FrameHead};
use crate::output::Output;
use crate::request::{Head, NoHead};
use crate::slot::Slot;
use crate::streams::NO_CONTENT_LENGTH;

/// Octets of a header block that one call decodes. The dearest octets take some 340 instructions each.
pub(super) const OCTETS_AT_ONCE: usize = 1_024;

/// A field, or a piece of one, is at least as much work as this number of octets.
const FIELD_OCTETS: usize = 8;

/// A header block that is under way.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) id: u32,
    end_stream: bool,
    meaning: Meaning,
    /// The begin of a field that goes on in what comes next.
    rest: Vec<u8>,
    /// Bytes of the block's frames so far.
    bytes: usize,
}

/// The rest of a frame of a header block.
#[derive(Debug)]
pub(super) struct Fragment {
    left: u32,
    padding: u32,
    end_headers: bool,
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
            Meaning::Request(head) | Meaning::Trailers(_, head) => {
                size_of::<Head>() + head.held_bytes()
            }
            Meaning::Refused | Meaning::Wrong(_) | Meaning::Ignored => 0,
        };
        size_of::<Self>() + self.rest.capacity() + head
    }

    /// It opens a stream.
    pub(super) fn is_request(&self) -> bool {
        matches!(self.meaning, Meaning::Request(_))
    }

    /// This stream was closed. If it is the block's, the block says nothing any more.
    pub(super) fn forget(&mut self, id: u32) {
        if self.id == id {
            self.meaning = Meaning::Ignored;
        }
    }
}

impl<V> Connection<V> {
    /// HEADERS begins: `fields` are those before the fragment.
    pub(super) fn begin_block(
        &mut self,
        head: FrameHead,
        fields: &[u8],
    ) -> Result<Fragment, ConnectionError> {
        if head.stream_id.is_multiple_of(2) {
            return Err(ConnectionError::protocol(
                "a client opens a stream of even number (5.1.1)",
            ));
        }
        let (padding, depends_on) = fields_of(head, fields)?;
        let Some(left) = (head.length - fields.len() as u32).checked_sub(padding) else {
            return Err(ConnectionError::protocol("more padding than payload (6.2)"));
        };
        let mut meaning = self.meaning(head)?;
        if depends_on == Some(head.stream_id) && !matches!(meaning, Meaning::Ignored) {
            meaning = Meaning::Wrong(StreamError::malformed("a stream depends on itself"));
        }
        self.decoder.begin_block();
        self.block = Some(Box::new(Block {
            id: head.stream_id,
            end_stream: head.has(frame::END_STREAM),
            meaning,
            rest: Vec::new(),
            bytes: 0,
        }));
        self.next_fragment(head, left, padding)
    }

    /// CONTINUATION begins.
    pub(super) fn continue_block(&mut self, head: FrameHead) -> Result<Fragment, ConnectionError> {
        self.next_fragment(head, head.length, 0)
    }

    fn next_fragment(
        &mut self,
        head: FrameHead,
        left: u32,
        padding: u32,
    ) -> Result<Fragment, ConnectionError> {
        let block = self.block.as_mut().expect("a block is under way");
        block.bytes += left as usize;
        if block.bytes > self.config.header_block_bytes_max() {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block is over four times the limit of its list",
            ));
        }
        Ok(Fragment {
            left,
            padding,
            end_headers: head.has(frame::END_HEADERS),
        })
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

    /// The next bytes of a frame of a header block.
    pub(super) fn fragment_piece<'a>(
        &mut self,
        input: &[u8],
        out: &mut Output,
    ) -> Result<Received<'a, V>, ConnectionError> {
        let Reading::Fragment(fragment) = &self.reading else {
            unreachable!("asked amid a header block");
        };
        let n = input.len().min(fragment.left as usize).min(OCTETS_AT_ONCE);
        let mut block = self.block.take().expect("a block is under way");
        let (taken, work) = self.decode(&mut block, &input[..n], out)?;
        let Reading::Fragment(fragment) = &mut self.reading else {
            unreachable!("asked amid a header block");
        };
        fragment.left -= taken as u32;
        let mut consumed = taken;
        if fragment.left == 0 {
            let padding = (input.len() - taken).min(fragment.padding as usize);
            fragment.padding -= padding as u32;
            consumed += padding;
        }
        let over = fragment.left == 0 && fragment.padding == 0;
        let end_headers = fragment.end_headers;
        let mut received = Received::bytes(consumed);
        received.work = work.max(consumed);
        if over {
            self.reading = Reading::Frame;
            if end_headers {
                self.half_since = None;
                let ended = self.decoder.end_block(&block.rest);
                ended.map_err(|_| COMPRESSION)?;
                received.event = self.whole(*block, out);
                return Ok(received);
            }
        }
        self.block = Some(block);
        Ok(received)
    }

    /// Decodes some of a fragment. It says how many octets it took, and how much work that was.
    fn decode(
        &mut self,
        block: &mut Block,
        fragment: &[u8],
        out: &mut Output,
    ) -> Result<(usize, usize), ConnectionError> {
        let mut rest = std::mem::take(&mut block.rest);
        let kept = rest.len();
        let input = if rest.is_empty() {
            fragment
        } else {
            rest.extend_from_slice(fragment);
            &rest
        };
        let decoded = match &mut block.meaning {
            Meaning::Request(head) | Meaning::Trailers(_, head) => {
                let field = &mut |field: crate::hpack::Field<'_>| head.field(field);
                self.decoder.decode_some(input, &mut out.scratch, field)
            }
            Meaning::Refused | Meaning::Wrong(_) | Meaning::Ignored => {
                (self.decoder).decode_some(input, &mut out.scratch, &mut |_| {})
            }
        };
        let decoded = decoded.map_err(|_| COMPRESSION)?;
        let work = decoded.fields * FIELD_OCTETS;
        if decoded.is_paused {
            // What was kept is the begin of one field, and more than that was taken.
            return Ok((decoded.taken - kept, work));
        }
        if rest.is_empty() {
            block.rest = fragment[decoded.taken..].to_vec();
        } else {
            rest.drain(..decoded.taken);
            block.rest = rest;
        }
        Ok((fragment.len(), work))
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
            held_bytes: head.held_bytes(),
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
        let held_bytes = head.held_bytes();
        let error = match head.into_trailers() {
            Ok(trailers) => {
                let stream = self.streams.get_mut(slot);
                if matches!(stream.content_left, 0 | NO_CONTENT_LENGTH) {
                    stream.request_ended = true;
                    return Event::Trailers {
                        slot,
                        trailers,
                        held_bytes,
                    };
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

/// How many bytes a HEADERS frame has between its head and its fragment: the length of the padding, and the priority (6.2).
pub(super) fn fields_bytes(head: FrameHead) -> usize {
    usize::from(head.has(frame::PADDED)) + 5 * usize::from(head.has(frame::PRIORITY))
}

/// The length of the padding of a HEADERS frame, and the stream that it says to depend on.
fn fields_of(head: FrameHead, fields: &[u8]) -> Result<(u32, Option<u32>), ConnectionError> {
    if fields.len() < fields_bytes(head) {
        return Err(ConnectionError::frame_size(
            "HEADERS without room for its own fields (4.2)",
        ));
    }
    let (mut rest, mut padding) = (fields, 0);
    if head.has(frame::PADDED)
        && let [length, after @ ..] = rest
    {
        (rest, padding) = (after, u32::from(*length));
    }
    let depends_on = (rest.first_chunk().copied()).map(u32::from_be_bytes);
    Ok((padding, depends_on.map(|id| id & 0x7fff_ffff)))
}
