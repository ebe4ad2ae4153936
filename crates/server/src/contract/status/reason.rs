//! The reasons of statuses of version 1. Programs decide by them; texts are for people.
//!
//! Holds: a reason has one code for ever, and stands with it in the contract's table of statuses.

use tonic::Code;

macro_rules! reasons {
    ($($(#[$meaning:meta])+ $name:ident, $code:ident, $text:literal;)+) => {
        /// Why a call or a stream ends with a status that is not OK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($(#[$meaning])+ $name,)+
        }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub(super) const ALL: [Self; [$($text),+].len()] = [$(Self::$name),+];

            /// The code that goes with it.
            pub(super) fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)+
                }
            }

            /// `ErrorInfo.reason`.
            pub(super) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

reasons! {
    /// Another instance has the id now.
    TakenOver, Aborted, "TAKEN_OVER";
    /// A newer attempt of the same instance was seen.
    AttemptNotNewest, Aborted, "ATTEMPT_NOT_NEWEST";
    /// Programs fight over one id.
    TakeoverTooOften, Unavailable, "TAKEOVER_TOO_OFTEN";
    /// The node has no room for another subscriber.
    SubscribersExhausted, ResourceExhausted, "SUBSCRIBERS_EXHAUSTED";
    /// The node has no room for the live tail of another topic filter.
    ChannelsExhausted, ResourceExhausted, "CHANNELS_EXHAUSTED";
    /// The reader asked to be disconnected when it is slow, and was.
    SubscriberSlow, ResourceExhausted, "SUBSCRIBER_SLOW";
    /// The policy is to fail when something is missing, and something is.
    PositionOutOfRange, OutOfRange, "POSITION_OUT_OF_RANGE";
    /// There is no subscriber to unsubscribe.
    SubscriberNotFound, NotFound, "SUBSCRIBER_NOT_FOUND";
    /// A field of the request breaks the contract.
    FieldInvalid, InvalidArgument, "FIELD_INVALID";
    /// The inbox of another subscriber.
    InboxForeign, PermissionDenied, "INBOX_FOREIGN";
    /// A call without a credential, where one is needed.
    CredentialMissing, Unauthenticated, "CREDENTIAL_MISSING";
    /// A credential that is not valid, or not any more.
    CredentialInvalid, Unauthenticated, "CREDENTIAL_INVALID";
    /// The caller has been revoked.
    CallerRevoked, PermissionDenied, "CALLER_REVOKED";
    /// The caller has no right to do this.
    NotGranted, PermissionDenied, "NOT_GRANTED";
    /// The caller has used up what it may use.
    QuotaExhausted, ResourceExhausted, "QUOTA_EXHAUSTED";
    /// A topic to which only the server publishes.
    TopicReserved, PermissionDenied, "TOPIC_RESERVED";
    /// The event is larger than the server keeps.
    EventTooLarge, ResourceExhausted, "EVENT_TOO_LARGE";
    /// The request message is larger than its limit.
    RequestTooLarge, ResourceExhausted, "REQUEST_TOO_LARGE";
    /// The request message cannot be decoded.
    RequestMalformed, InvalidArgument, "REQUEST_MALFORMED";
    /// A call without its request message.
    RequestMissing, InvalidArgument, "REQUEST_MISSING";
    /// A call with more request messages than the one it takes.
    RequestRepeated, Internal, "REQUEST_REPEATED";
    /// The request message did not come whole in time.
    RequestTimedOut, DeadlineExceeded, "REQUEST_TIMED_OUT";
    /// HTTP/2 failed under the request.
    RequestLost, Unknown, "REQUEST_LOST";
    /// Too much of requests is held.
    HeldBytesExhausted, ResourceExhausted, "HELD_BYTES_EXHAUSTED";
    /// Too many pages wait for their readers.
    PagesExhausted, ResourceExhausted, "PAGES_EXHAUSTED";
    /// The log has no room for another topic.
    TopicsExhausted, ResourceExhausted, "TOPICS_EXHAUSTED";
    /// The disk has no room.
    StoreFull, ResourceExhausted, "STORE_FULL";
    /// The store takes nothing for the moment.
    StoreUnavailable, Unavailable, "STORE_UNAVAILABLE";
    /// It is not known whether the message is stored.
    StoreUncertain, Unavailable, "STORE_UNCERTAIN";
    /// An earlier message of the same stream was refused.
    EarlierRefused, Aborted, "EARLIER_REFUSED";
    /// The log has ended before the call.
    LogClosed, Unavailable, "LOG_CLOSED";
    /// The node goes away.
    Draining, Unavailable, "DRAINING";
    /// `grpc-timeout` is none.
    TimeoutMalformed, InvalidArgument, "TIMEOUT_MALFORMED";
    /// The caller's time is over.
    DeadlinePassed, DeadlineExceeded, "DEADLINE_PASSED";
    /// No such method.
    MethodUnknown, Unimplemented, "METHOD_UNKNOWN";
    /// No such compression.
    EncodingUnknown, Unimplemented, "ENCODING_UNKNOWN";
    /// Something failed that the caller has no part in.
    InternalError, Internal, "INTERNAL_ERROR";
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = include_str!("../../../../../proto/longlived/v1/longlived.proto");

    /// The lines of the contract's table that name a code and a reason.
    fn table() -> Vec<(&'static str, &'static str)> {
        let lines = CONTRACT.lines().filter_map(|line| {
            let mut words = line.strip_prefix("//   ")?.split_whitespace();
            let (code, reason) = (words.next()?, words.next()?);
            let capital = |word: &str| {
                word.len() > 4 && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            };
            (capital(code) && capital(reason)).then_some((code, reason))
        });
        lines.collect()
    }

    #[test]
    fn the_contract_has_exactly_these_reasons_with_their_codes() {
        let spelled = |reason: Reason| {
            let code = format!("{:?}", reason.code());
            let mut words = String::new();
            for letter in code.chars() {
                if letter.is_uppercase() && !words.is_empty() {
                    words.push('_');
                }
                words.push(letter.to_ascii_uppercase());
            }
            (words, reason.as_str().to_owned())
        };
        let mut ours: Vec<_> = Reason::ALL.into_iter().map(spelled).collect();
        let listed = table().into_iter();
        let mut listed: Vec<_> = listed
            .map(|(code, reason)| (code.to_owned(), reason.to_owned()))
            .collect();
        ours.sort();
        listed.sort();
        assert_eq!(listed, ours);
    }
}
