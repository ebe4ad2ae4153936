//! A request's body as HTTP/2 receives it.
//!
//! Holds: a message that was begun is there in full within
//! `request_timeout`, and counted until then.
//! Does not: wait for a message to begin; a caller that needs one does.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use super::RequestError;
use super::inbox::Outbox;
use crate::framing::Framing;

/// The messages of a request.
pub(super) struct RequestBody {
    content: Outbox,
    /// All data was taken; trailers may follow.
    data_ended: bool,
    framing: Framing,
    /// Bytes of the message that is not whole.
    under_way: usize,
    request_timeout: Duration,
    /// Runs while a message is under way and nothing of it is there to be read.
    expiry: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(content: Outbox, request_timeout: Duration) -> Self {
        Self {
            content,
            data_ended: false,
            framing: Framing::default(),
            under_way: 0,
            request_timeout,
            expiry: None,
        }
    }

    fn received(&mut self, data: &Bytes) {
        let (ended, under_way) = self.framing.advance(data);
        // A timer that is over and could not say so: we were not asked, so it is not the peer that was late.
        let unasked = self
            .expiry
            .as_ref()
            .is_some_and(|expiry| expiry.deadline() <= Instant::now());
        if ended || unasked {
            self.expiry = None;
        }
        self.under_way = under_way;
    }

    /// Ready when the rest of the message under way takes too long.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        if self.under_way == 0 {
            return Poll::Pending;
        }
        let limit = self.request_timeout;
        let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(expiry.as_mut().poll(cx));
        Poll::Ready(RequestError::TimedOut(limit))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.data_ended {
            let under_way = self.under_way;
            match self.content.poll_data(under_way, cx) {
                Poll::Pending => {
                    return self.poll_expired(cx).map(|error| Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(data))) => {
                    self.received(&data);
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
