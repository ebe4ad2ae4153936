//! The content of a request, on its way from the connection to the call: one buffer, whatever frames it came in.
//!
//! Holds: credit of the stream's window is given back for bytes that the call has taken. What is held is counted until the call asks for
//! more: by then it has passed on what it took, but for a message that is not whole.
//! Does not: know messages; [`RequestBody`](super::request_body::RequestBody) does.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::Mutex;

use super::RequestError;
use super::account::{Account, Held, HeldBytes};
use super::wake_set::StreamWaker;
use longlived_http2::{ErrorCode, Opening};

/// Where the connection puts the content of one request.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Wakes the stream in its connection.
    stream: Arc<StreamWaker>,
    /// Bytes that the call may take before the stream is told.
    batch: usize,
}

#[derive(Debug)]
struct State {
    content: BytesMut,
    /// Bytes that the call was given last. It has some of them until it asks again.
    given: usize,
    held: Held,
    end: Option<End>,
    /// The call waits for content.
    waiting: Option<Waker>,
    /// Bytes that the call took, and the stream has not been told.
    taken: usize,
    /// The client waits for 100 before it sends the content.
    expects_continue: bool,
    /// The call wants the content.
    wanted: bool,
    /// The call reads no more.
    left: bool,
}

/// How a request ends.
#[derive(Debug)]
enum End {
    Whole(Option<HeaderMap>),
    /// The call gets this error for the rest.
    Cut(RequestError),
}

impl Inbox {
    /// `window` bytes of the request may be on their way.
    pub(super) fn new(
        stream: Arc<StreamWaker>,
        account: Arc<Account>,
        opening: &Opening,
        window: u32,
        expects_continue: bool,
    ) -> Arc<Self> {
        let mut held = Held::nothing(account);
        held.set_fields(opening.held_bytes());
        Arc::new(Self {
            state: Mutex::new(State {
                content: BytesMut::new(),
                given: 0,
                held,
                end: opening.is_request_ended().then_some(End::Whole(None)),
                waiting: None,
                taken: 0,
                expects_continue,
                wanted: false,
                left: false,
            }),
            stream,
            batch: (window / 2).max(1) as usize,
        })
    }

    /// Bytes have come; the request ends with them or not. `false` if nobody wants them.
    pub(super) fn put(&self, bytes: &[u8], end: bool) -> bool {
        let mut state = self.state.lock();
        if state.left || state.end.is_some() {
            return false;
        }
        state.content.extend_from_slice(bytes);
        state.count();
        if end {
            state.end = Some(End::Whole(None));
        }
        state.wake();
        true
    }

    /// The request ends with these trailers, which hold that number of bytes.
    pub(super) fn put_trailers(&self, trailers: HeaderMap, held_bytes: usize) {
        let mut state = self.state.lock();
        if state.left || state.end.is_some() {
            return;
        }
        state.end = Some(End::Whole(Some(trailers)));
        state.held.set_trailers(held_bytes);
        state.wake();
    }

    /// The stream was reset: the call gets nothing more.
    pub(super) fn reset(&self, code: ErrorCode) {
        let mut state = self.state.lock();
        state.content = BytesMut::new();
        state.cut_short(RequestError::Reset(code));
        state.count();
    }

    /// The stream is over: a request that has not ended never will.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.cut_short(RequestError::Reset(ErrorCode::CANCEL));
        }
    }

    /// What is held of the request and can be let go. A whole message that the call has taken is waited for: the call works on it. What is
    /// left of a request that was cut was written off.
    pub(super) fn held_bytes(&self) -> HeldBytes {
        let state = self.state.lock();
        let held = state.held.bytes();
        let sent = if state.is_read() { held.sent } else { 0 };
        HeldBytes { sent, ..held }
    }

    /// The call is told to end, and gets nothing more. What it holds itself is written off. `false` if it reads no more.
    pub(super) fn cut(&self, error: RequestError) -> bool {
        let mut state = self.state.lock();
        if !state.is_read() {
            return false;
        }
        state.taken += std::mem::take(&mut state.content).len();
        state.cut_short(error);
        let given = state.given;
        state.held.write_off(given);
        if state.taken > 0 {
            self.stream.raise();
        }
        true
    }

    /// What the stream has to do for the call.
    pub(super) fn orders(&self) -> Orders {
        let state = &mut *self.state.lock();
        Orders {
            taken: std::mem::take(&mut state.taken),
            inform: state.wanted && std::mem::take(&mut state.expects_continue),
            over: state.left || (state.is_whole() && state.content.is_empty()),
        }
    }
}

impl State {
    /// Counts the content, while the message that is not whole is as long as before.
    fn count(&mut self) {
        let content = self.content.capacity() + self.given;
        self.held.set_content(content);
    }

    /// The call has something to read yet.
    fn is_read(&self) -> bool {
        let has_more = match &self.end {
            None => true,
            Some(End::Whole(trailers)) => trailers.is_some() || !self.content.is_empty(),
            Some(End::Cut(_)) => false,
        };
        has_more && !self.left
    }

    /// The request has ended, and no trailers wait.
    fn is_whole(&self) -> bool {
        matches!(self.end, Some(End::Whole(None)))
    }

    fn cut_short(&mut self, error: RequestError) {
        self.end = Some(End::Cut(error));
        self.held.set_trailers(0);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

/// In the extensions of a request while it has its header fields: services drop both together. A clone, which nobody makes, counts
/// nothing.
#[derive(Debug)]
pub(super) struct WithFields(pub(super) Option<Arc<Inbox>>);

impl Clone for WithFields {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Drop for WithFields {
    fn drop(&mut self) {
        if let Some(inbox) = &self.0 {
            inbox.state.lock().held.set_fields(0);
        }
    }
}

/// What a stream has to do for its call.
pub(super) struct Orders {
    /// Bytes that the call took.
    pub(super) taken: usize,
    /// 100 is to be sent.
    pub(super) inform: bool,
    /// The call reads no more, or there is no more: what still comes is dropped.
    pub(super) over: bool,
}

/// The call's side of an [`Inbox`].
#[derive(Debug)]
pub(super) struct Outbox(pub(super) Arc<Inbox>);

/// The call reads no more: what has come is dropped, and its window bytes go back.
impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.left = true;
        state.taken += std::mem::take(&mut state.content).len();
        if let Some(End::Whole(trailers)) = &mut state.end {
            *trailers = None;
        }
        state.held.clear();
        // A request that has ended needs no credit.
        if state.taken > 0 && state.end.is_none() {
            self.0.stream.raise();
        }
    }
}

impl Outbox {
    /// The next bytes; `None` at the end of the content. The caller holds `under_way` bytes of those before: a message that is not
    /// whole.
    pub(super) fn poll_data(
        &mut self,
        under_way: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>> {
        let inbox = &*self.0;
        let mut state = inbox.state.lock();
        if let Some(End::Cut(error)) = state.end {
            return Poll::Ready(Some(Err(error.into())));
        }
        state.given = state.content.capacity();
        let content = state.given;
        state.held.set(content, under_way);
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
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The trailers, after the content.
    pub(super) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<dyn Error + Send + Sync>>> {
        let state = &mut *self.0.state.lock();
        match &mut state.end {
            Some(End::Whole(trailers)) => {
                state.held.set_trailers(0);
                Poll::Ready(Ok(trailers.take()))
            }
            Some(End::Cut(error)) => Poll::Ready(Err((*error).into())),
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whether there are neither bytes nor trailers left.
    pub(super) fn is_ended(&self) -> bool {
        let state = self.0.state.lock();
        state.content.is_empty() && state.is_whole()
    }
}
