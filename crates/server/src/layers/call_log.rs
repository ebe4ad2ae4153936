//! One line per call, at its end.
//!
//! Holds: exactly one, also when the client vanishes before the response or in the middle of a stream. Streams and
//! failures are at info, if `sums` allows the line and they have none elsewhere; all others are at debug.
//! Does not: log the payload, or anything while the call runs.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use longlived_api::code;
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::call_record::{CallRecord, OfNode, cut};
use super::request_id::RequestId;
use super::sums::{Kind, Sums};
use crate::lifecycle::Drain;
use crate::transport::{
    abort::StreamAbort,
    connection::{ConnectionContext, Follower, ResponseBody},
};

const NO_STATUS: &str = "the response ended without a status";

/// Wraps a service in `CallLogService`.
#[derive(Clone, Debug)]
pub(crate) struct CallLogLayer {
    of_node: Arc<OfNode>,
}

impl CallLogLayer {
    /// `drain` tells a killed server from a client that went away; `sums` counts calls without a line of their own.
    pub(crate) fn new(drain: Drain, sums: Sums) -> Self {
        Self {
            of_node: Arc::new(OfNode { drain, sums }),
        }
    }
}

impl<S> Layer<S> for CallLogLayer {
    type Service = CallLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallLogService {
            inner,
            of_node: self.of_node.clone(),
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct CallLogService<S> {
    inner: S,
    of_node: Arc<OfNode>,
}

impl<S, Q, B> Service<Request<Q>> for CallLogService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Body,
{
    type Response = Response<CallLogBody<B>>;
    type Error = S::Error;
    type Future = CallLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let record = Arc::new(CallRecord::new(
            request.uri().path(),
            request.extensions().get::<RequestId>().cloned(),
            request
                .extensions()
                .get::<Arc<ConnectionContext>>()
                .cloned(),
            request.extensions().get::<StreamAbort>().cloned(),
            self.of_node.clone(),
        ));
        request.extensions_mut().insert(Arc::clone(&record));
        CallLogFuture {
            call: self.inner.call(request),
            line: Line(Some(record)),
        }
    }
}

pin_project! {
    /// The call until its response headers.
    #[derive(Debug)]
    pub struct CallLogFuture<F> {
        #[pin]
        call: F,
        line: Line,
    }
}

impl<F, B, E> Future for CallLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<CallLogBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.call.poll(cx))?;
        let mut line = Line(this.line.0.take());
        if response.status() != StatusCode::OK {
            line.write(&Ended::Http(response.status()));
        } else if let Some(status) = Status::from_header_map(response.headers()) {
            line.write(&Ended::Grpc(status.code(), status.message()));
        } else if response.body().is_end_stream() {
            line.write(&Ended::Grpc(Code::Unknown, NO_STATUS));
        }
        Poll::Ready(Ok(response.map(|body| CallLogBody {
            body,
            line,
            chunks_seen: 0,
        })))
    }
}

pin_project! {
    /// A body that knows how it ended.
    #[derive(Debug)]
    pub struct CallLogBody<B> {
        #[pin]
        body: B,
        line: Line,
        chunks_seen: u8,
    }
}

impl<B: Default> Default for CallLogBody<B> {
    fn default() -> Self {
        Self {
            body: B::default(),
            line: Line(None),
            chunks_seen: 0,
        }
    }
}

impl<B> Body for CallLogBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => match frame.trailers_ref() {
                // Only the second says something new; each look at the record is a line of cache.
                None => {
                    *this.chunks_seen = this.chunks_seen.saturating_add(1);
                    if *this.chunks_seen == 2 {
                        this.line.streams();
                    }
                }
                Some(trailers) => this.line.write_trailers(trailers),
            },
            Some(Err(error)) => this
                .line
                .write(&Ended::Grpc(Code::Internal, &error.to_string())),
            None => this.line.write(&Ended::Grpc(Code::Unknown, NO_STATUS)),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> ResponseBody for CallLogBody<B>
where
    B: ResponseBody,
    B::Error: std::fmt::Display,
{
    type Reader = B::Reader;

    fn follower(&mut self) -> Option<&mut dyn Follower<B::Reader>> {
        self.body.follower()
    }

    fn has_budget(&self) -> bool {
        self.body.has_budget()
    }

    fn poll_while_blocked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_while_blocked(cx)
    }
}

/// How a call ended, as the protocol shows it.
enum Ended<'a> {
    Grpc(Code, &'a str),
    Http(StatusCode),
    /// Dropped before its end.
    Vanished,
}

/// The line that is still to be written; dropping it writes that the client went away.
#[derive(Debug)]
struct Line(Option<Arc<CallRecord>>);

impl Line {
    /// More than one chunk passed.
    fn streams(&self) {
        if let Some(record) = &self.0 {
            record.set_streaming();
        }
    }

    fn write_trailers(&mut self, trailers: &HeaderMap) {
        match Status::from_header_map(trailers) {
            Some(status) => self.write(&Ended::Grpc(status.code(), status.message())),
            None => self.write(&Ended::Grpc(Code::Unknown, NO_STATUS)),
        }
    }

    fn write(&mut self, ended: &Ended<'_>) {
        if let Some(record) = self.0.take() {
            write_line(&record, ended);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.write(&Ended::Vanished);
    }
}

fn write_line(record: &CallRecord, ended: &Ended<'_>) {
    let (status, told, failed): (Cow<'static, str>, &str, bool) = match ended {
        Ended::Grpc(Code::Ok, message) => (
            "OK".into(),
            if message.is_empty() {
                "completed"
            } else {
                message
            },
            false,
        ),
        Ended::Grpc(code, message) => (code::name(*code as i32).into(), message, true),
        Ended::Http(status) => (format!("HTTP {}", status.as_u16()).into(), "not gRPC", true),
        Ended::Vanished if record.server_was_killed() => {
            ("UNAVAILABLE".into(), "the server ended", true)
        }
        Ended::Vanished => ("CANCELLED".into(), "client went away", true),
    };
    let set = record.end();
    let reason = &*cut(set.as_deref().unwrap_or(told));
    let subscriber = record.subscriber();
    let subscriber = subscriber.as_deref();
    let request_id = record.request_id().map(ToString::to_string);
    let request_id = request_id.as_deref();
    let peer = record.peer().map(tracing::field::display);
    let duration_ms = u64::try_from(record.started().elapsed().as_millis()).unwrap_or(u64::MAX);
    let events = record.events();
    let published = record.published();
    let is_ordinary = !failed || matches!(ended, Ended::Vanished);
    let kind = if is_ordinary {
        Kind::Ended
    } else {
        Kind::Failed
    };
    // Two calls, since a level is part of a line's static description.
    let has_line = (failed || record.is_streaming()) && !record.is_quiet();
    if has_line && record.sums().has_line(kind) {
        tracing::info!(
            target: "longlived::call",
            request_id, method = record.method(), subscriber, peer, duration_ms, events, published,
            status = status.as_ref(), reason, "call ended"
        );
    } else {
        tracing::debug!(
            target: "longlived::call",
            request_id, method = record.method(), subscriber, peer, duration_ms, events, published,
            status = status.as_ref(), reason, "call ended"
        );
    }
}
