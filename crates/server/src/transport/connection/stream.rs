//! One call on a connection: waits for the response, then moves its body onto the wire.
//!
//! HTTP/2 writes the head and the end of a response. The body between them goes through `Sender`, once the head is out.
//!
//! Holds: the body is asked for a chunk only when the windows have capacity for some of it, and keeps only the rest of
//! one. A reset by the peer, the end of the connection or a `StreamAbort` drops the call and its body at once, also
//! while nothing can be sent.
//! Does not: share its turn; after `STREAM_TURN_BYTES` the other streams go first.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::Response;
use http::response::Parts;
use tokio::io::AsyncWrite;

use super::followers::{Detached, Followers, Place};
use super::heartbeats::Heartbeats;
use super::io::{IoHandle, Sending};
use super::outlet::Sent;
use super::response_body::{Heartbeat, ResponseBody};
use super::stream_set::{Member, Turn};
use super::wake_set::StreamWaker;
use super::windows::Spent;
use crate::limits;

/// The state that the streams of a connection share.
pub(super) struct Wire<T, R> {
    pub(super) io: IoHandle<T>,
    pub(super) followers: Followers<R, Sending>,
    /// How often everything that HTTP/2 had to say has gone out.
    pub(super) flushes: u32,
    pub(super) heartbeats: Heartbeats,
    /// A stream wants to be asked earlier than all others.
    pub(super) heartbeat_moved: bool,
}

/// Ends when the stream has nothing more to do here.
pub(super) struct Stream<F, B> {
    number: u32,
    slot: u32,
    stage: Stage<F, B>,
}

enum Stage<F, B> {
    /// The service works on the response.
    Calling {
        call: F,
        respond: SendResponse<Bytes>,
    },
    /// The body goes out.
    Sending {
        body: B,
        out: Outgoing,
    },
    Ended,
}

impl<F, B> Stream<F, B> {
    /// In this slot of its set.
    pub(super) fn new(call: F, respond: SendResponse<Bytes>, slot: u32) -> Self {
        Self {
            number: respond.stream_id().as_u32(),
            slot,
            stage: Stage::Calling { call, respond },
        }
    }

