//! The peer's bytes, one frame at a time (RFC 9113, 3.4 and 4).

use std::time::Instant;

use super::Connection;
use super::closing::Closing;
use super::content::Data;
use super::headers::{self, Fragment};
use crate::error::{ConnectionError, ErrorCode};
use crate::event::Received;
use crate::frame::{self, FrameHead, FrameType, HEAD_BYTES};
use crate::output::{CONTROL_BYTES_MAX, Output};
use crate::settings::INITIAL_WINDOW;
use crate::slot::Slot;

/// What a client sends first (3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the next byte belongs to.
#[derive(Debug)]
pub(super) enum Reading {
    /// The preface, and how many bytes of it have come.
    Preface(usize),
    /// A frame's head.
    Frame,
    /// The payload of DATA.
    Data(Data),
    /// The payload of a frame of a header block.
    Fragment(Fragment),
    /// The payload of a frame that is ignored.
    Ignored(u32),
    /// Nothing more: the connection has failed.
    Over,
}

impl Reading {
    /// Whether DATA has begun that has no content and ends nothing, and whether its stream is closed.
    fn empty_and_late(&self) -> (bool, bool) {
        match self {
            Self::Data(data) => (data.is_empty(), data.is_late()),
            _ => (false, false),
        }
    }

    /// A stream was closed: what still comes for it is dropped.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Self::Data(data) = self {
            data.forget(slot);
        }
    }
}

