//! One call on a connection: waits for the response, then moves its body onto the wire.
//!
//! Holds: the body is asked for a chunk only when the windows have capacity for some of it, and keeps only the rest of one.
//! A `StreamAbort` resets the stream at once, also while nothing can be sent.
//! Does not: share its turn; after `STREAM_TURN_BYTES` the other streams go first. Nor see the peer's resets: the connection
//! drops the stream.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use longlived_http2::{ErrorCode, Slot};
use tokio::io::AsyncWrite;

use super::RequestError;
use super::account::HeldBytes;
use super::followers::{Detached, Followers, Place};
use super::inbox::{Inbox, Orders};
use super::response_body::{Heartbeat, ResponseBody};
use super::response_head;
use super::stream_set::{Member, Turn};
use super::wake_set::StreamWaker;
use super::wire::{Frames, Sent, Wire};
use crate::limits;

/// Heads of responses that may wait for the socket, in bytes, beside other control frames. They come before the content of others; more of
/// them would pile up, also for streams that are reset.
const HEADS_WAITING_BYTES: usize = 4 * 1024;

/// Ends when the stream has nothing more to do here.
pub(super) struct Stream<F, B> {
    at: Slot,
    key: u32,
    /// While the request may go on.
    inbox: Option<Arc<Inbox>>,
    stage: Stage<F, B>,
}

enum Stage<F, B> {
    /// The service works on the response.
    Calling(F),
    /// The response waits for the socket.
    Answered(Box<Response<B>>),
    /// The body goes out.
    Sending {
        body: B,
        out: Outgoing,
    },
    Ended,
}

/// A body that was moved out of its call hears that there is no more.
impl<F, B> Drop for Stream<F, B> {
    fn drop(&mut self) {
        if let Some(inbox) = &self.inbox {
            inbox.close();
        }
    }
}

impl<F, B> Stream<F, B> {
    /// With this key among the streams of its connection.
    pub(super) fn new(call: F, at: Slot, key: u32, inbox: Option<Arc<Inbox>>) -> Self {
        Self {
            at,
            key,
            inbox,
            stage: Stage::Calling(call),
        }
    }

    /// Whether its response has begun.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Sending { .. })
    }

    /// The identifier of its place in HTTP/2.
    pub(super) fn at(&self) -> Slot {
        self.at
    }

    /// What is held of its request, if its call can be told to end: a call that reads no more ends by itself.
    pub(super) fn held_bytes(&self) -> Option<HeldBytes> {
        self.inbox.as_ref()?.held_bytes()
    }

    /// Its call is told to end: it gets this error in place of the rest of its request.
    pub(super) fn cut(&mut self, error: RequestError) {
        if let Some(inbox) = &self.inbox {
            inbox.cut(error);
        }
    }

    /// Where the content of its request goes, while that may go on.
    pub(super) fn inbox(&mut self) -> &mut Option<Arc<Inbox>> {
        &mut self.inbox
    }
}

impl<F, B: ResponseBody> Stream<F, B> {
    /// When its body wants to send a heartbeat.
    pub(super) fn heartbeat(&mut self, followers: &Followers<B::Reader>) -> Option<Heartbeat> {
        match &mut self.stage {
            Stage::Sending { body, out } => {
                let last_sent_at = out.place.and_then(|place| followers.last_sent_at(place));
                body.follower()?.heartbeat(last_sent_at)
            }
            Stage::Calling(_) | Stage::Answered(_) | Stage::Ended => None,
        }
    }

    /// Its group, if it is in one.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.stage {
            Stage::Sending { out, .. } => out.place,
            Stage::Calling(_) | Stage::Answered(_) | Stage::Ended => None,
        }
    }

    /// Leaves its group if it is in one: it was woken, or is over.
    pub(super) fn detach<T: AsyncWrite + Unpin>(
        &mut self,
        followers: &mut Followers<B::Reader>,
        frames: &mut Frames<T>,
    ) {
        if let Some(place) = self.place()
            && let Some(detached) = followers.detach(place, self.key, frames)
        {
            self.resume(detached);
        }
    }

    /// It was taken out of its group and reads for itself.
    pub(super) fn resume(&mut self, detached: Detached) {
        if let Stage::Sending { body, out } = &mut self.stage {
            out.place = None;
            out.rest = detached.rest;
            if let Some(follower) = body.follower() {
                follower.unfollow(detached.followed);
            }
        }
    }

    /// Counts the rest of a chunk, which waits for a window or the socket.
    fn count_rest<T>(&mut self, frames: &mut Frames<T>) {
        if let Stage::Sending { out, .. } = &mut self.stage {
            // A chunk is far smaller.
            let rest = u32::try_from(out.rest.len()).unwrap_or(u32::MAX);
            if rest != out.counted {
                frames.rest_bytes += rest as usize;
                frames.rest_bytes -= std::mem::replace(&mut out.counted, rest) as usize;
            }
        }
    }

    /// The stream is over.
    pub(super) fn forget_rest<T>(&mut self, frames: &mut Frames<T>) {
        if let Stage::Sending { out, .. } = &mut self.stage {
            frames.rest_bytes -= std::mem::take(&mut out.counted) as usize;
        }
    }

    /// Gives credit back for what the call has taken of the request, and asks for the rest if the client waits for that.
    fn follow_orders<T>(&mut self, frames: &mut Frames<T>) {
        let Some(inbox) = &self.inbox else {
            return;
        };
        let Orders {
            taken,
            inform,
            left,
        } = inbox.orders();
        if taken > 0 {
            frames.http2.taken(self.at, taken, frames.io.out());
        }
        if inform && matches!(self.stage, Stage::Calling(_)) {
            let Frames { http2, io, .. } = frames;
            response_head::head(StatusCode::CONTINUE, &HeaderMap::new(), |block| {
                http2.inform(self.at, block, io.out());
            });
        }
        if left {
            // Content that still comes is dropped where it comes in.
            self.inbox = None;
        }
    }
}

