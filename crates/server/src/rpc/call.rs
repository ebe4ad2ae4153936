//! From an HTTP request to request messages, and from an answer to an HTTP response: the part that all methods of both
//! contracts share.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use longlived_broker::{Compression, encode};
use tokio::time::{sleep, timeout};
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{BufferSettings, CompressionEncoding},
};
use tonic_prost::ProstDecoder;

use crate::{
    contract::{Caller, status},
    layers::{CallRecord, Deadline},
    limits,
    node::Node,
    transport::connection::RequestError,
};

/// A request buffer begins small: thousands of streams begin together, and a `Session` call keeps its own for
/// hours.
const BUFFER: (usize, usize) = (64, 32 << 10);

const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// Asks for compression. A caller that accepts an encoding may not want it: most libraries accept gzip by default.
const ASKED_COMPRESSION: &str = "longlived-compression";

/// A call whose request messages are still bytes.
pub(super) struct RawCall {
    pub(super) record: Arc<CallRecord>,
    pub(super) caller: Arc<Caller>,
    pub(super) deadline: Option<tokio::time::Instant>,
    /// How those of its messages that are compressed are.
    pub(super) encoding: Option<CompressionEncoding>,
    pub(super) body: Body,
}

impl RawCall {
    /// Takes a request apart.
    pub(super) fn of(node: &Node, request: Request<Body>) -> Result<Self, Status> {
        let (mut parts, body) = request.into_parts();
        let encoding = match parts.headers.get(ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => None,
            Some(b"gzip") => Some(CompressionEncoding::Gzip),
            Some(b"zstd") => Some(CompressionEncoding::Zstd),
            Some(other) => {
                return Err(status::unknown_encoding(&String::from_utf8_lossy(other)));
            }
        };
        let record = parts.extensions.remove::<Arc<CallRecord>>();
        Ok(Self {
            record: record.ok_or_else(status::without_record)?,
            caller: caller(node, &mut parts.extensions),
            deadline: parts.extensions.remove::<Deadline>().map(|at| at.0),
            encoding,
            body,
        })
    }
}

/// The caller: the layer that finds it puts it into the extensions. Where nobody is checked it finds none, and every caller is
/// anonymous; a server that checks its callers knows one without rights for a call that has missed the layer.
fn caller(node: &Node, extensions: &mut Extensions) -> Arc<Caller> {
    let known = extensions.remove::<Arc<Caller>>();
    known.unwrap_or_else(|| node.callers.unknown().clone())
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
    pub(super) caller: Arc<Caller>,
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
        let raw = RawCall::of(&node, request)?;
        Ok(Self {
            compression,
            record: raw.record,
            caller: raw.caller,
            deadline: raw.deadline,
            messages: messages(raw.body, raw.encoding, bytes_max),
            node,
            name,
            bytes_max,
        })
    }

    /// The one message of a call that takes one. It is there when the caller has said that nothing follows, or has said
    /// nothing more for a while.
    pub(super) async fn message(&mut self) -> Result<T, Status> {
        self.read(async |messages| {
            let only = messages.message().await?;
            Ok((only, another(messages).await?))
        })
        .await
    }

    /// The first message of a call that takes many.
    pub(super) async fn first(&mut self) -> Result<T, Status> {
        self.read(async |messages| Ok((messages.message().await?, false)))
            .await
    }

    /// The first message, and whether more came. A call that still waits for it when the node drains counts as a new
    /// one, and is refused like one.
    async fn read(
        &mut self,
        read: impl AsyncFnOnce(&mut Streaming<T>) -> Result<(Option<T>, bool), Status>,
    ) -> Result<T, Status> {
        let read = {
            let mut read = pin!(read(&mut self.messages));
            match poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await {
                Poll::Ready(read) => read,
                // Only a call that has to wait needs a timer, in a box of its own: otherwise every call would hold one.
                Poll::Pending => {
                    let limit = self.node.config.acceptor.connection.request_timeout;
                    let expiry = Box::pin(sleep(limit));
                    tokio::select! {
                        biased;
                        read = read => read,
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
        // The message may have come long after the headers.
        let still = self.node.callers.still(&self.caller);
        if let Some(again) = still.map_err(|error| status::of_credential(&error))? {
            self.caller = again;
        }
        match read {
            Ok((Some(message), false)) => Ok(message),
            Ok((Some(_), true)) => Err(status::second_request(self.name)),
            Ok((None, _)) => Err(status::no_request(self.name)),
            Err(error) => Err(status::of_decoder(&error, self.name, self.bytes_max)),
        }
    }
}

/// Whether another message follows the only one.
async fn another<T>(messages: &mut Streaming<T>) -> Result<bool, Status> {
    let mut next = pin!(messages.message());
    let next = match poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await {
        Poll::Ready(next) => next,
        // In a box: most callers have said both in one breath.
        Poll::Pending => match Box::pin(timeout(limits::REQUEST_END_TIMEOUT, next)).await {
            Ok(next) => next,
            Err(_elapsed) => return Ok(false),
        },
    };
    Ok(next?.is_some())
}

/// The first offered encoding that the caller asks for and, as gRPC demands, accepts.
fn wanted(headers: &HeaderMap, offered: &[Compression]) -> Compression {
    if !headers.contains_key(ASKED_COMPRESSION) {
        return Compression::Identity;
    }
    let names = |header, compression: Compression| {
        let values = headers.get_all(header).iter();
        let mut names = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|names| names.split(','));
        names.any(|name| name.trim() == compression.as_str())
    };
    let wanted = |compression: &&Compression| {
        names(ASKED_COMPRESSION, **compression) && names(ACCEPT_ENCODING, **compression)
    };
    offered.iter().find(wanted).copied().unwrap_or_default()
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
        message: Some(encode(message)),
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
                Some(Ok(Frame::trailers(status::ok())))
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

    /// The headers that name these.
    fn headers(asked: &[&str], accepted: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(ASKED_COMPRESSION, asked), (ACCEPT_ENCODING, accepted)] {
            for value in values {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append(name, value);
            }
        }
        headers
    }

    #[test]
    fn of_the_encodings_that_a_caller_asks_for_and_accepts_it_gets_the_one_that_the_node_prefers() {
        use Compression::{Gzip, Identity, Zstd};

        let offered = [Zstd, Gzip];
        for (named, expected) in [
            (&["identity,gzip,zstd"][..], Zstd),
            (&["gzip, zstd;q=1"], Gzip),
            (&["gzip", " zstd "], Zstd),
            (&["gzip"], Gzip),
            (&["deflate,br,identity", "x-gzip,zstandard"], Identity),
            (&["", ",,"], Identity),
            (&["\u{fc}", "gzip"], Gzip),
            (&[], Identity),
        ] {
            let all = &["gzip,zstd"][..];
            for (asked, accepted) in [(named, all), (all, named), (named, named)] {
                let headers = headers(asked, accepted);
                let wanted = |offered: &[Compression]| wanted(&headers, offered);
                assert_eq!(wanted(&offered), expected, "{asked:?} {accepted:?}");
                assert_eq!(wanted(&[]), Identity, "{asked:?} of nothing");
            }
            assert_eq!(wanted(&headers(&[], named), &offered), Identity);
            assert_eq!(wanted(&headers(named, &[]), &offered), Identity);
        }
        let both = headers(&["zstd,gzip"], &["zstd,gzip"]);
        assert_eq!(wanted(&both, &[Gzip, Zstd]), Gzip);
        let apart = headers(&["zstd"], &["identity,deflate,gzip"]);
        assert_eq!(wanted(&apart, &offered), Identity);
    }
}
