//! The messages of a publishing stream, as they arrive.
//!
//! Holds: a message is read where it lies; a payload is a view of the received bytes, unless it would keep many more of
//! them in memory than its own. Does not: bound the requests of a peer; flow control, the caps of what is held and the
//! pipeline do.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream as _;
use http_body::Body as _;
use longlived_api::v1;
use longlived_broker::Message;
use longlived_topic::TopicName;
use prost::Message as _;
use tonic::{Code, Status, Streaming, body::Body, codec::CompressionEncoding};

use super::{call, pipeline::publish_bytes_max, publish_fields::PublishFields};
use crate::{
    contract::{Caller, InvalidRequest, RequestStreamError, Usage, status, validate},
    framing::{PREFIX_BYTES, Prefix},
    node::Node,
};

/// The name of a message in errors.
const NAME: &str = "PublishRequest";
/// A chunk of fewer bytes is copied: a view would keep the connection's whole read buffer.
const VIEW_BYTES_MIN: usize = 4 << 10;
/// A payload is a view when it is at least one part in this many of its message.
const VIEW_ONE_IN: usize = 4;
/// Topics remembered for each stream, a power of two.
const TOPICS: usize = 64;

/// The messages of one call.
pub(super) struct PublishRequests {
    node: Arc<Node>,
    source: Source,
    caller: Arc<Caller>,
    topics: Topics,
}

enum Source {
    Plain(Framed),
    // Messages may be compressed each by itself.
    Compressed(Streaming<v1::PublishRequest>),
}

impl PublishRequests {
    /// The messages of `body`, by `caller`; with an encoding some may be compressed.
    pub(super) fn new(
        node: Arc<Node>,
        caller: Arc<Caller>,
        body: Body,
        encoding: Option<CompressionEncoding>,
    ) -> Self {
        let bytes_max = publish_bytes_max(&node.config);
        let source = if encoding.is_none() {
            Source::Plain(Framed::new(body, bytes_max))
        } else {
            Source::Compressed(call::messages(body, encoding, bytes_max))
        };
        Self {
            node,
            source,
            caller,
            topics: Topics::default(),
        }
    }

    /// What the caller uses, where that is counted.
    pub(super) fn usage(&self) -> Option<&Arc<Usage>> {
        self.caller.usage.as_ref()
    }

    /// Whether the caller may still say anything. Its credential may have expired, and the rules may have changed.
    pub(super) fn decide(&mut self) -> Result<(), Status> {
        let still = self.node.callers.still(&self.caller);
        if let Some(again) = still.map_err(|error| status::of_credential(&error))? {
            self.caller = again;
            // They were granted by the rules before.
            self.topics = Topics::default();
        }
        match self.usage().map(|usage| usage.check_rates()) {
            Some(Err(exhausted)) => Err(status::quota_exhausted(&exhausted)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// The next message, checked. After an error or the end it must not be asked again.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Status>>> {
        let config = &self.node.config;
        let bytes_max = publish_bytes_max(config);
        let message = match &mut self.source {
            Source::Compressed(messages) => match ready!(Pin::new(messages).poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => Err(status::of_decoder(&error, NAME, bytes_max)),
                Some(Ok(request)) => {
                    validate::message(request, &self.caller, config.event_bytes_max)
                        .map_err(Status::from)
                }
            },
            Source::Plain(framed) => match ready!(framed.poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => Err(status),
                Some(Ok((bytes, range))) => {
                    let topics = &mut self.topics;
                    message(bytes, range, &self.caller, topics, config.event_bytes_max)
                }
            },
        };
        Poll::Ready(Some(message))
    }
}

/// The message in this part of the bytes.
fn message(
    bytes: &Bytes,
    range: Range<usize>,
    caller: &Caller,
    topics: &mut Topics,
    event_bytes_max: usize,
) -> Result<Message, Status> {
    let length = range.len();
    let request = &bytes[range.clone()];
    let Some(fields) = PublishFields::read(request) else {
        let request = v1::PublishRequest::decode(bytes.slice(range));
        let request = request.map_err(|error| status::of_request_stream(&error.into()))?;
        let mut message = validate::message(request, caller, event_bytes_max)?;
        if is_small(&message.payload, length) {
            message.payload = Bytes::copy_from_slice(&message.payload);
        }
        return Ok(message);
    };
    let topic = topics.name(fields.topic, caller)?;
    let payload = if is_small(fields.payload, length) {
        Bytes::copy_from_slice(fields.payload)
    } else {
        bytes.slice_ref(fields.payload)
    };
    let message = Message {
        key: fields.key.to_owned(),
        message_id: fields.message_id.to_owned(),
        deleted: fields.deleted,
        ..Message::new(topic, payload)
    };
    validate::checked(message, event_bytes_max).map_err(Status::from)
}

/// Whether a view of it would keep much more in memory than the payload.
fn is_small(payload: &[u8], message_bytes: usize) -> bool {
    payload.len() * VIEW_ONE_IN < message_bytes
}

/// Names that this stream has used, that were found to be names, and to which its caller may publish: they need not be checked
/// and allocated for each message.
#[derive(Debug, Default)]
struct Topics {
    last: Option<TopicName>,
    // Made when a stream uses a second one.
    others: Option<Box<[Option<TopicName>; TOPICS]>>,
}

impl Topics {
    fn name(&mut self, text: &str, caller: &Caller) -> Result<TopicName, InvalidRequest> {
        if let Some(last) = self.last.as_ref().filter(|last| last.as_str() == text) {
            return Ok(last.clone());
        }
        let slot = slot(text.as_bytes());
        let known = self
            .others
            .as_ref()
            .and_then(|others| others[slot].as_ref());
        let name = match known.filter(|known| known.as_str() == text) {
            Some(known) => known.clone(),
            None => validate::own_topic(text, caller)?,
        };
        // One that publishes to one topic needs no more than the last.
        if self.last.replace(name.clone()).is_some() {
            let others = self
                .others
                .get_or_insert_with(|| Box::new([const { None }; TOPICS]));
            others[slot] = Some(name.clone());
        }
        Ok(name)
    }
}

/// Where a name is remembered. Names that are used together differ at their ends.
fn slot(topic: &[u8]) -> usize {
    let hash = |hash: usize, &byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(byte));
    topic.iter().rev().take(16).fold(topic.len(), hash) % TOPICS
}

/// gRPC messages out of the chunks of a body.
struct Framed {
    body: Body,
    bytes_max: usize,
    chunk: Bytes,
    /// How much of the chunk was taken.
    taken: usize,
    /// The begin of a message that goes on in the next chunk, prefix included.
    begun: BytesMut,
    /// The last message that lay across chunks, prefix included.
    joined: Bytes,
}

/// Where a message is.
enum Place {
    Chunk(Range<usize>),
    Joined,
}

/// A message: a part of these bytes.
type Framing<'a> = (&'a Bytes, Range<usize>);