impl<F, B, T> Member<Wire<T, B::Reader>> for Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: ResponseBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    T: AsyncWrite + Unpin,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
        wire: &mut Wire<T, B::Reader>,
    ) -> Poll<()> {
        self.detach(&mut wire.followers, &mut wire.frames);
        let polled = self.poll_stage(cx, own, turn, &mut wire.frames);
        if polled.is_ready() {
            self.forget_rest(&mut wire.frames);
        }
        match polled {
            Poll::Ready(End::Sent) => {
                wire.frames.close(self.at);
                return Poll::Ready(());
            }
            Poll::Ready(End::Reset(code)) => {
                wire.frames.reset(self.at, code);
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        self.count_rest(&mut wire.frames);
        self.follow_orders(&mut wire.frames);
        if let Stage::Sending { body, out } = &mut self.stage
            && std::mem::take(&mut out.at_rest)
            && let Some(follower) = body.follower()
        {
            if let Some(heartbeat) = follower.heartbeat(None) {
                wire.heartbeats.wants(heartbeat.until);
            }
            out.place = wire.followers.attach(follower, self.key, self.at);
        }
        Poll::Pending
    }

    fn waits_for_socket(&mut self, cx: &mut Context<'_>, own: &StreamWaker) -> bool {
        match &mut self.stage {
            // One in a group has to leave it first.
            Stage::Sending { out, .. } if out.place.is_some() => false,
            Stage::Sending { body, out } => {
                let waits = !own.is_aborted();
                if waits {
                    // Trailers wait for the socket as well.
                    let _ = body.poll_while_blocked(cx);
                    out.hold(body);
                }
                waits
            }
            Stage::Answered(_) => !own.is_aborted(),
            Stage::Calling(_) | Stage::Ended => false,
        }
    }
}

/// How a stream ends.
enum End {
    /// Its response was sent whole.
    Sent,
    /// By a reset.
    Reset(ErrorCode),
}

impl<F, B> Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: ResponseBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll_stage<T: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
        frames: &mut Frames<T>,
    ) -> Poll<End> {
        if own.is_aborted() {
            return Poll::Ready(End::Reset(ErrorCode::CANCEL));
        }
        let mut opened = false;
        let waits = turn.is_blocked() && frames.io.out().control_bytes() >= HEADS_WAITING_BYTES;
        let response = match &mut self.stage {
            Stage::Calling(call) => match ready!(Pin::new(call).poll(cx)) {
                Ok(response) if waits => {
                    self.stage = Stage::Answered(Box::new(response));
                    return Poll::Pending;
                }
                Ok(response) => Some(response),
                Err(never) => match never {},
            },
            Stage::Answered(_) if waits => return Poll::Pending,
            Stage::Answered(_) => match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Answered(response) => Some(*response),
                _ => None,
            },
            Stage::Sending { .. } | Stage::Ended => None,
        };
        if let Some(response) = response {
            // The call goes before its response is sent.
            self.stage = Stage::Ended;
            turn.spend_head();
            let (head, mut body) = response.into_parts();
            opened = true;
            let out = match Outgoing::open(self.at, head, &mut body, cx, frames) {
                Ok(out) => out,
                Err(end) => return Poll::Ready(end),
            };
            self.stage = Stage::Sending { body, out };
        }
        match &mut self.stage {
            Stage::Sending { body, out } => out.turn(self.at, opened, body, cx, own, turn, frames),
            Stage::Calling(_) | Stage::Answered(_) | Stage::Ended => {
                Poll::Ready(End::Reset(ErrorCode::INTERNAL_ERROR))
            }
        }
    }
}

