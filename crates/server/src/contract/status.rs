//! The only place that turns an error into a gRPC status.
//!
//! Holds: a status of version 1 has one reason of the contract's table, in `ErrorInfo`. A wait stands in `RetryInfo`
//! and in the trailer that gRPC's own retries follow.

mod details;
mod headers;
mod reason;
mod reset;

use std::time::Duration;

use longlived_broker::{
    AppendError, AttachError, CursorError, MessageError, PublishError, ReadError,
};
use tonic::{Code, Status, metadata::MetadataValue};

pub(crate) use self::headers::{ok, trailers, trailers_only};
use self::{
    details::{Refusal, plain},
    reason::Reason,
};
use super::{
    CallerError, CloseReason, InvalidRequest, NotGranted, PagesExhausted, QuotaExhausted,
    RegisterError, RequestStreamError,
};
use crate::limits::PROBE_REQUEST_BYTES_MAX;
use crate::transport::connection::HeadersTooLarge;
use crate::transport::connection::RequestError;

/// How long a client waits when it is refused for a limit that time will lift.
const RETRY_LATER: Duration = Duration::from_secs(5);
/// ... and for one that the peer itself lifts as its other messages arrive.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// The least wait of a caller whose quota is used up: `grpc-retry-pushback-ms` has no less than a millisecond.
const QUOTA_WAIT_MIN: Duration = Duration::from_millis(1);
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Refused because the node drains; the caller comes back at its turn.
pub(crate) fn draining(turn: Duration) -> Status {
    let refusal = Refusal::new(Reason::Draining, "the server is draining");
    refusal.after(turn).status()
}

/// The same for a health check: the node has ended, and no caller has a turn.
pub(crate) fn gone() -> Status {
    Refusal::new(Reason::Draining, "the server is draining").status()
}

/// How a stream ends that has nothing more to say.
pub(crate) fn completed() -> Status {
    Status::ok("")
}

/// How a stream of the frozen contract ends whose program is to come back.
pub(crate) fn unavailable(text: impl Into<String>) -> Status {
    plain(Code::Unavailable, text)
}

/// How a stream that is closed on purpose ends.
pub(crate) fn of_close(reason: CloseReason) -> Status {
    let text = reason.as_str();
    match reason {
        CloseReason::Unsubscribed
        | CloseReason::Draining { .. }
        | CloseReason::StreamAge { .. }
        | CloseReason::Replaced
        | CloseReason::CredentialExpired { .. } => completed(),
        CloseReason::TakenOver => Refusal::new(Reason::TakenOver, text).status(),
        CloseReason::Revoked => Refusal::new(Reason::CallerRevoked, text).status(),
        CloseReason::Slow { reconnect_after } => {
            let refusal = Refusal::new(Reason::SubscriberSlow, text);
            refusal.after(reconnect_after).status()
        }
    }
}

/// How a stream ends whose cursor cannot go on. One that was slow is closed with [`CloseReason::Slow`] before.
pub(crate) fn of_cursor(error: &CursorError) -> Status {
    let text = error.to_string();
    match error {
        CursorError::Attach(AttachError::Closed) => log_closed(text),
        CursorError::Attach(AttachError::ChannelsExhausted { limit }) => {
            let refusal = Refusal::new(Reason::ChannelsExhausted, text);
            refusal.with("limit", limit).after(RETRY_LATER).status()
        }
        CursorError::OutOfRange {
            epoch,
            first,
            looked_through,
            last,
            ..
        } => {
            let refusal = Refusal::new(Reason::PositionOutOfRange, text);
            let refusal = refusal.with("epoch", epoch).with("last", last);
            match first {
                Some(first) => refusal.with("first", first),
                None => refusal.with("looked_through", looked_through),
            }
            .status()
        }
        CursorError::Slow { .. } => {
            let refusal = Refusal::new(Reason::SubscriberSlow, text);
            refusal.after(RETRY_SOON).status()
        }
        CursorError::Read(cause) => internal(cause),
    }
}

/// How a call ends for which the store could not be read.
pub(crate) fn of_read(error: &ReadError) -> Status {
    internal(error)
}

/// How a call ends for whose page there is no room.
pub(crate) fn pages_exhausted(error: PagesExhausted) -> Status {
    let refusal = Refusal::new(Reason::PagesExhausted, error.to_string());
    refusal.after(RETRY_SOON).status()
}

/// How a call ends whose stream is not let in.
pub(crate) fn of_registration(error: &RegisterError) -> Status {
    let text = error.to_string();
    match error {
        RegisterError::NotNewest {
            attempt, newest, ..
        } => {
            let refusal = Refusal::new(Reason::AttemptNotNewest, text);
            refusal
                .with("attempt", attempt)
                .with("newest", newest)
                .status()
        }
        RegisterError::TakeoverTooOften { wait, .. } => {
            let refusal = Refusal::new(Reason::TakeoverTooOften, text);
            refusal.after(*wait).status()
        }
        RegisterError::Quota(exhausted) => quota_exhausted(exhausted),
        RegisterError::SubscribersExhausted(limit) => {
            let refusal = Refusal::new(Reason::SubscribersExhausted, text);
            refusal.with("limit", limit).after(RETRY_LATER).status()
        }
    }
}

