//! One call on a connection: waits for the response, then moves its body onto the wire.
//!
//! Holds: a `StreamAbort` resets the stream at once, also while nothing can be sent.
//! Does not: see the peer's resets: the connection drops the stream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use longlived_http2::{ErrorCode, Slot};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::RequestError;
use super::account::{Account, HeldBytes};
use super::followers::{Detached, Followers, Place};
use super::inbox::{Inbox, Orders};
use super::outgoing::{End, Outgoing};
use super::response_body::{Heartbeat, ResponseBody};
use super::response_head;
use super::rest::Rest;
use super::stream_set::{Member, Turn};
use super::wake_set::StreamWaker;
use super::wire::{Frames, Wire};

/// Heads of responses that may wait for the socket, in bytes, beside other control frames. They come before the content of others; more of
/// them would pile up, also for streams that are reset.
const HEADS_WAITING_BYTES: usize = 4 * 1024;

/// Ends when the stream has nothing more to do here.
pub(super) struct Stream<F, B> {
    at: Slot,
    key: u32,
    /// While the request may go on, or is held.
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
    /// Too much is held, or its answer waits for too long: the stream is to be reset.
    Cut(ErrorCode),
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
    pub(super) fn new(call: F, at: Slot, key: u32, inbox: Arc<Inbox>) -> Self {
        Self {
            at,
            key,
            inbox: Some(inbox),
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

    /// Its place among the streams of its connection.
    pub(super) fn key(&self) -> u32 {
        self.key
    }

    /// What is held of its request.
    pub(super) fn held_bytes(&self) -> HeldBytes {
        let inbox = self.inbox.as_ref();
        inbox.map_or_else(HeldBytes::default, |inbox| inbox.held_bytes())
    }

    /// Bytes of its answer that are counted, and wait for a window.
    pub(super) fn waits_with(&self) -> usize {
        match &self.stage {
            Stage::Sending { out, .. } => out.rest.counted_bytes(),
            Stage::Calling(_) | Stage::Answered(_) | Stage::Cut(_) | Stage::Ended => 0,
        }
    }

    /// Its call is told to end: it gets this error in place of the rest of its request. One that reads no more, or that holds more of its
    /// answer, is let go. The stream is to be polled.
    pub(super) fn cut(&mut self, error: RequestError) {
        let answer = self.waits_with();
        if let Some(inbox) = &self.inbox
            && answer <= inbox.held_bytes().total()
            && inbox.cut(error)
        {
            return;
        }
        self.stage = Stage::Cut(ErrorCode::ENHANCE_YOUR_CALM);
    }

    /// Where the content of its request goes, while that may go on.
    pub(super) fn inbox(&mut self) -> &mut Option<Arc<Inbox>> {
        &mut self.inbox
    }
}

impl<F, B: ResponseBody> Stream<F, B> {
    /// When it is to be asked: its body wants to send a heartbeat, or its answer may have to be let go.
    pub(super) fn due<T>(
        &mut self,
        wire: &Wire<T, B::Reader>,
        now: Instant,
        answer_timeout: Duration,
    ) -> Option<Heartbeat> {
        if let Some(mut until) = self.answer_due(answer_timeout) {
            if until <= now && wire.frames.http2.is_stream_window_used_up(self.at) {
                self.stage = Stage::Cut(ErrorCode::CANCEL);
            } else if until <= now {
                // It waits for the others of its connection.
                until = now + answer_timeout;
            }
            return Some(Heartbeat { from: until, until });
        }
        match &mut self.stage {
            Stage::Sending { body, out } => {
                let last_sent_at = out
                    .place
                    .and_then(|place| wire.followers.last_sent_at(place));
                body.follower()?.heartbeat(last_sent_at)
            }
            Stage::Calling(_) | Stage::Answered(_) | Stage::Cut(_) | Stage::Ended => None,
        }
    }

    /// When it is looked whether the answer of a call is let go, of which its peer takes nothing. A subscription may wait for ever.
    pub(super) fn answer_due(&mut self, answer_timeout: Duration) -> Option<Instant> {
        let Stage::Sending { body, out } = &mut self.stage else {
            return None;
        };
        let since = out.rest.waits_since()?;
        let subscribes = body.follower().is_some();
        (!subscribes).then(|| since + answer_timeout)
    }

    /// Its group, if it is in one.
    pub(super) fn place(&self) -> Option<Place> {
        match &self.stage {
            Stage::Sending { out, .. } => out.place,
            Stage::Calling(_) | Stage::Answered(_) | Stage::Cut(_) | Stage::Ended => None,
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
            out.rest = Rest::new(detached.rest, detached.whole);
            if let Some(follower) = body.follower() {
                follower.unfollow(detached.followed);
            }
        }
    }

    /// Counts the rest of a piece, which waits for a window, unless it has a budget of its own.
    pub(super) fn count_piece(&mut self, account: &Arc<Account>) {
        if let Stage::Sending { body, out } = &mut self.stage
            && !body.has_budget()
        {
            out.rest.count(account);
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
            over,
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
        // While the service works on the response, the request may still hold its header fields.
        if over && !matches!(self.stage, Stage::Calling(_)) {
            // Content that still comes is dropped where it comes in.
            self.inbox = None;
        }
    }
}

impl<F, B, T> Member<Wire<T, B::Reader>> for Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: ResponseBody,
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
        self.follow_orders(&mut wire.frames);
        let Stage::Sending { body, out } = &mut self.stage else {
            return Poll::Pending;
        };
        if out.has_begun_to_wait() {
            wire.frames.keeps_piece(self.key);
        }
        if std::mem::take(&mut out.at_rest)
            && let Some(follower) = body.follower()
        {
            if let Some(heartbeat) = follower.heartbeat(None) {
                wire.heartbeats.wants(heartbeat.until);
            }
            out.place = wire.followers.attach(follower, self.key, self.at);
        }
        Poll::Pending
    }

    fn waits_for_socket(
        &mut self,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        wire: &mut Wire<T, B::Reader>,
    ) -> bool {
        match &mut self.stage {
            // One in a group has to leave it first.
            Stage::Sending { out, .. } if out.place.is_some() => false,
            Stage::Sending { body, out } => {
                let waits = !own.is_aborted();
                if waits {
                    // Trailers wait for the socket as well.
                    let _ = body.poll_while_blocked(cx);
                    out.hold(body);
                    if out.has_begun_to_wait() {
                        wire.frames.keeps_piece(self.key);
                    }
                }
                waits
            }
            Stage::Answered(_) => !own.is_aborted(),
            Stage::Calling(_) | Stage::Cut(_) | Stage::Ended => false,
        }
    }
}

impl<F, B> Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: ResponseBody,
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
            Stage::Cut(code) => return Poll::Ready(End::Reset(*code)),
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
            Stage::Calling(_) | Stage::Answered(_) | Stage::Cut(_) | Stage::Ended => {
                Poll::Ready(End::Reset(ErrorCode::INTERNAL_ERROR))
            }
        }
    }
}
