//! The only place that turns what happened into a gRPC status.

use http::HeaderMap;
use longlived_broker::{
    CursorError, MessageError, PublishError,
    store::{AppendError, ReadError},
};
use tonic::{Status, metadata::MetadataValue};

use super::{
    publish_requests::RequestStreamError, topics::PagesExhausted, validate::InvalidRequest,
};
use crate::{
    connection::RequestError,
    registry::AdmitError,
    session::{CloseReason, Contract, OpenError},
};

/// How long a client waits when it is refused for a limit that time will lift.
const RETRY_LATER_MS: u32 = 5_000;
/// ... and for one that the peer itself lifts as its other messages arrive.
const RETRY_SOON_MS: u32 = 1_000;
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The status as trailers of a stream.
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    if status.add_header(&mut trailers).is_err() {
        // A text that no header can hold: the code alone then.
        trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// With the time after which to come back.
fn later(mut status: Status, wait_ms: u32) -> Status {
    let wait = MetadataValue::from(wait_ms);
    status.metadata_mut().insert(PUSHBACK, wait);
    status
}

/// Refused because the node drains; the caller comes back at its turn.
pub(crate) fn draining(turn: std::time::Duration) -> Status {
    let wait_ms = u32::try_from(turn.as_millis()).unwrap_or(u32::MAX);
    later(Status::unavailable("the server is draining"), wait_ms)
}

/// How a stream that is closed on purpose ends.
pub(crate) fn of_close(reason: CloseReason, contract: Contract) -> Status {
    match (contract, reason) {
        (_, CloseReason::Unsubscribed)
        | (Contract::V1, CloseReason::Draining { .. } | CloseReason::Replaced) => Status::ok(""),
        (Contract::V1, CloseReason::TakenOver) => Status::aborted(reason.as_str()),
        (Contract::V1, CloseReason::Slow { .. }) => Status::resource_exhausted(reason.as_str()),
        // Programs of the frozen contract come back on every end but OK; these are meant to.
        (
            Contract::Legacy,
            CloseReason::Draining { .. }
            | CloseReason::Replaced
            | CloseReason::TakenOver
            | CloseReason::Slow { .. },
        ) => Status::unavailable(reason.as_str()),
    }
}

/// How a stream ends whose cursor cannot go on.
pub(crate) fn of_cursor(error: &CursorError, contract: Contract) -> Status {
    let text = error.to_string();
    match (contract, error) {
        (Contract::Legacy, _) | (_, CursorError::Attach(_)) => Status::unavailable(text),
        (Contract::V1, CursorError::OutOfRange { .. }) => Status::out_of_range(text),
        (Contract::V1, CursorError::Slow { .. }) => Status::resource_exhausted(text),
        (Contract::V1, CursorError::Read(cause)) => internal(cause),
    }
}

/// How a call ends for which the store could not be read.
pub(crate) fn of_read(error: &ReadError) -> Status {
    internal(error)
}

/// How a call ends for whose page there is no room.
pub(crate) fn pages_exhausted(error: PagesExhausted) -> Status {
    later(Status::resource_exhausted(error.to_string()), RETRY_SOON_MS)
}

/// How a call ends that could not open a session.
pub(crate) fn of_open(error: &OpenError, contract: Contract) -> Status {
    match error {
        OpenError::Cursor(error) => of_cursor(error, contract),
        OpenError::Admit(error) => {
            let text = error.to_string();
            match error {
                AdmitError::NotNewest { .. } => Status::aborted(text),
                AdmitError::TakeoverTooOften(_) => later(Status::unavailable(text), RETRY_LATER_MS),
                AdmitError::SubscribersExhausted(_) => {
                    later(Status::resource_exhausted(text), RETRY_LATER_MS)
                }
            }
        }
    }
}

/// The cause goes to the log, not to the caller.
fn internal(cause: &dyn std::error::Error) -> Status {
    tracing::error!(%cause, "a call failed inside");
    Status::internal("the server could not do this; its log says why")
}

impl From<InvalidRequest> for Status {
    fn from(error: InvalidRequest) -> Self {
        let text = error.to_string();
        match error {
            InvalidRequest::ForeignInbox { .. }
            | InvalidRequest::Message(MessageError::Reserved) => Self::permission_denied(text),
            InvalidRequest::Message(MessageError::TooLarge { .. }) => {
                Self::resource_exhausted(text)
            }
            InvalidRequest::Message(
                MessageError::DeletedWithoutKey | MessageError::MessageIdTooLong { .. },
            )
            | InvalidRequest::Unset(_)
            | InvalidRequest::SecondOpen
            | InvalidRequest::SubscriberId { .. }
            | InvalidRequest::SubscriptionCount(_)
            | InvalidRequest::Topic { .. }
            | InvalidRequest::LabelCount(_)
            | InvalidRequest::LabelLength { .. }
            | InvalidRequest::EnumValue { .. }
            | InvalidRequest::Page { .. }
            | InvalidRequest::Position { .. }
            | InvalidRequest::Duration(_)
            | InvalidRequest::Timestamp => Self::invalid_argument(text),
        }
    }
}

/// How a call ends whose request did not come whole. A time limit is DEADLINE_EXCEEDED, since trying again at once
/// would be no better; a full budget is RESOURCE_EXHAUSTED with a pushback, since it is free again soon. Nothing of the
/// message is stored either way.
pub(crate) fn of_request(error: &RequestError) -> Status {
    let text = error.to_string();
    match error {
        RequestError::TimedOut(_) => Status::deadline_exceeded(text),
        RequestError::ConnectionExhausted(_) | RequestError::NodeExhausted(_) => {
            later(Status::resource_exhausted(text), RETRY_SOON_MS)
        }
    }
}

/// The same, where the decoder has wrapped it up.
pub(crate) fn of_body(status: &Status) -> Option<Status> {
    let error = std::error::Error::source(status)?.downcast_ref()?;
    Some(of_request(error))
}

/// How a stream of messages to publish ends whose bytes are none.
pub(crate) fn of_request_stream(error: &RequestStreamError) -> Status {
    let text = error.to_string();
    match error {
        RequestStreamError::TooLarge(_) => Status::resource_exhausted(text),
        RequestStreamError::Compressed
        | RequestStreamError::Flag(_)
        | RequestStreamError::Cut
        | RequestStreamError::Malformed(_) => Status::invalid_argument(text),
    }
}

/// Whether what was refused is not stored, nor will be: what was written and not synced may come back.
pub(crate) fn is_certain(error: &PublishError) -> bool {
    !matches!(
        error,
        PublishError::Append(AppendError::Broken(_) | AppendError::Unknown(_))
    )
}

/// How a publish is refused by the log.
pub(crate) fn of_publish(error: &PublishError) -> Status {
    let text = error.to_string();
    match error {
        PublishError::TopicsExhausted(_) => Status::resource_exhausted(text),
        PublishError::DeadlineExceeded => Status::deadline_exceeded(text),
        PublishError::AfterRefusal => Status::aborted(text),
        PublishError::Append(AppendError::Full { .. }) => {
            later(Status::resource_exhausted(text), RETRY_LATER_MS)
        }
        PublishError::Append(AppendError::Unavailable(_) | AppendError::Unknown(_)) => {
            later(Status::unavailable(text), RETRY_SOON_MS)
        }
        PublishError::Append(AppendError::Broken(_)) => internal(error),
        PublishError::Closed => Status::unavailable(text),
    }
}