impl<V> Connection<V> {
    /// Takes bytes of the peer: at most one frame, or a piece of DATA, or 1,024 octets or 32 fields of a header block. It is called
    /// again until it has consumed all, or consumes nothing because more control frames wait for the socket than
    /// [`CONTROL_BYTES_MAX`].
    ///
    /// An error ends the connection: the caller calls [`fail`](Self::fail) with it.
    pub fn receive<'a>(
        &mut self,
        input: &'a [u8],
        now: Instant,
        out: &mut Output,
    ) -> Result<Received<'a, V>, ConnectionError> {
        if input.is_empty() || out.control_bytes() > CONTROL_BYTES_MAX {
            return Ok(Received::bytes(0));
        }
        match &mut self.reading {
            Reading::Preface(came) => {
                let n = input.len().min(PREFACE.len() - *came);
                if input[..n] != PREFACE[*came..*came + n] {
                    return Err(ConnectionError::protocol("no HTTP/2 preface (3.4)"));
                }
                *came += n;
                if *came == PREFACE.len() {
                    self.reading = Reading::Frame;
                    self.begin(now, out);
                }
                Ok(Received::bytes(n))
            }
            Reading::Frame => self.frame(input, now, out),
            Reading::Data(_) => Ok(self.data_piece(input, out)),
            Reading::Fragment(_) => self.fragment_piece(input, out),
            Reading::Ignored(left) => {
                let n = input.len().min(*left as usize);
                *left -= n as u32;
                if *left == 0 {
                    self.reading = Reading::Frame;
                }
                Ok(Received::bytes(n))
            }
            Reading::Over => Ok(Received::bytes(input.len())),
        }
    }

    /// Our SETTINGS, and the connection's window.
    fn begin(&mut self, now: Instant, out: &mut Output) {
        frame::settings(out, &self.config.settings());
        self.settings_sent = Some(now);
        let more = self.config.connection_window.saturating_sub(INITIAL_WINDOW);
        if more > 0 {
            frame::window_update(out, 0, more);
            self.receive_window += more;
        }
        // The end was asked for before.
        if let Closing::After(last) = self.closing {
            frame::go_away(out, last, ErrorCode::NO_ERROR, "");
        }
    }

    /// A frame from its head on. One that is not whole is kept, but for DATA and header blocks, which are taken in pieces.
    fn frame<'a>(
        &mut self,
        input: &'a [u8],
        now: Instant,
        out: &mut Output,
    ) -> Result<Received<'a, V>, ConnectionError> {
        let mut consumed = 0;
        let bytes = if self.half_frame.is_empty()
            && let Some(bytes) = input.first_chunk()
        {
            *bytes
        } else {
            consumed = self.keep(input, HEAD_BYTES, now);
            match self.half_frame.first_chunk() {
                Some(bytes) => *bytes,
                None => return Ok(Received::bytes(consumed)),
            }
        };
        let head = FrameHead::parse(bytes);
        self.check(head)?;
        let needed = bytes_needed(head);
        let kept;
        let whole = if self.half_frame.is_empty() && input.len() >= needed {
            consumed = needed;
            &input[..needed]
        } else {
            consumed += self.keep(&input[consumed..], needed, now);
            if self.half_frame.len() < needed {
                return Ok(Received::bytes(consumed));
            }
            kept = std::mem::take(&mut self.half_frame);
            &kept[..]
        };
        let since = self.half_since;
        if self.block.is_none() {
            self.half_since = None;
        }
        let payload = &whole[HEAD_BYTES..];
        let event = match head.kind {
            FrameType::Data => self.begin_data(head, payload.first().copied(), out)?,
            FrameType::Headers => {
                // A block is under way since its first byte came.
                self.half_since = since.or(Some(now));
                self.reading = Reading::Fragment(self.begin_block(head, payload)?);
                None
            }
            FrameType::Continuation => {
                self.reading = Reading::Fragment(self.continue_block(head)?);
                None
            }
            FrameType::Unknown => {
                if head.length > 0 {
                    self.reading = Reading::Ignored(head.length);
                }
                None
            }
            _ => self.control(head, payload, out)?,
        };
        if event.is_some() {
            return Ok(Received {
                frame: Some(head.kind),
                event,
                ..Received::bytes(consumed)
            });
        }
        let (empty, late) = self.reading.empty_and_late();
        let piece = match self.reading {
            Reading::Data(_) => self.data_piece(&input[consumed..], out),
            Reading::Fragment(_) => self.fragment_piece(&input[consumed..], out)?,
            _ => Received::bytes(0),
        };
        Ok(Received {
            consumed: consumed + piece.consumed,
            frame: Some(head.kind),
            work: consumed + piece.work,
            empty,
            late,
            event: piece.event,
        })
    }

    /// Keeps bytes of a frame until `whole` have come, and says how many it took.
    fn keep(&mut self, input: &[u8], whole: usize, now: Instant) -> usize {
        let n = input.len().min(whole.saturating_sub(self.half_frame.len()));
        if n > 0 {
            self.half_since.get_or_insert(now);
            self.half_frame.extend_from_slice(&input[..n]);
        }
        n
    }

    /// What a head alone can break: sizes, and streams that a frame must or must not name.
    fn check(&self, head: FrameHead) -> Result<(), ConnectionError> {
        let acknowledges = head.has(frame::ACK);
        if !self.settings_received && (head.kind != FrameType::Settings || acknowledges) {
            return Err(ConnectionError::protocol(
                "the first frame is not SETTINGS (3.4)",
            ));
        }
        let continues = self.block.as_ref().is_some_and(|block| {
            head.kind == FrameType::Continuation && head.stream_id == block.id
        });
        if self.block.is_some() != continues || (head.kind == FrameType::Continuation && !continues)
        {
            return Err(ConnectionError::protocol(
                "a header block and its CONTINUATION are next to each other (6.10)",
            ));
        }
        if head.length > frame::SIZE_MIN {
            return Err(ConnectionError::frame_size(
                "a frame is larger than SETTINGS_MAX_FRAME_SIZE (4.2)",
            ));
        }
        let (of_stream, size_is_right) = match head.kind {
            FrameType::Data | FrameType::Headers | FrameType::Continuation => (Some(true), true),
            FrameType::Priority => (Some(true), head.length == 5),
            FrameType::RstStream => (Some(true), head.length == 4),
            FrameType::Settings if acknowledges => (Some(false), head.length == 0),
            FrameType::Settings => (Some(false), head.length.is_multiple_of(6)),
            FrameType::PushPromise => {
                return Err(ConnectionError::protocol(
                    "a client sends PUSH_PROMISE (8.4)",
                ));
            }
            FrameType::Ping => (Some(false), head.length == 8),
            FrameType::GoAway => (Some(false), head.length >= 8),
            FrameType::WindowUpdate => (None, head.length == 4),
            FrameType::Unknown => (None, true),
        };
        if of_stream.is_some_and(|of_stream| of_stream != (head.stream_id != 0)) {
            return Err(ConnectionError::protocol(
                "a frame of a stream names none, or one of the connection names one (6)",
            ));
        }
        // Those of Stream 0 and HEADERS must be errors of the connection; the others may be (4.2, 5.4.1).
        if !size_is_right {
            return Err(ConnectionError::frame_size(
                "a frame has a size that its type does not have (6)",
            ));
        }
        Ok(())
    }
}

/// The bytes of a frame that must have come before it is looked at.
fn bytes_needed(head: FrameHead) -> usize {
    HEAD_BYTES
        + match head.kind {
            FrameType::Data => usize::from(head.has(frame::PADDED) && head.length > 0),
            FrameType::Headers => headers::fields_bytes(head).min(head.length as usize),
            FrameType::Continuation | FrameType::Unknown => 0,
            _ => head.length as usize,
        }
}