    /// The number that HTTP/2 knows it by.
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl<F, B: ResponseBody> Stream<F, B> {
    /// When its body wants to send a heartbeat.
    pub(super) fn heartbeat(
        &mut self,
        followers: &Followers<B::Reader, Sending>,
    ) -> Option<Heartbeat> {
        match &mut self.stage {
            Stage::Sending { body, out } => {
                let last_sent_at = out.place.and_then(|place| followers.last_sent_at(place));
                body.follower()?.heartbeat(last_sent_at)
            }
            Stage::Calling { .. } | Stage::Ended => None,
        }
    }

    /// Leaves its group if it is in one: it was woken, maybe because its peer has reset it.
    pub(super) fn detach<T: AsyncWrite + Unpin>(
        &mut self,
        followers: &mut Followers<B::Reader, Sending>,
        io: &IoHandle<T>,
    ) {
        if let Stage::Sending { out, .. } = &self.stage
            && let Some(place) = out.place
            && let Some(detached) = followers.detach(place, self.slot, &mut io.sender())
        {
            self.resume(detached);
        }
    }

    /// It was taken out of its group and reads for itself.
    pub(super) fn resume(&mut self, detached: Detached<Sending>) {
        if let Stage::Sending { body, out } = &mut self.stage {
            out.place = None;
            out.spent = detached.sending.spent;
            out.rest = detached.rest;
            if let Some(follower) = body.follower() {
                follower.unfollow(detached.followed);
            }
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
        self.detach(&mut wire.followers, &wire.io);
        let polled = self.poll_stage(cx, own, turn, wire);
        match &mut self.stage {
            Stage::Sending { out, .. } if polled.is_ready() => {
                wire.io.windows().close(self.number, out.spent);
            }
            _ if polled.is_ready() => wire.io.windows().close(self.number, Spent::default()),
            Stage::Sending { body, out } if out.at_rest => {
                out.at_rest = false;
                if let Some(follower) = body.follower() {
                    if let Some(heartbeat) = follower.heartbeat(None) {
                        wire.heartbeat_moved |= wire.heartbeats.wants(heartbeat.until);
                    }
                    let sending = Sending {
                        number: self.number,
                        spent: out.spent,
                    };
                    out.place = wire.followers.attach(follower, self.slot, sending);
                }
            }
            _ => {}
        }
        polled
    }

    fn waits_for_socket(&mut self, cx: &mut Context<'_>, own: &StreamWaker) -> bool {
        match &mut self.stage {
            // One in a group has to leave it first.
            Stage::Sending { out, .. } if out.place.is_some() => false,
            Stage::Sending { body, out } => {
                let waits = !own.is_aborted() && out.poll_reset(cx).is_pending();
                if waits {
                    // Trailers wait for the socket as well.
                    let _ = body.poll_while_blocked(cx);
                    out.hold(body);
                }
                waits
            }
            Stage::Calling { .. } | Stage::Ended => false,
        }
    }
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
        wire: &mut Wire<T, B::Reader>,
    ) -> Poll<()> {
        if let Stage::Calling { call, respond } = &mut self.stage {
            if own.is_aborted() {
                respond.send_reset(Reason::CANCEL);
                return Poll::Ready(());
            }
            let response = match Pin::new(call).poll(cx) {
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(never)) => match never {},
                // A caller that has gone needs no answer; dropping the call ends the work for it.
                Poll::Pending => return respond.poll_reset(cx).map(|_| ()),
            };
            turn.spend_head();
            let Stage::Calling { respond, .. } = std::mem::replace(&mut self.stage, Stage::Ended)
            else {
                return Poll::Ready(());
            };
            let (head, mut body) = response.into_parts();
            let Some(out) = Outgoing::open(head, respond, &mut body, cx, wire.flushes) else {
                return Poll::Ready(());
            };
            self.stage = Stage::Sending { body, out };
        }
        match &mut self.stage {
            Stage::Sending { body, out } => out.turn(self.number, body, cx, own, turn, wire),
            Stage::Calling { .. } | Stage::Ended => Poll::Ready(()),
        }
    }
}

/// The sending half of a stream.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    spent: Spent,
    /// The rest of the last chunk, for which the windows had no capacity.
    rest: Bytes,
    /// Its group, if it is in one.
    place: Option<Place>,
    /// `Wire::flushes` when the head was handed to HTTP/2; it has gone out when that is another.
    opened_at: Option<u32>,
    /// The body had nothing to say when it was last asked.
    at_rest: bool,
}

