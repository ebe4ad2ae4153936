//! What the peer's frames mean for the caller.

use http::{HeaderMap, Request};

use crate::error::{ErrorCode, StreamError};
use crate::frame::FrameType;
use crate::slot::Slot;

/// The outcome of one call of [`receive`](crate::Connection::receive).
#[derive(Debug)]
pub struct Received<'a, V> {
    /// Bytes of the input that were taken.
    pub consumed: usize,
    /// The frame that has come, once a frame: DATA with its head, others when they are whole.
    pub frame: Option<FrameType>,
    /// What was done for frames other than DATA, in octets of a header block: a field counts at least eight. A caller that has other
    /// things to do counts this, and not only what was consumed.
    pub work: usize,
    /// It is DATA that has no content and ends no request: an honest peer has little use for it.
    pub empty: bool,
    /// It is DATA of a stream that is closed.
    pub late: bool,
    /// What it means.
    pub event: Option<Event<'a, V>>,
}

impl<V> Received<'_, V> {
    pub(crate) fn bytes(consumed: usize) -> Self {
        Self {
            consumed,
            frame: None,
            work: consumed,
            empty: false,
            late: false,
            event: None,
        }
    }
}

/// What a frame means for the caller.
#[derive(Debug)]
pub enum Event<'a, V> {
    /// A request. The caller calls [`open`](crate::Connection::open) or [`refuse`](crate::Connection::refuse) before anything else.
    Request(Box<Request<()>>, Opening),
    /// A request whose header list is over its limit. `grpc`: its `content-type` begins with `application/grpc`. The caller opens
    /// the stream and answers, or refuses it.
    HeadTooLarge {
        /// The stream.
        opening: Opening,
        /// The caller answers as gRPC does.
        grpc: bool,
    },
    /// A request that breaks a rule of messages, or a frame for a stream that the peer has reset; the stream was reset.
    Malformed(StreamError),
    /// A request over the limit of open streams; its stream was reset with REFUSED_STREAM.
    Refused,
    /// Bytes of a request's content.
    Data {
        /// The stream.
        slot: Slot,
        /// The bytes. The caller says with [`taken`](crate::Connection::taken) when it no longer holds them.
        bytes: &'a [u8],
        /// The request ends with them.
        end: bool,
    },
    /// The request ends with these trailers.
    Trailers {
        /// The stream.
        slot: Slot,
        /// The trailers.
        trailers: HeaderMap,
        /// Bytes of heap that they hold.
        held_bytes: usize,
    },
    /// The peer reset the stream, which is closed.
    Reset {
        /// The stream's value.
        value: V,
        /// Why.
        code: ErrorCode,
    },
    /// The stream was reset because the peer broke a rule; it is closed.
    Failed {
        /// The stream's value.
        value: V,
        /// Which rule.
        error: StreamError,
    },
    /// The peer widens the window of a stream, or of the connection.
    WindowUpdate {
        /// The stream; `None` for the connection.
        slot: Option<Slot>,
        /// By how many bytes.
        increment: u32,
    },
    /// The answer to [`ping`](crate::Connection::ping).
    Pong([u8; 8]),
    /// The peer sends GOAWAY: it opens no more streams.
    GoAway(ErrorCode),
}

/// A stream that has a request and is not open yet.
#[derive(Debug)]
#[must_use = "a stream is opened or refused"]
pub struct Opening {
    pub(crate) id: u32,
    pub(crate) request_ended: bool,
    pub(crate) head_request: bool,
    pub(crate) content_left: u64,
    pub(crate) held_bytes: usize,
}

impl Opening {
    /// The stream's identifier.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of heap that the request's fields hold.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether the request has no content and no trailers.
    pub fn is_request_ended(&self) -> bool {
        self.request_ended
    }
}
