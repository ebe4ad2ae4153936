//! The content of a request, on its way from the connection to the call: one buffer, whatever frames it came in.
//!
//! Holds: credit of the stream's window is given back for bytes that the call has taken.
//! Does not: know messages; [`RequestBody`](super::request_body::RequestBody) does.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::Mutex;

use super::half_sent::RequestError;
use super::request_body::Content;
use super::wake_set::StreamWaker;
use longlived_http2::ErrorCode;

/// Where the connection puts the content of one request.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Wakes the stream in its connection.
    stream: Arc<StreamWaker>,
    /// Bytes that the call may take before the stream is told.
    batch: usize,
}

#[derive(Debug, Default)]
struct State {
    content: BytesMut,
    end: Option<End>,
    /// The call waits for content.
    waiting: Option<Waker>,
    /// Bytes that the call took, and the stream has not been told.
    taken: usize,
    /// The client waits for 100 before it sends the content.
    expects_continue: bool,
    /// The call wants the content.
    wanted: bool,
}

/// How a request ends.
#[derive(Debug)]
enum End {
    Whole(Option<HeaderMap>),
    Reset(ErrorCode),
}

impl Inbox {
    /// `window` bytes of the request may be on their way.
    pub(super) fn new(stream: Arc<StreamWaker>, window: u32, expects_continue: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                expects_continue,
                ..State::default()
            }),
            stream,
            batch: (window / 2).max(1) as usize,
        })
    }

    /// Bytes have come; the request ends with them or not.
    pub(super) fn put(&self, bytes: &[u8], end: bool) {
        let mut state = self.state.lock();
        state.content.extend_from_slice(bytes);
        if end {
            state.end = Some(End::Whole(None));
        }
        state.wake();
    }

    /// The request ends with these trailers.
    pub(super) fn put_trailers(&self, trailers: HeaderMap) {
        let mut state = self.state.lock();
        state.end = Some(End::Whole(Some(trailers)));
        state.wake();
    }

    /// The stream was reset: the call gets nothing more.
    pub(super) fn reset(&self, code: ErrorCode) {
        let mut state = self.state.lock();
        state.content = BytesMut::new();
        state.end = Some(End::Reset(code));
        state.wake();
    }

    /// The stream is over: a request that has not ended never will.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(End::Reset(ErrorCode::CANCEL));
            state.wake();
        }
    }

    /// What the stream has to do for the call: bytes that it took, and whether 100 is to be sent.
    pub(super) fn orders(&self) -> (usize, bool) {
        let state = &mut *self.state.lock();
        let inform = state.wanted && std::mem::take(&mut state.expects_continue);
        (std::mem::take(&mut state.taken), inform)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// The call's side of an [`Inbox`].
#[derive(Debug)]
pub(super) struct Outbox(pub(super) Arc<Inbox>);

/// The call reads no more: what has come is dropped, and its window bytes go back.
impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.taken += std::mem::take(&mut state.content).len();
        // A request that has ended needs no credit.
        if state.taken > 0 && state.end.is_none() {
            self.0.stream.raise();
        }
    }
}

impl Content for Outbox {
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>> {
        let inbox = &*self.0;
        let mut state = inbox.state.lock();
        if !std::mem::replace(&mut state.wanted, true) && state.expects_continue {
            inbox.stream.raise();
        }
        if !state.content.is_empty() {
            let bytes = state.content.split().freeze();
            // What the buffer has left would keep all of it in memory.
            state.content = BytesMut::new();
            state.taken += bytes.len();
            if state.end.is_none() && state.taken >= inbox.batch {
                inbox.stream.raise();
            }
            return Poll::Ready(Some(Ok(bytes)));
        }
        match &state.end {
            Some(End::Whole(_)) => Poll::Ready(None),
            Some(End::Reset(code)) => Poll::Ready(Some(Err(error(*code)))),
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<dyn Error + Send + Sync>>> {
        let mut state = self.0.state.lock();
        match &mut state.end {
            Some(End::Whole(trailers)) => Poll::Ready(Ok(trailers.take())),
            Some(End::Reset(code)) => Poll::Ready(Err(error(*code))),
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_ended(&self) -> bool {
        let state = self.0.state.lock();
        state.content.is_empty() && matches!(state.end, Some(End::Whole(None)))
    }
}

fn error(code: ErrorCode) -> Box<dyn Error + Send + Sync> {
    Box::new(RequestError::Reset(code))
}
