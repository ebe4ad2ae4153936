//! A request's body as HTTP/2 receives it.
//!
//! Holds: a message that was begun is there in full within
//! `request_timeout`, and counted until then.
//! Does not: wait for a message to begin; a caller that needs one does.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use super::half_sent::{HalfSent, Held, RequestError};
use crate::framing::Framing;

/// The receiving half of a stream, as HTTP/2 gives it. Capacity is released for bytes that were taken.
pub(super) trait Content: Send + Unpin + 'static {
    /// The next bytes; `None` at the end of the content.
    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Box<dyn Error + Send + Sync>>>>;

    /// The trailers, after the content.
    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Box<dyn Error + Send + Sync>>>;

    /// Whether there are neither bytes nor trailers left.
    fn is_ended(&self) -> bool;
}

/// The messages of a request.
pub(super) struct RequestBody<C> {
    content: C,
    /// All data was taken; trailers may follow.
    data_ended: bool,
    framing: Framing,
    held: Held,
    /// Runs while a message is under way and nothing of it is there to be read.
    expiry: Option<Pin<Box<Sleep>>>,
}

impl<C: Content> RequestBody<C> {
    pub(super) fn new(content: C, half_sent: Arc<HalfSent>) -> Self {
        Self {
            content,
            data_ended: false,
            framing: Framing::default(),
            held: Held::nothing(half_sent),
            expiry: None,
        }
    }

    fn received(&mut self, data: &Bytes) -> Result<(), RequestError> {
        let (ended, under_way) = self.framing.advance(data);
        // A timer that is over and could not say so: we were not asked, so it is not the peer that was late.
        let unasked = self
            .expiry
            .as_ref()
            .is_some_and(|expiry| expiry.deadline() <= Instant::now());
        if ended || unasked {
            self.expiry = None;
        }
        self.held.set(under_way)
    }

    /// Ready when the rest of the message under way takes too long.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        if !self.held.is_some() {
            return Poll::Pending;
        }
        let limit = self.held.request_timeout();
        let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(expiry.as_mut().poll(cx));
        Poll::Ready(RequestError::TimedOut(limit))
    }
}

impl<C: Content> Body for RequestBody<C> {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.data_ended {
            match self.content.poll_data(cx) {
                Poll::Pending => {
                    return self.poll_expired(cx).map(|error| Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(data))) => {
                    if let Err(error) = self.received(&data) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        match ready!(self.content.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_ended()
    }
}