/// The caller is not known, or not any more.
pub(crate) fn of_credential(error: &CallerError) -> Status {
    let text = error.to_string();
    let reason = match error {
        CallerError::Missing => Reason::CredentialMissing,
        CallerError::Failed => Reason::InternalError,
        CallerError::Repeated | CallerError::Scheme | CallerError::NotText | CallerError::Ended => {
            Reason::CredentialInvalid
        }
        CallerError::Refused(refused) if refused.is_revoked() => Reason::CallerRevoked,
        CallerError::Refused(_) => Reason::CredentialInvalid,
    };
    Refusal::new(reason, text).status()
}

/// How a stream ends none of whose topics its caller may follow any more, and a call that only an administrator may make.
pub(crate) fn not_granted(problem: &NotGranted) -> Status {
    Refusal::new(Reason::NotGranted, problem.to_string()).status()
}

/// A caller has used up what it may use.
pub(crate) fn quota_exhausted(exhausted: &QuotaExhausted) -> Status {
    let refusal = Refusal::new(Reason::QuotaExhausted, exhausted.to_string());
    let refusal = refusal
        .with("quota", exhausted.quota)
        .with("limit", exhausted.limit);
    let wait = exhausted.wait.unwrap_or(RETRY_LATER);
    refusal.after(wait.max(QUOTA_WAIT_MIN)).status()
}

/// There is no subscriber of this id to unsubscribe.
pub(crate) fn nobody_to_unsubscribe(subscriber: &str) -> Status {
    let text =
        format!("`subscriber_id` {subscriber} has no live stream here, and is not remembered");
    Refusal::new(Reason::SubscriberNotFound, text).status()
}

/// The cause goes to the log, not to the caller.
fn internal(cause: &dyn std::error::Error) -> Status {
    tracing::error!(%cause, "a call failed with an internal error");
    let text = "the server could not do this; its log says why";
    Refusal::new(Reason::InternalError, text).status()
}

/// A call came to its method without the extensions of the layers around it.
pub(crate) fn without_record() -> Status {
    Refusal::new(Reason::InternalError, "the call has no record").status()
}

/// Without a time to come back: publishers take one to say that nothing was stored, and that is not known here.
fn log_closed(text: String) -> Status {
    Refusal::new(Reason::LogClosed, text).status()
}

impl From<InvalidRequest> for Status {
    fn from(error: InvalidRequest) -> Self {
        let text = error.to_string();
        let refusal = match error {
            InvalidRequest::ForeignInbox { .. } => Refusal::new(Reason::InboxForeign, text),
            InvalidRequest::NotGranted { field, .. } => {
                Refusal::new(Reason::NotGranted, text).with("field", field)
            }
            InvalidRequest::Message(MessageError::Reserved) => {
                Refusal::new(Reason::TopicReserved, text)
            }
            InvalidRequest::Message(MessageError::TooLarge { bytes, limit }) => {
                let refusal = Refusal::new(Reason::EventTooLarge, text);
                refusal.with("bytes", bytes).with("limit", limit)
            }
            InvalidRequest::Message(
                MessageError::DeletedWithoutKey
                | MessageError::NoInbox
                | MessageError::MessageIdTooLong { .. },
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
            | InvalidRequest::Principal
            | InvalidRequest::Timestamp => {
                Refusal::new(Reason::FieldInvalid, text).with("field", error.field())
            }
        };
        refusal.status()
    }
}

/// The status of a call whose request did not come whole. A time limit is DEADLINE_EXCEEDED, since another attempt at
/// once would be no better. A full budget is RESOURCE_EXHAUSTED with a pushback, since it is free again soon. Nothing
/// of the message is stored in either case.
pub(crate) fn of_request(error: &RequestError) -> Status {
    let text = error.to_string();
    match error {
        RequestError::TimedOut(_) => Refusal::new(Reason::RequestTimedOut, text).status(),
        RequestError::ConnectionExhausted(limit) | RequestError::NodeExhausted(limit) => {
            let refusal = Refusal::new(Reason::HeldBytesExhausted, text);
            refusal.with("limit", limit).after(RETRY_SOON).status()
        }
        RequestError::Reset(code) => reset::status(*code, text),
    }
}

/// The same, where the decoder has wrapped it up.
pub(crate) fn of_body(status: &Status) -> Option<Status> {
    let error = std::error::Error::source(status)?.downcast_ref()?;
    Some(of_request(error))
}

/// The decoder's error about an unreadable request, as a status of this server. The decoder knows none of our limits,
/// returns OUT_OF_RANGE for a message that is too large, and does not name one that is too large when decompressed.
pub(crate) fn of_decoder(status: &Status, message: &str, bytes_max: usize) -> Status {
    if let Some(ours) = of_body(status) {
        return ours;
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            let text = format!("the {message} is larger than its limit of {bytes_max} bytes");
            too_large(text, bytes_max)
        }
        // The decoder's code for bytes that are no such message. An error of HTTP/2 has a source.
        Code::Internal if std::error::Error::source(status).is_none() => {
            let text = format!("the {message} cannot be decoded: {}", status.message());
            Refusal::new(Reason::RequestMalformed, text).status()
        }
        _ => {
            let text = format!("the {message} was lost: {}", status.message());
            Refusal::new(Reason::RequestLost, text).status()
        }
    }
}

