//! A request's body as HTTP/2 receives it.
//!
//! Holds: the peer may send more only when what it sent was taken; a message that was begun is there in full within
//! `request_timeout`, and counted until then.
//! Does not: wait for a message to begin; whoever needs one does.

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

/// Bytes before each gRPC message: a flag, and its length.
const PREFIX: u8 = 5;
const PREFIX_BYTES: usize = PREFIX as usize;

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

/// Where in a sequence of gRPC messages a body is.
#[derive(Debug, Default)]
struct Framing {
    /// Bytes of the prefix that have come.
    prefix: u8,
    /// Bytes of the message that have not, once the prefix is whole; before that its length as far as it has come.
    missing: u32,
    /// Bytes that have come, the prefix included.
    under_way: usize,
}

impl Framing {
    /// Whether a message ended in `data`, and how much has come of the one that has not.
    fn advance(&mut self, mut data: &[u8]) -> (bool, usize) {
        let mut ended = false;
        while let Some((&first, rest)) = data.split_first() {
            if self.prefix == 0
                && let Some((&[_, length @ ..], rest)) = data.split_first_chunk::<PREFIX_BYTES>()
            {
                // Nearly always the prefix is there in one piece.
                self.prefix = PREFIX;
                self.missing = u32::from_be_bytes(length);
                self.under_way = PREFIX_BYTES;
                data = rest;
            } else if self.prefix < PREFIX {
                if self.prefix > 0 {
                    self.missing = self.missing << 8 | u32::from(first);
                }
                self.prefix += 1;
                self.under_way += 1;
                data = rest;
            }
            if self.prefix == PREFIX {
                let taken = data.len().min(self.missing as usize);
                data = &data[taken..];
                self.missing -= taken as u32;
                self.under_way += taken;
                if self.missing == 0 {
                    ended = true;
                    *self = Self::default();
                }
            }
        }
        (ended, self.under_way)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((length as u32).to_be_bytes());
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    #[test]
    fn what_is_under_way_is_counted_with_its_prefix() {
        let mut framing = Framing::default();
        assert_eq!(framing.advance(&[0, 0, 0]), (false, 3));
        assert_eq!(framing.advance(&[0, 2, 7]), (false, 6));
        assert_eq!(framing.advance(&[7]), (true, 0));
        assert_eq!(framing.advance(&message(0)), (true, 0));
    }

    proptest! {
        #[test]
        fn messages_end_where_they_end_however_they_are_cut(
            lengths in prop::collection::vec(0_usize..400, 1..20),
            cuts in prop::collection::vec(1_usize..500, 1..40),
            last in 1_usize..5,
        ) {
            let mut bytes: Vec<u8> = lengths.iter().flat_map(|&length| message(length)).collect();
            bytes.extend(&message(9)[..last]);
            let mut framing = Framing::default();
            let mut rest = &bytes[..];
            let mut under_way = 0;
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                under_way = framing.advance(now).1;
                rest = later;
            }
            prop_assert_eq!(under_way, last);
        }
    }
}
