//! Tells a status that the server sent from one that was made up on the way: tonic gives both the same `Status`.
//!
//! Holds: [`Seen::sent`] is true only when a `grpc-status` arrived in headers or trailers of the response.
//! A proxy's HTML page, a reset, a decoding error and a timeout are all false.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;
use tower::Service;

use crate::preface::Preface;
use crate::subscriber::Lost;

/// The server's wait hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    After(Duration),
    /// A negative hint: do not try again.
    Never,
}

/// The wait that a status names: `grpc-retry-pushback-ms` if it is there and a number, else the one of
/// `google.rpc.RetryInfo`, which also comes through where trailers that are not known are dropped.
pub(crate) fn pushback(status: &Status) -> Option<Pushback> {
    let hint = status.metadata().get("grpc-retry-pushback-ms");
    let millis: Option<i64> = hint
        .and_then(|hint| hint.to_str().ok())
        .and_then(|hint| hint.trim().parse().ok());
    match millis.map(u64::try_from) {
        Some(Ok(millis)) => Some(Pushback::After(Duration::from_millis(millis))),
        Some(Err(_negative)) => Some(Pushback::Never),
        None => {
            let wait = status.get_details_retry_info()?.retry_delay?;
            Some(Pushback::After(wait))
        }
    }
}

/// `ErrorInfo.domain` of a server of this contract.
const DOMAIN: &str = "longlived";
const DETAILS: &str = "grpc-status-details-bin";

/// Why a status was sent, in the words of the contract's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// The cause that a server of this contract names. `None` when the status is of something else, or of a server that
/// knows no causes.
pub(crate) fn cause(status: &Status) -> Option<Cause> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then(|| Cause {
        reason: info.reason,
        fields: info.metadata.into_iter().collect(),
    })
}

/// Whether details are base64; tonic panics when they are not.
fn are_readable(details: &http::HeaderValue) -> bool {
    let mut alone = HeaderMap::with_capacity(1);
    alone.insert(DETAILS, details.clone());
    let alone = MetadataMap::from_headers(alone);
    let details = alone.get_bin(DETAILS);
    details.is_some_and(|details| details.to_bytes().is_ok())
}

/// The observations of one response. Put into the extensions of a request, filled in by [`Wire`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<SeenInner>);

#[derive(Debug, Default)]
struct SeenInner {
    /// A `grpc-status` came with the response.
    sent: AtomicBool,
    /// The HTTP status of a response that is none of gRPC; 0 while there was none.
    http: AtomicU16,
    /// How the server of the connection began.
    preface: OnceLock<Preface>,
}

impl Seen {
    /// True when the status of this call came from the server.
    pub(crate) fn sent(&self) -> bool {
        self.0.sent.load(Ordering::Acquire)
    }

    /// The text about a status that the server did not send.
    pub(crate) fn lost(&self, status: &Status) -> Lost {
        let of_preface = || self.0.preface.get().and_then(Preface::lost);
        match self.0.http.load(Ordering::Acquire) {
            0 if never_connected(status) => Lost::Connect(root_cause(status)),
            0 => of_preface().unwrap_or_else(|| {
                let nothing_to_say = is_disconnected(status);
                Lost::Transport(if nothing_to_say {
                    String::new()
                } else {
                    root_cause(status)
                })
            }),
            http => Lost::Http(http),
        }
    }

    fn look_for_status(&self, headers: &mut HeaderMap) {
        if headers.contains_key("grpc-status") {
            self.0.sent.store(true, Ordering::Release);
        }
        if headers
            .get(DETAILS)
            .is_some_and(|details| !are_readable(details))
        {
            headers.remove(DETAILS);
        }
    }
}

/// True when the server's application cannot have seen the request: there was no connection, the connection ended or took no
/// more streams before the request was sent, or HTTP/2 says that the stream was not processed.
pub(crate) fn never_sent(status: &Status) -> bool {
    never_connected(status)
        || causes(status)
            .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_canceled)
        || causes(status)
            .filter_map(|cause| cause.downcast_ref::<h2::Error>())
            .any(not_processed)
}

fn never_connected(status: &Status) -> bool {
    causes(status).any(<dyn Error>::is::<tonic::ConnectError>)
}

/// RFC 9113, 8.7: a stream reset with REFUSED_STREAM, and one above the last stream that a graceful GOAWAY
/// names. A GOAWAY with another reason is told to all streams, also to those that were processed.
fn not_processed(error: &h2::Error) -> bool {
    error.is_remote()
        && match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
            Some(h2::Reason::NO_ERROR) => error.is_go_away(),
            _ => false,
        }
}

