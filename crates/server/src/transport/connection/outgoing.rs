//! The sending half of a stream: its head, the chunks of its body, its end.
//!
//! Holds: a body that reads the log is asked for a chunk only when the windows have capacity for some of it, and for about as much as they
//! have. No more than the rest of one chunk is kept.
//! Does not: share its turn; after `STREAM_TURN_BYTES` the other streams go first.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;
use longlived_http2::{ErrorCode, Slot};
use tokio::io::AsyncWrite;

use super::followers::Place;
use super::response_body::ResponseBody;
use super::response_head;
use super::rest::{Before, Rest};
use super::stream_set::Turn;
use super::wake_set::StreamWaker;
use super::wire::{Frames, Sent};
use crate::limits;

/// How a stream ends.
pub(super) enum End {
    /// Its response was sent whole.
    Sent,
    /// By a reset.
    Reset(ErrorCode),
}

/// The sending half of a stream.
pub(super) struct Outgoing {
    /// The rest of the last chunk, for which the windows had no capacity.
    pub(super) rest: Rest,
    /// Its group, if it is in one.
    pub(super) place: Option<Place>,
    /// The body had nothing to say when it was last asked.
    pub(super) at_rest: bool,
    /// The rest of a piece, if there is one, waits for a window or the socket, and perhaps for long.
    pub(super) waits: bool,
    /// The number of bytes that its reader takes, as the body was told; never 0.
    told: u32,
}

impl Outgoing {
    /// Sends the head. The stream may be over with it.
    pub(super) fn open<B, T>(
        at: Slot,
        mut head: Parts,
        body: &mut B,
        cx: &mut Context<'_>,
        frames: &mut Frames<T>,
    ) -> Result<Self, End>
    where
        B: ResponseBody,
    {
        // A response that has only a status is one frame, and only in that form may it ask to be retried; so the body is
        // looked at before the head goes.
        let takes = frames.http2.send_window(at).min(frames.piece_bytes());
        let told = tell(takes.max(1), body);
        let first = if body.is_end_stream() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut *body).poll_frame(cx)
        };
        let (first, end) = match first {
            Poll::Pending => (Bytes::new(), false),
            Poll::Ready(None) => (Bytes::new(), true),
            Poll::Ready(Some(Err(error))) => return Err(failed(error)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => (data, false),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        head.headers.extend(trailers);
                    }
                    (Bytes::new(), true)
                }
            },
        };
        let whole = first.len();
        let Frames { http2, io, .. } = frames;
        response_head::head(head.status, &head.headers, |block| {
            http2.respond(at, block, end, io.out());
        });
        // The answer to HEAD ends with its head.
        if frames.http2.is_response_ended(at) {
            return Err(End::Sent);
        }
        Ok(Self {
            rest: Rest::new(first, whole),
            place: None,
            at_rest: false,
            waits: false,
            told,
        })
    }

    /// Moves chunks while the windows have capacity, the body has chunks, and it is this stream's turn. One whose head was sent in this
    /// turn sends no more than a chunk: the heads of others come before its content.
    #[allow(clippy::too_many_arguments, reason = "each from another owner")]
    pub(super) fn turn<B, T>(
        &mut self,
        at: Slot,
        opened: bool,
        body: &mut B,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
        frames: &mut Frames<T>,
    ) -> Poll<End>
    where
        B: ResponseBody,
        T: AsyncWrite + Unpin,
    {
        if turn.is_blocked() {
            return Poll::Pending;
        }
        if opened && self.rest.is_empty() {
            // The body was just asked, and had nothing to say.
            return again(own);
        }
        let ((mut rest, mut before), mut moved) = (self.rest.take(), 0);
        let polled = loop {
            if !rest.is_empty() {
                let (count, sent) = send_rest(at, &mut rest, frames);
                moved += count;
                turn.spend(count);
                match sent {
                    Sent::Part(_) if stalled(at, &rest, body, cx, frames).is_pending() => {
                        self.waits = true;
                        break Poll::Pending;
                    }
                    Sent::Blocked(_) => {
                        turn.end();
                        break again(own);
                    }
                    Sent::All | Sent::Part(_) => {}
                }
            }
            if body.is_end_stream() {
                break end(at, frames);
            }
            if self.look(at, body, cx, frames).is_pending() {
                break Poll::Pending;
            }
            if moved >= limits::STREAM_TURN_BYTES || turn.is_over() {
                break again(own);
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    self.at_rest = true;
                    break Poll::Pending;
                }
                Poll::Ready(None) => break end(at, frames),
                Poll::Ready(Some(Err(error))) => break Poll::Ready(failed(error)),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    // Counts an empty chunk too: a body that gives nothing else must not keep the turn.
                    moved += 1;
                    rest = large_enough(data, body, frames);
                    before = Before::none(rest.len());
                    if opened {
                        break again(own);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        break end_with(at, &trailers, frames);
                    }
                }
            }
        };
        before.since = before.since.filter(|_| moved == 0);
        self.rest = Rest::again(rest, before);
        // The first piece waits for the next turn, if its windows take it.
        self.waits |= !opened;
        polled
    }

    /// Pending if the windows take nothing. The body is told how much they take when that is another amount than it was last told.
    #[inline]
    fn look<B: ResponseBody, T>(
        &mut self,
        at: Slot,
        body: &mut B,
        cx: &mut Context<'_>,
        frames: &mut Frames<T>,
    ) -> Poll<()> {
        let takes = frames.http2.send_window(at).min(frames.piece_bytes());
        if takes != self.told as usize {
            if takes == 0 {
                // What such a body says is in memory already: in the account it counts.
                if body.follower().is_none() {
                    return Poll::Ready(());
                }
                return stalled(at, &Bytes::new(), body, cx, frames);
            }
            self.told = tell(takes, body);
        }
        Poll::Ready(())
    }

    /// Tells the body that flow control, HTTP/2's or that of the socket, holds its bytes. A group is told as one.
    pub(super) fn hold<B: ResponseBody>(&mut self, body: &mut B) {
        self.waits = true;
        hold(body, !self.rest.is_empty());
    }

    /// Whether a piece has begun to wait that nobody has counted.
    pub(super) fn has_begun_to_wait(&mut self) -> bool {
        std::mem::take(&mut self.waits) && self.rest.is_uncounted()
    }
}