fn too_large(text: String, limit: usize) -> Status {
    let refusal = Refusal::new(Reason::RequestTooLarge, text);
    refusal.with("limit", limit).status()
}

/// A call of health or reflection whose request is over its limit.
pub(crate) fn probe_too_large() -> Status {
    let limit = PROBE_REQUEST_BYTES_MAX;
    let text = format!(
        "a request is larger than its limit of {limit} bytes, or those are that wait behind it"
    );
    too_large(text, limit)
}

/// A call whose headers are over their limit.
pub(crate) fn headers_too_large(too_large: HeadersTooLarge) -> Status {
    let limit = too_large.bytes_max as usize;
    let text = format!(
        "the headers have more than the limit header_list_bytes_max of {limit} bytes, 32 of them for each header"
    );
    self::too_large(text, limit)
}

/// How a call ends that came without its request message.
pub(crate) fn no_request(message: &str) -> Status {
    Refusal::new(Reason::RequestMissing, format!("no {message} was sent")).status()
}

/// How a call ends that takes one request message and was sent another.
pub(crate) fn second_request(message: &str) -> Status {
    let text = format!("a second {message} was sent to a method that takes one");
    Refusal::new(Reason::RequestRepeated, text).status()
}

/// How a stream of messages to publish ends whose bytes are none.
pub(crate) fn of_request_stream(error: &RequestStreamError) -> Status {
    let text = error.to_string();
    match error {
        RequestStreamError::TooLarge(limit) => too_large(text, *limit),
        RequestStreamError::Compressed
        | RequestStreamError::Flag(_)
        | RequestStreamError::Cut
        | RequestStreamError::Malformed(_) => Refusal::new(Reason::RequestMalformed, text).status(),
    }
}

/// How a call ends whose method is none.
pub(crate) fn unknown_method(path: &str) -> Status {
    let text = format!("there is no method {path}");
    Refusal::new(Reason::MethodUnknown, text).status()
}

/// How a call ends whose messages are compressed in a way that is not known; the accepted ones are named in
/// `grpc-accept-encoding`.
pub(crate) fn unknown_encoding(encoding: &str) -> Status {
    let text = format!("`grpc-encoding` {encoding} is not known; identity, gzip and zstd are");
    let mut status = Refusal::new(Reason::EncodingUnknown, text).status();
    let accepted = MetadataValue::from_static("identity,gzip,zstd");
    let metadata = status.metadata_mut();
    metadata.insert("grpc-accept-encoding", accepted);
    status
}

/// How a call ends whose `grpc-timeout` is none.
pub(crate) fn malformed_timeout(text: String) -> Status {
    Refusal::new(Reason::TimeoutMalformed, text).status()
}

/// How a call ends whose caller waits no longer.
pub(crate) fn deadline_passed() -> Status {
    let text = "the time that the caller gave in grpc-timeout is over";
    Refusal::new(Reason::DeadlinePassed, text).status()
}

/// Whether the refused messages are not stored, nor will be: messages that were written and not synced may come back.
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
        PublishError::TopicsExhausted(_) => Refusal::new(Reason::TopicsExhausted, text).status(),
        PublishError::DeadlineExceeded => Refusal::new(Reason::DeadlinePassed, text).status(),
        PublishError::AfterRefusal => Refusal::new(Reason::EarlierRefused, text).status(),
        PublishError::Append(AppendError::Full { available, reserve }) => {
            let refusal = Refusal::new(Reason::StoreFull, text);
            let refusal = refusal
                .with("available", available)
                .with("reserve", reserve);
            refusal.after(RETRY_LATER).status()
        }
        PublishError::Append(AppendError::Unavailable(_)) => {
            let refusal = Refusal::new(Reason::StoreUnavailable, text);
            refusal.after(RETRY_SOON).status()
        }
        PublishError::Append(AppendError::Unknown(_)) => {
            let refusal = Refusal::new(Reason::StoreUncertain, text);
            refusal.after(RETRY_SOON).status()
        }
        PublishError::Append(AppendError::Broken(_)) => internal(error),
        PublishError::Closed => log_closed(text),
    }
}
