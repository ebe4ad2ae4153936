//! The content of requests: DATA (RFC 9113, 6.1), handed on as it comes.

use super::Connection;
use super::receive::Reading;
use crate::closed::Closed;
use crate::error::{ConnectionError, ErrorCode, StreamError};
use crate::event::{Event, Received};
use crate::frame::{self, FrameHead};
use crate::output::Output;
use crate::slot::Slot;
use crate::streams::NO_CONTENT_LENGTH;

/// The rest of a DATA frame.
#[derive(Debug)]
pub(super) struct Data {
    /// `None`: the stream is closed, and the bytes are dropped.
    slot: Option<Slot>,
    content: u32,
    padding: u32,
    end: bool,
}

impl Data {
    /// It has no content and ends nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.content == 0 && !self.end
    }

    /// Its stream is closed, and its bytes are dropped.
    pub(super) fn is_late(&self) -> bool {
        self.slot.is_none()
    }

    /// The stream was closed.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.slot == Some(slot) {
            self.slot = None;
        }
    }
}

impl<V> Connection<V> {
    /// The head of a DATA frame, with the length of its padding.
    pub(super) fn begin_data<'a>(
        &mut self,
        head: FrameHead,
        padding: Option<u8>,
        out: &mut Output,
    ) -> Result<Option<Event<'a, V>>, ConnectionError> {
        self.use_receive_window(head.length)?;
        let mut content = head.length;
        let mut extra = 0;
        if head.has(frame::PADDED) {
            let padding = padding.ok_or(ConnectionError::frame_size(
                "DATA without room for its own fields (4.2)",
            ))?;
            extra = 1 + u32::from(padding);
            content = content
                .checked_sub(extra)
                .ok_or(ConnectionError::protocol("more padding than payload (6.1)"))?;
        }
        let end = head.has(frame::END_STREAM);
        let accepted = self.accept_data(head.stream_id, head.length, content, end)?;
        // The byte that says how long the padding is has come.
        self.return_connection_credit(u32::from(extra > 0), out);
        let mut event = None;
        let slot = match accepted {
            Ok(slot) => slot,
            Err((Some(slot), error)) => {
                event = Some(self.fail_stream(slot, error, out));
                None
            }
            Err((None, error)) => {
                self.reset_id(head.stream_id, error.code, out);
                event = Some(Event::Malformed(error));
                None
            }
        };
        let data = Data {
            slot,
            content,
            padding: extra.saturating_sub(1),
            end,
        };
        if event.is_none() || data.content + data.padding > 0 {
            self.reading = Reading::Data(data);
        }
        if let Some(slot) = slot
            && extra > 0
        {
            self.return_stream_credit(slot, out);
        }
        Ok(event)
    }

    /// Whether the stream takes this frame: `None` drops it. The frame's length uses up the stream's window at once.
    #[allow(
        clippy::type_complexity,
        reason = "three outcomes, each with what it needs"
    )]
    fn accept_data(
        &mut self,
        id: u32,
        length: u32,
        content: u32,
        end: bool,
    ) -> Result<Result<Option<Slot>, (Option<Slot>, StreamError)>, ConnectionError> {
        if self.is_idle(id) {
            return Err(ConnectionError::protocol("DATA of an idle stream (5.1)"));
        }
        let closed = StreamError::new(
            ErrorCode::STREAM_CLOSED,
            "DATA after the end of the stream (5.1)",
        );
        let Some(slot) = self.streams.find(id) else {
            return match self.closed.how(id) {
                Closed::ByUs | Closed::Forgotten => Ok(Ok(None)),
                Closed::ByPeer => Ok(Err((None, closed))),
                Closed::Ended | Closed::Skipped => {
                    Err(ConnectionError::new(closed.code, closed.reason))
                }
            };
        };
        let window = self.stream_receive_window(self.streams.get(slot));
        let stream = self.streams.get_mut(slot);
        if stream.request_ended {
            return Ok(Err((Some(slot), closed)));
        }
        if i64::from(length) > window {
            let error = StreamError::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "DATA over the stream's window (6.9.1)",
            );
            return Ok(Err((Some(slot), error)));
        }
        if stream.content_left != NO_CONTENT_LENGTH {
            let left = stream.content_left.checked_sub(u64::from(content));
            match left {
                Some(left) if left == 0 || !end => stream.content_left = left,
                _ => {
                    let error = StreamError::malformed(
                        "not as much content as content-length says (8.1.1)",
                    );
                    return Ok(Err((Some(slot), error)));
                }
            }
        }
        stream.end_seen = end;
        stream.receive_offset -= length.cast_signed();
        stream.untaken += content;
        Ok(Ok(Some(slot)))
    }

    /// The next bytes of a DATA frame.
    pub(super) fn data_piece<'a>(&mut self, input: &'a [u8], out: &mut Output) -> Received<'a, V> {
        let Reading::Data(data) = &mut self.reading else {
            unreachable!("asked amid DATA");
        };
        let content = input.len().min(data.content as usize);
        data.content -= content as u32;
        let padding = (input.len() - content).min(data.padding as usize);
        // Padding comes after the content, so none is taken before.
        data.padding -= padding as u32;
        let (slot, content_over, end) = (data.slot, data.content == 0, data.end);
        let over = content_over && data.padding == 0;
        // The end is said once, with the last of the content.
        let ends = end && content_over;
        if ends {
            data.end = false;
        }
        if over {
            self.reading = Reading::Frame;
        }
        self.return_connection_credit((content + padding) as u32, out);
        let mut received = Received::bytes(content + padding);
        if let Some(slot) = slot {
            if ends {
                self.streams.get_mut(slot).request_ended = true;
            }
            if content > 0 || ends {
                let bytes = &input[..content];
                received.event = Some(Event::Data {
                    slot,
                    bytes,
                    end: ends,
                });
            }
        }
        received
    }
}
