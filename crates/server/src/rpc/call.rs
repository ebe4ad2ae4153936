//! From an HTTP request to request messages, and from an answer to an HTTP response: what every method of
//! both contracts shares.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use longlived_broker::{Compression, frame};
use tokio::time::sleep;
use tonic::{
    Code, Status, Streaming,
    body::Body,
    codec::{BufferSettings, CompressionEncoding},
};
use tonic_prost::ProstDecoder;

use super::status;
use crate::{
    connection::RequestError,
    layers::{CallRecord, Deadline},
    node::Node,
};

/// Largest request message that is not a publish: the longest 64 filters and 16 labels take 68 KiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 128 << 10;
/// A request buffer begins small: thousands of streams begin together, and a `Session` call keeps its own for
/// hours.
const BUFFER: (usize, usize) = (64, 32 << 10);

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// A call whose request messages are still bytes.
pub(super) struct Head {
    pub(super) record: Arc<CallRecord>,
    pub(super) deadline: Option<tokio::time::Instant>,
    /// How those of its messages that are compressed are.
    pub(super) encoding: Option<CompressionEncoding>,
    pub(super) body: Body,
}

impl Head {
    /// Takes a request apart.
    pub(super) fn of(request: Request<Body>) -> Result<Self, Status> {
        let (mut parts, body) = request.into_parts();
        let encoding = match parts.headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => None,
            Some(b"gzip") => Some(CompressionEncoding::Gzip),
            Some(b"zstd") => Some(CompressionEncoding::Zstd),
            Some(other) => return Err(unknown_encoding(other)),
        };
        let record = parts.extensions.remove::<Arc<CallRecord>>();
        Ok(Self {
            record: record.ok_or_else(|| Status::internal("the call has no record"))?,
            deadline: parts.extensions.remove::<Deadline>().map(|at| at.0),
            encoding,
            body,
        })
    }
}

/// The messages of a body, as the generated types read them.
pub(super) fn messages<T: prost::Message + Default + Send + 'static>(
    body: Body,
    encoding: Option<CompressionEncoding>,
    bytes_max: usize,
) -> Streaming<T> {
    let decoder = ProstDecoder::<T>::new(BufferSettings::new(BUFFER.0, BUFFER.1));
    Streaming::new_request(decoder, body, encoding, Some(bytes_max))
}

/// The facts of a call that its method needs, and its request messages.
pub(super) struct Call<T> {
    pub(super) record: Arc<CallRecord>,
    pub(super) deadline: Option<tokio::time::Instant>,
    pub(super) messages: Streaming<T>,
    /// How the caller wants large responses compressed, as far as this node does it.
    pub(super) compression: Compression,
    node: Arc<Node>,
    name: &'static str,
    bytes_max: usize,
}

impl<T: prost::Message + Default + Send + 'static> Call<T> {
    /// Takes a request apart. `name` is the message's, for errors.
    pub(super) fn new(
        node: Arc<Node>,
        request: Request<Body>,
        name: &'static str,
        bytes_max: usize,
    ) -> Result<Self, Status> {
        let compression = wanted(request.headers(), &node.config.compressions);
        let head = Head::of(request)?;
        Ok(Self {
            compression,
            record: head.record,
            deadline: head.deadline,
            messages: messages(head.body, head.encoding, bytes_max),
            node,
            name,
            bytes_max,
        })
    }

    /// The one message of a call that has one, or the first. A call that still waits for it when the node drains
    /// is a new one, and refused like one.
    pub(super) async fn message(&mut self) -> Result<T, Status> {
        let first = {
            let mut first = pin!(self.messages.message());
            match poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await {
                Poll::Ready(first) => first,
                // Only who has to wait needs a timer, in a box of its own: what every call would hold otherwise.
                Poll::Pending => {
                    let limit = self.node.config.acceptor.connection.request_timeout;
                    let expiry = Box::pin(sleep(limit));
                    tokio::select! {
                        biased;
                        first = first => first,
                        () = self.node.drain.draining() => {
                            return Err(status::draining(self.node.spread_turn()));
                        }
                        () = expiry => {
                            return Err(status::of_request(&RequestError::TimedOut(limit)));
                        }
                    }
                }
            }
        };
        let first = first.map_err(|error| refused(error, self.name, self.bytes_max))?;
        first.ok_or_else(|| Status::invalid_argument(format!("no {} was sent", self.name)))
    }
}

