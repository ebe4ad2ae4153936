//! A request's body as HTTP/2 receives it.
//!
//! Holds: capacity is released only for bytes that were taken; a message that was begun is there in full within
//! `request_timeout`, and counted until then.
//! Does not: wait for a message to begin; a caller that needs one does.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep};

use super::half_sent::{HalfSent, Held, RequestError};
use crate::framing::Framing;

/// The receiving half of a stream.
pub(super) struct RequestBody {
    stream: RecvStream,
    /// All data was taken; trailers may follow.
    data_ended: bool,
    framing: Framing,
    held: Held,
    /// Runs while a message is under way and nothing of it is there to be read.
    expiry: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(stream: RecvStream, half_sent: Arc<HalfSent>) -> Self {
        Self {
            stream,
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

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.data_ended {
            match self.stream.poll_data(cx) {
                Poll::Pending => {
                    return self.poll_expired(cx).map(|error| Some(Err(error.into())));
                }
                Poll::Ready(Some(Ok(data))) => {
                    if let Err(error) = self.received(&data) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    // An error means that the stream is gone; the next poll tells.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