/// The connection is gone without a reason, as after a kill. The library that notices first decides its name: a broken
/// pipe, a reset, a cancelled call.
fn is_disconnected(status: &Status) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let of_a_socket = |error: &std::io::Error| {
        let kind = error.kind();
        let kinds = [
            BrokenPipe,
            ConnectionAborted,
            ConnectionReset,
            NotConnected,
            UnexpectedEof,
        ];
        kinds.contains(&kind)
    };
    causes(status).any(|cause| {
        let of_http = cause.downcast_ref::<h2::Error>();
        let error = of_http.map_or_else(|| cause.downcast_ref(), h2::Error::get_io);
        error.is_some_and(of_a_socket)
    })
}

/// The innermost cause: tonic's own message is "transport error" for nearly everything.
fn root_cause(status: &Status) -> String {
    causes(status)
        .last()
        .map_or_else(|| status.message().to_owned(), ToString::to_string)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&cause| cause.source())
}

/// A response came whose HTTP status is not gRPC's.
#[derive(Debug, thiserror::Error)]
#[error("HTTP status {0} instead of a gRPC response")]
struct NotGrpc(http::StatusCode);

/// A connection that notes each response in the [`Seen`] of its request.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    channel: Channel,
    preface: Preface,
}

impl Wire {
    pub(crate) fn new(channel: Channel, preface: Preface) -> Self {
        Self { channel, preface }
    }

    /// Whether the server has said that the connection takes no more streams.
    pub(crate) fn goes_away(&self) -> bool {
        self.preface.goes_away()
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

impl Service<http::Request<tonic::body::Body>> for Wire {
    type Response = http::Response<WatchedBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.channel.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let seen = request
            .extensions()
            .get::<Seen>()
            .cloned()
            .unwrap_or_default();
        seen.0.preface.set(self.preface.clone()).ok();
        let answer = self.channel.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            seen.look_for_status(response.headers_mut());
            let status = response.status();
            if status != http::StatusCode::OK && !seen.sent() {
                seen.0.http.store(status.as_u16(), Ordering::Release);
                return Err(NotGrpc(status).into());
            }
            Ok(response.map(|inner| WatchedBody { inner, seen }))
        })
    }
}

/// A response body that notes whether its trailers bring a status.
#[derive(Debug)]
pub(crate) struct WatchedBody {
    inner: tonic::body::Body,
    seen: Seen,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            this.seen.look_for_status(trailers);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_pushback(hint: &'static str) -> Option<Pushback> {
        let mut status = Status::unavailable("draining");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", hint.parse().unwrap());
        pushback(&status)
    }

    #[test]
    fn pushback_is_a_number_of_milliseconds_or_nothing() {
        assert_eq!(
            with_pushback("1500"),
            Some(Pushback::After(Duration::from_millis(1_500)))
        );
        assert_eq!(with_pushback("0"), Some(Pushback::After(Duration::ZERO)));
        assert_eq!(with_pushback("-1"), Some(Pushback::Never));
        assert_eq!(with_pushback("soon"), None);
        assert_eq!(pushback(&Status::unavailable("draining")), None);
    }

    #[test]
    fn a_status_without_a_server_is_not_sent() {
        let seen = Seen::default();
        assert!(!seen.sent());
        assert_eq!(
            seen.lost(&Status::permission_denied("made up")),
            Lost::Transport("made up".to_owned())
        );
        seen.look_for_status(&mut HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("7"),
        )]));
        assert!(seen.sent());
    }

    #[test]
    fn a_lost_connection_is_called_so_by_each_layer_that_may_notice_it_first() {
        use std::io::ErrorKind;

        let lost = |error: BoxError| Seen::default().lost(&Status::from_error(error));
        for gone in [
            ErrorKind::BrokenPipe,
            ErrorKind::ConnectionReset,
            ErrorKind::UnexpectedEof,
        ] {
            let of_the_socket = lost(std::io::Error::from(gone).into());
            assert_eq!(of_the_socket, Lost::Transport(String::new()), "{gone}");
            assert_eq!(of_the_socket.to_string(), "connection to the server lost");
        }
        let of_http = lost(h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM).into());
        assert!(
            of_http
                .to_string()
                .starts_with("connection to the server lost: "),
            "{of_http}"
        );
    }
}
