//! Gives every call an id: the caller's `x-request-id`, or one of ours.
//!
//! Holds: the id stands in the request's extensions, and in the initial metadata of every answer.
//! Does not: trust the caller with more than `REQUEST_ID_BYTES_MAX` visible characters of our log.

use std::fmt::{self, Write as _};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::limits;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Where ids come from for calls that bring none; injected, so that a run can be replayed.
pub(crate) type IdSource = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The id of one call, in the request's extensions. Small: a stream keeps it for hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Id);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Ours(u64),
    Theirs(Arc<HeaderValue>),
}

impl RequestId {
    fn of<B>(request: &Request<B>, source: &IdSource) -> Self {
        Self(match request.headers().get(HEADER) {
            // Copied: a clone would keep the buffer that all headers of the call were read into.
            Some(id) if is_acceptable(id) => HeaderValue::from_bytes(id.as_bytes())
                .map_or_else(|_| Id::Ours(source()), |id| Id::Theirs(Arc::new(id))),
            _ => Id::Ours(source()),
        })
    }

    fn to_header(&self) -> HeaderValue {
        let mut value = match &self.0 {
            Id::Ours(number) => HeaderValue::from_bytes(&digits(*number))
                .expect("hexadecimal digits are visible ASCII"),
            Id::Theirs(value) => HeaderValue::clone(value),
        };
        // HTTP/2 would keep each id in its table of headers to come, up to 12 KiB a connection, and none comes twice.
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Ours(number) => digits(*number)
                .iter()
                .try_for_each(|digit| f.write_char((*digit).into())),
            Id::Theirs(value) => f.write_str(value.to_str().expect("only visible ASCII is let in")),
        }
    }
}

/// Sixteen hexadecimal digits.
fn digits(number: u64) -> [u8; 16] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (60 - 4 * at) & 0xf) as usize])
}

fn is_acceptable(id: &HeaderValue) -> bool {
    !id.is_empty()
        && id.len() <= limits::REQUEST_ID_BYTES_MAX
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

/// Wraps a service in `RequestIdService`.
#[derive(Clone)]
pub(crate) struct RequestIdLayer {
    source: IdSource,
}

impl RequestIdLayer {
    /// `source` makes the ids of calls that bring none.
    pub(crate) fn new(source: IdSource) -> Self {
        Self { source }
    }
}

impl fmt::Debug for RequestIdLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIdLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestIdService {
            inner,
            source: Arc::clone(&self.source),
        }
    }
}

/// See the file's head.
#[derive(Clone)]
pub struct RequestIdService<S> {
    inner: S,
    source: IdSource,
}

impl<S: fmt::Debug> fmt::Debug for RequestIdService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestIdService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, Q, B> Service<Request<Q>> for RequestIdService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let id = RequestId::of(&request, &self.source);
        let echo = id.clone();
        request.extensions_mut().insert(id);
        RequestIdFuture {
            call: self.inner.call(request),
            echo: Some(echo),
        }
    }
}

pin_project! {
    /// Adds the id to the response's headers.
    #[derive(Debug)]
    pub struct RequestIdFuture<F> {
        #[pin]
        call: F,
        echo: Option<RequestId>,
    }
}

impl<F, B, E> Future for RequestIdFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.call.poll(cx))?;
        if let Some(id) = this.echo.take() {
            response.headers_mut().insert(HEADER, id.to_header());
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(header: Option<&[u8]>) -> String {
        let mut request = Request::new(());
        if let Some(value) = header {
            request.headers_mut().insert(
                HEADER,
                HeaderValue::from_bytes(value).expect("a header value"),
            );
        }
        let source: IdSource = Arc::new(|| 0xabc);
        RequestId::of(&request, &source).to_string()
    }

    #[test]
    fn the_callers_id_is_taken_over() {
        assert_eq!(id_of(Some(b"order-17")), "order-17");
        assert_eq!(id_of(Some(&[b'x'; 128])), "x".repeat(128));
    }

    #[test]
    fn an_absent_long_or_unprintable_id_is_replaced() {
        for header in [
            None,
            Some(&b""[..]),
            Some(&[b'x'; 129]),
            Some(b"two words"),
            Some(b"caf\xc3\xa9"),
        ] {
            assert_eq!(id_of(header), "0000000000000abc");
        }
    }
}