/// The sending half of a stream.
struct Outgoing {
    /// The rest of the last chunk, for which the windows had no capacity.
    rest: Bytes,
    /// Its group, if it is in one.
    place: Option<Place>,
    /// The body had nothing to say when it was last asked.
    at_rest: bool,
    /// Bytes of the rest that are counted.
    counted: u32,
}

impl Outgoing {
    /// Sends the head. The stream may be over with it.
    fn open<B, T>(
        at: Slot,
        mut head: Parts,
        body: &mut B,
        cx: &mut Context<'_>,
        frames: &mut Frames<T>,
    ) -> Result<Self, End>
    where
        B: ResponseBody,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // A response that has only a status is one frame, and only in that form may it ask to be retried; so the body is
        // looked at before the head goes.
        let first = if body.is_end_stream() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut *body).poll_frame(cx)
        };
        let (first, end) = match first {
            Poll::Pending => (Bytes::new(), false),
            Poll::Ready(None) => (Bytes::new(), true),
            Poll::Ready(Some(Err(error))) => {
                log_body_error(error);
                return Err(End::Reset(ErrorCode::INTERNAL_ERROR));
            }
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
        let Frames { http2, io, .. } = frames;
        response_head::head(head.status, &head.headers, |block| {
            http2.respond(at, block, end, io.out());
        });
        // The answer to HEAD ends with its head.
        if frames.http2.is_response_ended(at) {
            return Err(End::Sent);
        }
        Ok(Self {
            rest: first,
            place: None,
            at_rest: false,
            counted: 0,
        })
    }

    /// Moves chunks while the windows have capacity, the body has chunks, and it is this stream's turn. One whose head was sent in this
    /// turn sends no more than a chunk: the heads of others come before its content.
    #[allow(clippy::too_many_arguments, reason = "each from another owner")]
    fn turn<B, T>(
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
        B::Error: Into<Box<dyn Error + Send + Sync>>,
        T: AsyncWrite + Unpin,
    {
        if turn.is_blocked() {
            return Poll::Pending;
        }
        if opened && self.rest.is_empty() {
            // The body was just asked, and had nothing to say.
            return again(own);
        }
        let mut moved = 0;
        loop {
            if !self.rest.is_empty() {
                let (count, sent) = self.send_rest(at, frames);
                moved += count;
                turn.spend(count);
                match sent {
                    Sent::All => {}
                    Sent::Part(_) => {
                        ready!(self.stalled(at, body, cx, frames));
                    }
                    Sent::Blocked(_) => {
                        turn.end();
                        return again(own);
                    }
                }
            }
            if body.is_end_stream() {
                return end(at, frames);
            }
            if frames.http2.send_window(at) == 0 {
                ready!(self.stalled(at, body, cx, frames));
            }
            if moved >= limits::STREAM_TURN_BYTES || turn.is_over() {
                return again(own);
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    self.at_rest = true;
                    return Poll::Pending;
                }
                Poll::Ready(None) => return end(at, frames),
                Poll::Ready(Some(Err(error))) => {
                    log_body_error(error);
                    return Poll::Ready(End::Reset(ErrorCode::INTERNAL_ERROR));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    // Counts an empty chunk too: a body that gives nothing else must not keep the turn.
                    moved += 1;
                    self.rest = large_enough(data, body, frames);
                    if opened {
                        return again(own);
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return end_with(at, &trailers, frames);
                    }
                }
            }
        }
    }

    /// Sends as much of the last chunk as may go, and says how much that is.
    fn send_rest<T: AsyncWrite + Unpin>(
        &mut self,
        at: Slot,
        frames: &mut Frames<T>,
    ) -> (usize, Sent) {
        let sent = frames.send(at, &self.rest);
        let count = match sent {
            Sent::All => self.rest.len(),
            Sent::Part(count) | Sent::Blocked(count) => count,
        };
        self.rest = self.rest.split_off(count);
        (count, sent)
    }

    /// Waits for capacity in a window. Ready when the trailers are next, which need none.
    fn stalled<B: ResponseBody, T>(
        &mut self,
        at: Slot,
        body: &mut B,
        cx: &mut Context<'_>,
        frames: &mut Frames<T>,
    ) -> Poll<()> {
        frames.http2.wait_for_window(at);
        if body.poll_while_blocked(cx).is_ready() && self.rest.is_empty() {
            return Poll::Ready(());
        }
        self.hold(body);
        Poll::Pending
    }

    /// Tells the body that flow control, HTTP/2's or that of the socket, holds its bytes. A group is told as one.
    fn hold<B: ResponseBody>(&self, body: &mut B) {
        if let Some(follower) = body.follower() {
            follower.hold(!self.rest.is_empty());
        }
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

fn log_body_error(error: impl Into<Box<dyn Error + Send + Sync>>) {
    let error = error.into();
    tracing::error!(error = error.as_ref() as &dyn Error, "response body failed");
}