/// What the decoder says of a request that cannot be read, as this server says it. The decoder knows nothing of our
/// limits, says OUT_OF_RANGE of a message that is too large, and does not name one that is when it is decompressed.
pub(crate) fn refused(status: Status, message: &str, bytes_max: usize) -> Status {
    if let Some(ours) = status::of_body(&status) {
        return ours;
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Status::resource_exhausted(format!(
            "the {message} is larger than its limit of {bytes_max} bytes"
        )),
        // The decoder's word for bytes that are no such message. What HTTP/2 failed at has a source.
        Code::Internal if std::error::Error::source(&status).is_none() => Status::invalid_argument(
            format!("the {message} cannot be decoded: {}", status.message()),
        ),
        _ => status,
    }
}

fn unknown_encoding(encoding: &[u8]) -> Status {
    let encoding = String::from_utf8_lossy(encoding).into_owned();
    let message = format!("`{ENCODING}` {encoding} is not known; identity, gzip and zstd are");
    let mut status = Status::unimplemented(message);
    let accepted = tonic::metadata::MetadataValue::from_static("identity,gzip,zstd");
    status.metadata_mut().insert(ACCEPT_ENCODING, accepted);
    status
}

/// The first of what is offered that the caller accepts.
fn wanted(headers: &HeaderMap, offered: &[Compression]) -> Compression {
    let accepts = |compression: &&Compression| {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let mut names = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|names| names.split(','));
        names.any(|name| name.trim() == compression.as_str())
    };
    offered.iter().find(accepts).copied().unwrap_or_default()
}

/// Says in a response how those of its messages that are compressed are.
pub(super) fn set_encoding<B>(response: &mut Response<B>, compression: Compression) {
    if compression != Compression::Identity {
        let name = HeaderValue::from_static(compression.as_str());
        response.headers_mut().insert(ENCODING, name);
    }
}

/// A response that goes on: headers now, `body` as it comes.
pub(super) fn streaming<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    with_headers(Body::new(body))
}

/// A response with the headers of every gRPC answer.
pub(super) fn with_headers<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

/// A response of one message.
pub(super) fn unary<M: prost::Message>(message: &M) -> Response<Body> {
    streaming(unary_body(message))
}

/// The body of such a response.
pub(super) fn unary_body<M: prost::Message>(message: &M) -> Unary {
    Unary {
        message: Some(frame::encode(message)),
        ended: false,
    }
}

/// See [`unary_body`].
pub(super) struct Unary {
    message: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Unary {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.message.take() {
            Some(message) => Some(Ok(Frame::data(message))),
            None if self.ended => None,
            None => {
                self.ended = true;
                Some(Ok(Frame::trailers(status::trailers(&Status::ok("")))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_caller_accepts_it_gets_what_the_node_prefers() {
        use Compression::{Gzip, Identity, Zstd};

        let offered = [Zstd, Gzip];
        for (accepts, expected) in [
            (&["identity,gzip,zstd"][..], Zstd),
            (&["gzip, zstd;q=1"], Gzip),
            (&["gzip", " zstd "], Zstd),
            (&["gzip"], Gzip),
            (&["deflate,br,identity", "x-gzip,zstandard"], Identity),
            (&["", ",,"], Identity),
            (&["\u{fc}", "gzip"], Gzip),
            (&[], Identity),
        ] {
            let mut headers = HeaderMap::new();
            for value in accepts {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append(ACCEPT_ENCODING, value);
            }
            assert_eq!(wanted(&headers, &offered), expected, "{accepts:?}");
            assert_eq!(wanted(&headers, &[]), Identity, "{accepts:?} of nothing");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd,gzip"));
        assert_eq!(wanted(&headers, &[Gzip, Zstd]), Gzip);
    }
}