impl Framed {
    fn new(body: Body, bytes_max: usize) -> Self {
        Self {
            body,
            bytes_max,
            chunk: Bytes::new(),
            taken: 0,
            begun: BytesMut::new(),
            joined: Bytes::new(),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Framing<'_>, Status>>> {
        loop {
            match self.take() {
                Ok(Some(Place::Chunk(range))) => {
                    return Poll::Ready(Some(Ok((&self.chunk, range))));
                }
                Ok(Some(Place::Joined)) => {
                    let range = PREFIX_BYTES..self.joined.len();
                    return Poll::Ready(Some(Ok((&self.joined, range))));
                }
                Ok(None) => {}
                Err(error) => {
                    return Poll::Ready(Some(Err(status::of_request_stream(&error))));
                }
            }
            // A stream that waits for its peer keeps nothing of the last chunk.
            self.chunk = Bytes::new();
            self.taken = 0;
            self.joined = Bytes::new();
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                // The peer cancelled the call; its messages before still count.
                Some(Err(status)) if status.code() == Code::Cancelled => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => {
                    let status = status::of_decoder(&error, NAME, self.bytes_max);
                    return Poll::Ready(Some(Err(status)));
                }
                None => return Poll::Ready(self.end()),
            };
            match frame.into_data() {
                Ok(data) if data.len() < VIEW_BYTES_MIN => {
                    self.chunk = Bytes::copy_from_slice(&data);
                }
                Ok(data) => self.chunk = data,
                // Trailers: nothing follows them.
                Err(_) => return Poll::Ready(self.end()),
            }
        }
    }

    fn end<T>(&self) -> Option<Result<T, Status>> {
        let cut = !self.begun.is_empty();
        cut.then(|| Err(status::of_request_stream(&RequestStreamError::Cut)))
    }

    /// The next message. Without one, the rest of the chunk is kept for the next.
    fn take(&mut self) -> Result<Option<Place>, RequestStreamError> {
        let left = &self.chunk[self.taken..];
        if self.begun.is_empty() {
            let length = self.length(left)?;
            let end = length.map(|length| self.taken + PREFIX_BYTES + length);
            if let Some(end) = end.filter(|&end| end <= self.chunk.len()) {
                let range = self.taken + PREFIX_BYTES..end;
                self.taken = end;
                return Ok(Some(Place::Chunk(range)));
            }
        }
        self.begin(PREFIX_BYTES.saturating_sub(self.begun.len()));
        let Some(length) = self.length(&self.begun)? else {
            return Ok(None);
        };
        let missing = PREFIX_BYTES + length - self.begun.len();
        self.begun.reserve(missing);
        self.begin(missing);
        if self.begun.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.joined = self.begun.split().freeze();
        Ok(Some(Place::Joined))
    }

    /// Moves up to `count` bytes from the chunk to the message that was begun.
    fn begin(&mut self, count: usize) {
        let end = self.chunk.len().min(self.taken + count);
        self.begun.extend_from_slice(&self.chunk[self.taken..end]);
        self.taken = end;
    }

    /// The length of the message that begins here; `None` when its prefix has not come whole.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, RequestStreamError> {
        let Some((prefix, _)) = Prefix::read(bytes) else {
            return Ok(None);
        };
        match prefix.flag {
            0 => {}
            1 => return Err(RequestStreamError::Compressed),
            flag => return Err(RequestStreamError::Flag(flag)),
        }
        let length = prefix.length as usize;
        if length > self.bytes_max {
            return Err(RequestStreamError::TooLarge(self.bytes_max));
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests;
