//! One call on a connection: waits for the response, then moves its body into HTTP/2.
//!
//! Holds: the body is asked for a chunk only when flow control lets some of it go out; a reset by the peer, the
//! end of the connection or a `StreamAbort` drops the call and its body at once; chunks are handed on as they are.
//! Does not: share its turn; after `STREAM_TURN_BYTES` the other streams go first.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::Response;
use http::response::Parts;
use http_body::Body;
use tokio::time::{Sleep, sleep_until};

use super::StreamAbort;
use super::stream_set::{Member, StreamWaker, Turn};
use crate::layers::Deadline;
use crate::limits;

/// Ends when the stream has nothing more to do here.
pub(super) enum Stream<F, B> {
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
    pub(super) fn new(call: F, respond: SendResponse<Bytes>) -> Self {
        Self::Calling { call, respond }
    }
}

impl<F, B> Member for Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>, own: &Arc<StreamWaker>, turn: &mut Turn) -> Poll<()> {
        if let Self::Calling { call, respond } = self {
            let response = match Pin::new(call).poll(cx) {
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(never)) => match never {},
                // A caller that has gone needs no answer; dropping the call ends the work for it.
                Poll::Pending => return respond.poll_reset(cx).map(|_| ()),
            };
            turn.spend();
            let Self::Calling { respond, .. } = std::mem::replace(self, Self::Ended) else {
                return Poll::Ready(());
            };
            let (head, mut body) = response.into_parts();
            let Some(out) = Outgoing::open(head, respond, &mut body, cx, own) else {
                return Poll::Ready(());
            };
            *self = Self::Sending { body, out };
        }
        match self {
            Self::Sending { body, out } => out.turn(body, cx, own, turn),
            Self::Calling { .. } | Self::Ended => Poll::Ready(()),
        }
    }

    fn is_sending(&self) -> bool {
        matches!(self, Self::Sending { .. })
    }
}

/// The sending half of a stream.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    /// Of a call that has a deadline: the body's own timer stands still while its reader is stalled.
    deadline: Option<Pin<Box<Sleep>>>,
    /// HTTP/2 had room when it was last asked.
    has_room: bool,
}

enum Room {
    Some,
    None,
    /// The stream is reset or its connection has ended.
    Gone,
}

impl Outgoing {
    /// Sends the headers. None if the stream is over with them.
    fn open<B>(
        mut head: Parts,
        mut respond: SendResponse<Bytes>,
        body: &mut B,
        cx: &mut Context<'_>,
        own: &Arc<StreamWaker>,
    ) -> Option<Self>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let abort = head.extensions.remove::<StreamAbort>();
        let deadline = head.extensions.remove::<Deadline>();
        let mut response = Response::from_parts(head, ());
        // A response that has only a status is one frame, and only in that form may it ask to be retried; so the
        // body is looked at before the headers go.
        let first = if body.is_end_stream() {
            Poll::Ready(None)
        } else {
            Pin::new(&mut *body).poll_frame(cx)
        };
        let first = match first {
            Poll::Pending => None,
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
                Ok(data) => Some(data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        response.headers_mut().extend(trailers);
                    }
                    let _ = respond.send_response(response, true);
                    return None;
                }
            },
        };
        let mut stream = respond.send_response(response, false).ok()?;
        if let Some(data) = first {
            stream.send_data(data, body.is_end_stream()).ok()?;
            if body.is_end_stream() {
                return None;
            }
        }
        let deadline =
            deadline.map(|Deadline(at)| Box::pin(sleep_until(at + limits::STALLED_DEADLINE_GRACE)));
        if let Some(abort) = abort {
            abort.register(own);
        }
        Some(Self {
            stream,
            deadline,
            has_room: false,
        })
    }

    /// Moves chunks while there is room, the body has some, and it is this stream's turn.
    fn turn<B>(
        &mut self,
        body: &mut B,
        cx: &mut Context<'_>,
        own: &StreamWaker,
        turn: &mut Turn,
    ) -> Poll<()>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if own.is_aborted() {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        let mut moved = 0;
        loop {
            match self.room(cx) {
                Room::Some => {}
                Room::None => return self.stalled(cx),
                Room::Gone => return Poll::Ready(()),
            }
            if moved >= limits::STREAM_TURN_BYTES || turn.is_over() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    return self.stream.poll_reset(cx).map(|_| ());
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
                    moved += data.len().max(1);
                    turn.spend();
                    let last = body.is_end_stream();
                    self.has_room = false;
                    if self.stream.send_data(data, last).is_err() || last {
                        return Poll::Ready(());
                    }
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

    /// Whether flow control lets something go out now; if not, `cx` is woken when it does.
    fn room(&mut self, cx: &mut Context<'_>) -> Room {
        if self.has_room {
            return Room::Some;
        }
        // Being given room wakes whoever last asked for it. That is this stream, which is about to look anyway and
        // would be polled a second time for each chunk; so for a moment it is nobody.
        if self
            .stream
            .poll_reset(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            return Room::Gone;
        }
        // One byte beyond what already waits: more would take connection window from other streams.
        self.stream.reserve_capacity(1);
        loop {
            if self.stream.capacity() > 0 {
                self.has_room = true;
                return Room::Some;
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Room::Gone,
                Poll::Pending => return Room::None,
            }
        }
    }

    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
        {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

fn log_body_error(error: impl Into<Box<dyn Error + Send + Sync>>) {
    let error = error.into();
    tracing::error!(error = error.as_ref() as &dyn Error, "response body failed");
}