impl Outgoing {
    /// Sends the headers. None if the stream is over with them.
    fn open<B>(
        head: Parts,
        mut respond: SendResponse<Bytes>,
        body: &mut B,
        cx: &mut Context<'_>,
        flushes: u32,
    ) -> Option<Self>
    where
        B: ResponseBody,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut response = Response::from_parts(head, ());
        // A response that has only a status is one frame, and only in that form may it ask to be retried; so the
        // body is looked at before the headers go.
        let first = if body.is_end_stream() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut *body).poll_frame(cx)
        };
        let first = match first {
            Poll::Pending => Bytes::new(),
            Poll::Ready(None) => {
                // The error is that of a stream which is gone.
                let _ = respond.send_response(response, true);
                return None;
            }
            Poll::Ready(Some(Err(error))) => {
                log_body_error(error);
                respond.send_reset(Reason::INTERNAL_ERROR);
                return None;
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        response.headers_mut().extend(trailers);
                    }
                    let _ = respond.send_response(response, true);
                    return None;
                }
            },
        };
        let stream = respond.send_response(response, false).ok()?;
        Some(Self {
            stream,
            spent: Spent::default(),
            rest: first,
            place: None,
            opened_at: Some(flushes),
            at_rest: false,
        })
    }

    /// Moves chunks while the windows have capacity, the body has chunks, and it is this stream's turn.
    fn turn<B, T>(
        &mut self,
        number: u32,
        body: &mut B,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
        wire: &Wire<T, B::Reader>,
    ) -> Poll<()>
    where
        B: ResponseBody,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
        T: AsyncWrite + Unpin,
    {
        if own.is_aborted() {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        // Nothing is sent once HTTP/2 has read a reset (RFC 9113, 6.4). It reads between the turns only, so one check
        // in a turn is enough. It also drops the head then, and DATA without one must not follow.
        if self.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        if turn.is_blocked() {
            return Poll::Pending;
        }
        if self.opened_at == Some(wire.flushes) {
            // Its head goes first, in this very turn unless the socket is full.
            own.raise();
            return Poll::Pending;
        }
        self.opened_at = None;
        let mut moved = 0;
        loop {
            if !self.rest.is_empty() {
                let sent = wire.io.sender().send(number, &mut self.spent, &self.rest);
                let rest = match sent {
                    Sent::All => self.rest.split_off(self.rest.len()),
                    Sent::Part(count) | Sent::Blocked(count) | Sent::Overflown(count) => {
                        self.rest.split_off(count)
                    }
                };
                let count = std::mem::replace(&mut self.rest, rest).len();
                moved += count;
                turn.spend(count);
                match sent {
                    Sent::All => {}
                    Sent::Part(_) => return self.stalled(number, body, cx, wire),
                    Sent::Blocked(_) => {
                        turn.end();
                        return again(own);
                    }
                    Sent::Overflown(_) => {
                        self.stream.send_reset(Reason::FLOW_CONTROL_ERROR);
                        return Poll::Ready(());
                    }
                }
            }
            if body.is_end_stream() {
                let _ = self.stream.send_data(Bytes::new(), true);
                return Poll::Ready(());
            }
            if !wire.io.has_window(number, &mut self.spent) {
                ready!(self.stalled(number, body, cx, wire));
            }
            if moved >= limits::STREAM_TURN_BYTES || turn.is_over() {
                return again(own);
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    self.at_rest = true;
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Err(error))) => {
                    log_body_error(error);
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    // Counts an empty chunk too: a body that gives nothing else must not keep the turn.
                    moved += 1;
                    self.rest = self.large_enough(number, data, body, wire);
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = self.stream.send_trailers(trailers);
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// A piece as it may be sent: with more behind it where small ones pile up at the peer.
    fn large_enough<B: ResponseBody, T: AsyncWrite + Unpin>(
        &mut self,
        number: u32,
        piece: Bytes,
        body: &mut B,
        wire: &Wire<T, B::Reader>,
    ) -> Bytes {
        let small = (1..limits::SMALL_FRAME_BYTES).contains(&piece.len());
        if small
            && (wire.io.windows()).has_too_much_unread(number, &mut self.spent)
            && let Some(follower) = body.follower()
        {
            return follower.larger(piece, limits::SMALL_FRAME_BYTES);
        }
        piece
    }

    /// Waits for capacity in a window. Ready when the trailers are next, which need none.
    fn stalled<B: ResponseBody, T>(
        &mut self,
        number: u32,
        body: &mut B,
        cx: &mut Context<'_>,
        wire: &Wire<T, B::Reader>,
    ) -> Poll<()> {
        wire.io.windows().wait(number, self.spent);
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

    /// Ready when its peer has reset the stream.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

/// Goes on in the next turn.
pub(super) fn again<T>(own: &StreamWaker) -> Poll<T> {
    own.raise();
    Poll::Pending
}

pub(super) fn log_body_error(error: impl Into<Box<dyn Error + Send + Sync>>) {
    let error = error.into();
    tracing::error!(error = error.as_ref() as &dyn Error, "response body failed");
}