/// Sends as much of the last chunk as may go, and says how much that is.
fn send_rest<T: AsyncWrite + Unpin>(
    at: Slot,
    rest: &mut Bytes,
    frames: &mut Frames<T>,
) -> (usize, Sent) {
    let sent = frames.send(at, rest);
    let count = match sent {
        Sent::All => rest.len(),
        Sent::Part(count) | Sent::Blocked(count) => count,
    };
    *rest = rest.split_off(count);
    (count, sent)
}

/// Tells the body how much its reader takes, and says what it was told: one that follows nothing yet may do so later.
fn tell<B: ResponseBody>(takes: usize, body: &mut B) -> u32 {
    let Some(follower) = body.follower() else {
        return u32::MAX;
    };
    follower.set_capacity(takes);
    // A piece is far smaller.
    u32::try_from(takes).unwrap_or(u32::MAX)
}

/// Waits for capacity in a window. Ready when the trailers are next, which need none.
fn stalled<B: ResponseBody, T>(
    at: Slot,
    rest: &Bytes,
    body: &mut B,
    cx: &mut Context<'_>,
    frames: &mut Frames<T>,
) -> Poll<()> {
    frames.http2.wait_for_window(at);
    if body.poll_while_blocked(cx).is_ready() && rest.is_empty() {
        return Poll::Ready(());
    }
    hold(body, !rest.is_empty());
    // The reader may not come back. The connection's window is another thing: streams that let go of what they have read whenever it
    // is used up would read it again and again.
    if frames.http2.is_stream_window_used_up(at)
        && let Some(follower) = body.follower()
    {
        follower.drop_page();
    }
    Poll::Pending
}

/// Tells the body that flow control, HTTP/2's or that of the socket, holds its bytes. A group is told as one.
fn hold<B: ResponseBody>(body: &mut B, sending: bool) {
    if let Some(follower) = body.follower() {
        follower.hold(sending);
    }
}

/// Ends a response without trailers.
fn end<T>(at: Slot, frames: &mut Frames<T>) -> Poll<End> {
    let nothing = frames.http2.data(at, &[], true, frames.io.out());
    debug_assert_eq!(nothing, 0, "an empty frame needs no window");
    Poll::Ready(End::Sent)
}

/// Ends a response with trailers.
fn end_with<T>(at: Slot, trailers: &HeaderMap, frames: &mut Frames<T>) -> Poll<End> {
    let Frames { http2, io, .. } = frames;
    response_head::trailers(trailers, |block| http2.trailers(at, block, io.out()));
    Poll::Ready(End::Sent)
}

/// A piece as it may be sent: with more behind it where small ones pile up at the peer.
fn large_enough<B: ResponseBody, T>(piece: Bytes, body: &mut B, frames: &mut Frames<T>) -> Bytes {
    let small = (1..limits::SMALL_FRAME_BYTES).contains(&piece.len());
    if small
        && frames.has_too_much_unread()
        && let Some(follower) = body.follower()
    {
        return follower.larger(piece, limits::SMALL_FRAME_BYTES);
    }
    piece
}

/// Goes on in the next turn.
fn again<T>(own: &StreamWaker) -> Poll<T> {
    own.raise();
    Poll::Pending
}

/// Ends a response whose body failed.
fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> End {
    let error = error.into();
    tracing::error!(error = error.as_ref() as &dyn Error, "response body failed");
    End::Reset(ErrorCode::INTERNAL_ERROR)
}
