//! One call on a connection: waits for the response, then moves its body into HTTP/2.
//!
//! Holds: the body is asked for a chunk only when flow control lets some of it go out; a reset by the peer, the
//! end of the connection or a `StreamAbort` drops the call and its body at once; chunks are handed on as they are.
//! Does not: share its turn; after `STREAM_TURN_BYTES` the other streams go first.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::Response;
use http::response::Parts;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::StreamAbort;
use crate::layers::Deadline;
use crate::limits;

thread_local! {
    /// Chunks that the connection which is being polled may still hand to HTTP/2 before these are written.
    static TURN: Cell<u32> = const { Cell::new(0) };
}

/// The streams polled next may hand over a turn's worth of chunks. Handing over all that is due at once would make
/// HTTP/2 keep a frame per stream, and keep the memory of that many ever after.
pub(super) fn begin_turn() {
    TURN.set(limits::CONNECTION_TURN_CHUNKS);
}

pin_project! {
    /// Ends when the stream has nothing more to do here.
    #[project = StreamProjected]
    pub(super) enum Stream<F, B> {
        /// The service works on the response.
        Calling {
            #[pin]
            call: F,
            // Some until the response is there.
            respond: Option<SendResponse<Bytes>>,
        },
        /// The body goes out.
        Sending {
            #[pin]
            body: B,
            // Some from the response headers on.
            out: Option<Outgoing>,
        },
        Ended,
    }
}

impl<F, B> Stream<F, B> {
    pub(super) fn new(call: F, respond: SendResponse<Bytes>) -> Self {
        Self::Calling {
            call,
            respond: Some(respond),
        }
    }
}

impl<F, B> Future for Stream<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let StreamProjected::Calling { call, respond } = self.as_mut().project() {
            if TURN.get() == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let response = match call.poll(cx) {
                Poll::Ready(Ok(response)) => response,
                Poll::Ready(Err(never)) => match never {},
                Poll::Pending => {
                    // A caller that has gone needs no answer; dropping the call ends the work for it.
                    let reset = respond
                        .as_mut()
                        .is_none_or(|respond| respond.poll_reset(cx).is_ready());
                    if !reset {
                        return Poll::Pending;
                    }
                    self.set(Self::Ended);
                    return Poll::Ready(());
                }
            };
            TURN.set(TURN.get().saturating_sub(1));
            let respond = respond.take();
            let (head, body) = response.into_parts();
            self.set(Self::Sending { body, out: None });
            if let StreamProjected::Sending { body, out } = self.as_mut().project()
                && let Some(respond) = respond
            {
                *out = Outgoing::open(head, respond, body, cx);
            }
        }
        if let StreamProjected::Sending {
            body,
            out: Some(out),
        } = self.as_mut().project()
            && out.turn(body, cx) == Turn::Waits
        {
            return Poll::Pending;
        }
        self.set(Self::Ended);
        Poll::Ready(())
    }
}

/// The sending half of a stream.
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    abort: Option<StreamAbort>,
    /// The abort knows whom to wake.
    watches_abort: bool,
    /// Of a call that has a deadline: the body's own timer stands still while its reader is stalled.
    deadline: Option<Pin<Box<Sleep>>>,
    /// HTTP/2 had room when it was last asked.
    has_room: bool,
}

/// What became of a turn.
#[derive(PartialEq, Eq)]
enum Turn {
    /// Whoever can make it go on has the waker.
    Waits,
    /// Nothing more to do for this stream.
    Over,
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
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Option<Self>
    where
        B: Body<Data = Bytes>,
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
            body.as_mut().poll_frame(cx)
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
        Some(Self {
            stream,
            abort,
            watches_abort: false,
            deadline,
            has_room: false,
        })
    }

    /// Moves chunks while there is room, the body has some, and it is this stream's turn.
    fn turn<B>(&mut self, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Turn
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Some(abort) = &self.abort {
            if !self.watches_abort {
                // Once is enough: a stream keeps its waker for life.
                abort.register(cx.waker());
                self.watches_abort = true;
            }
            if abort.is_aborted() {
                self.stream.send_reset(Reason::CANCEL);
                return Turn::Over;
            }
        }
        let mut moved = 0;
        loop {
            match self.room(cx) {
                Room::Some => {}
                Room::None => return self.stalled(cx),
                Room::Gone => return Turn::Over,
            }
            if moved >= limits::STREAM_TURN_BYTES {
                cx.waker().wake_by_ref();
                return Turn::Waits;
            }
            if TURN.get() == 0 {
                cx.waker().wake_by_ref();
                return Turn::Waits;
            }
            let frame = match body.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    let reset = self.stream.poll_reset(cx).is_ready();
                    return if reset { Turn::Over } else { Turn::Waits };
                }
                Poll::Ready(None) => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Turn::Over;
                }
                Poll::Ready(Some(Err(error))) => {
                    log_body_error(error);
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Turn::Over;
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    // Counts an empty chunk too: a body that gives nothing else must not keep the turn.
                    moved += data.len().max(1);
                    TURN.set(TURN.get().saturating_sub(1));
                    let last = body.is_end_stream();
                    self.has_room = false;
                    if self.stream.send_data(data, last).is_err() || last {
                        return Turn::Over;
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = self.stream.send_trailers(trailers);
                        return Turn::Over;
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

    fn stalled(&mut self, cx: &mut Context<'_>) -> Turn {
        if self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
        {
            self.stream.send_reset(Reason::CANCEL);
            return Turn::Over;
        }
        Turn::Waits
    }
}

fn log_body_error(error: impl Into<Box<dyn Error + Send + Sync>>) {
    let error = error.into();
    tracing::error!(error = error.as_ref() as &dyn Error, "response body failed");
}
