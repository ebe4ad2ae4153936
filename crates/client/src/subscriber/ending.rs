//! The end of a stream and its consequence: the one place that decides between coming back and stopping.
//!
//! Holds: only a status the server itself sent can stop a subscription; a status that a proxy, a connection or this
//! library made up is a reason to come back.
//! Does not: wait, dial or speak to anybody. It is a table.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use longlived_api::code;
use tonic::{Code, Status};

use super::notice::GoAwayReason;
use crate::credential::{CredentialError, Remedy};
use crate::position::Position;
use crate::record::StreamEnd;
use crate::wire::{self, Pushback};

/// The server's own words when it refuses something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The text beside it, for people.
    pub message: String,
    /// Why, for programs: a reason of the contract's table of statuses, such as `TAKEN_OVER`. `None` when the status
    /// came from something on the way, or from a server that knows no reasons.
    pub reason: Option<String>,
    /// The values that the text quotes, by their names in that table.
    pub fields: BTreeMap<String, String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", code::name(self.code as i32), self.message)
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let (reason, fields) = wire::cause(status)
            .map(|cause| (cause.reason, cause.fields))
            .unzip();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            fields: fields.unwrap_or_default(),
        }
    }
}

/// Why a stream is gone although the subscription goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No connection could be made.
    Connect(String),
    /// The connection or the stream broke without a status; the cause is empty where there is nothing to say but that.
    Transport(String),
    /// The peer is no HTTP/2 server; its first bytes or its end.
    NotHttp2(String),
    /// It ended with OK and without a reason, as when a proxy cuts it.
    Ended,
    /// The server said beforehand that it would end it.
    GoAway(GoAwayReason),
    /// The server ended or refused it with a status that is worth another attempt.
    Status(Refusal),
    /// Something that is no gRPC server answered, with this HTTP status.
    Http(u16),
    /// Nothing arrived for longer than the server promised.
    Silent(Duration),
    /// The first response did not come in time.
    NoWelcome(Duration),
    /// A response does not follow the contract.
    Protocol(&'static str),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(cause) => write!(f, "cannot connect: {cause}"),
            Self::Transport(cause) if cause.is_empty() => {
                f.write_str("connection to the server lost")
            }
            Self::Transport(cause) => write!(f, "connection to the server lost: {cause}"),
            Self::NotHttp2(what) => write!(f, "the server does not speak gRPC over HTTP/2: {what}"),
            Self::Ended => f.write_str("stream ended without a reason"),
            Self::GoAway(reason) => write!(f, "stream ended: {reason}"),
            Self::Status(refusal) => write!(f, "stream ended: {refusal}"),
            Self::Http(status) => write!(f, "not a gRPC answer: HTTP status {status}"),
            Self::Silent(silence) => write!(f, "nothing arrived for {silence:?}"),
            Self::NoWelcome(timeout) => write!(f, "no Welcome within {timeout:?}"),
            Self::Protocol(what) => write!(f, "the server does not follow the contract: {what}"),
        }
    }
}

/// Why a subscription ended for good. Always the last item of a subscriber.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The server refuses this subscription as it is; asking again would change nothing.
    #[error("the server refuses the subscription: {0}")]
    Refused(Refusal),
    /// Another instance subscribed under the same id, or a newer stream of this one.
    #[error("the subscriber id was taken over: {0}")]
    TakenOver(Refusal),
    /// Events after the position cannot be had and the gap policy is to fail. The same position never works again;
    /// choose another, or another policy.
    #[error("cannot continue after {}: {refusal}", position.map_or_else(|| "the start".to_owned(), |position| position.to_string()))]
    OutOfRange {
        /// Where the application stands.
        position: Option<Position>,
        /// The server's words; they name the range that is kept.
        refusal: Refusal,
    },
    /// The credential was refused, and so was a fresh one if there is a provider; or the server asks for one and this
    /// client has none.
    #[error("the server refuses the credential: {0}{help}", help = help(.0))]
    Unauthenticated(Refusal),
    /// No credential could be had.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The server ended the subscription and told this client not to come back.
    #[error("the server ended the subscription: {0}")]
    Dismissed(GoAwayReason),
}

/// What a person can do about a refused credential.
fn help(refusal: &Refusal) -> &'static str {
    match refusal.reason.as_deref() {
        Some("CREDENTIAL_MISSING") => "; this client needs a token",
        Some("CREDENTIAL_INVALID") => {
            "; this client needs another token, best in a file, which is read again"
        }
        _ => "",
    }
}

/// The circumstances of a stream's end.
#[derive(Debug)]
pub(crate) enum End {
    /// Trailers with OK.
    Ok,
    /// A status the server sent, in trailers or instead of a stream.
    Sent(Status),
    /// Lost, for a reason found on this side.
    Lost(Lost),
    /// No credential to open a stream with.
    Credential(CredentialError),
}

impl End {
    /// In the words of a recording.
    pub(crate) fn recorded(&self) -> StreamEnd {
        match self {
            Self::Ok => StreamEnd::Status(Code::Ok),
            Self::Sent(status) => StreamEnd::Status(status.code()),
            Self::Lost(lost) => StreamEnd::Lost(lost.clone()),
            Self::Credential(_) => StreamEnd::Left,
        }
    }
}

/// The state of the subscription when it ended.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The server's announcement: its reason, and whether to come back.
    pub(crate) go_away: Option<(GoAwayReason, bool)>,
    /// This subscriber has opened a newer stream than the one that ended, and has lost it.
    pub(crate) newer_lost: bool,
    pub(crate) position: Option<Position>,
    /// What may help if the credential is refused. A fresh one is asked for once since the last healthy stream.
    pub(crate) remedy: Remedy,
    /// The application has asked to leave.
    pub(crate) leaving: bool,
}

/// The next step.
#[derive(Debug)]
pub(crate) enum Next {
    /// Come back after the wait that `GoAway` gave, or the growing one when it gave none.
    Resume(Lost),
    /// Come back after exactly this.
    ResumeAfter(Lost, Duration),
    /// Come back with a fresh credential.
    Refresh(Lost),
    /// Unsubscribed; the flag says whether the stream ended with OK.
    Finished {
        ok: bool,
    },
    Stop(SubscribeError),
}

impl Next {
    /// Another stream follows.
    pub(crate) fn returns(&self) -> bool {
        match self {
            Self::Resume(_) | Self::ResumeAfter(..) | Self::Refresh(_) => true,
            Self::Finished { .. } | Self::Stop(_) => false,
        }
    }
}

/// The table.
pub(crate) fn judge(end: End, known: &Known) -> Next {
    if known.leaving {
        return Next::Finished {
            ok: matches!(end, End::Ok),
        };
    }
    if let Some((reason, false)) = known.go_away {
        return match (reason, end) {
            (GoAwayReason::Unsubscribed, end) => Next::Finished {
                ok: matches!(end, End::Ok),
            },
            // Replaced by a stream of our own that is gone meanwhile.
            (GoAwayReason::Replaced, _) if known.newer_lost => {
                Next::Resume(Lost::GoAway(GoAwayReason::Replaced))
            }
            // The status says the same with the server's words.
            (_, End::Sent(status)) => stop(&status, known),
            (reason, _) => Next::Stop(SubscribeError::Dismissed(reason)),
        };
    }
    match end {
        End::Ok => Next::Resume(match known.go_away {
            Some((reason, _)) => Lost::GoAway(reason),
            None => Lost::Ended,
        }),
        End::Lost(lost) => Next::Resume(match known.go_away {
            // Announced, so it is no accident, however the connection went.
            Some((reason, _)) => Lost::GoAway(reason),
            None => lost,
        }),
        End::Credential(error) => Next::Stop(error.into()),
        End::Sent(status) => sent(&status, known),
    }
}

fn sent(status: &Status, known: &Known) -> Next {
    let refusal = Refusal::from(status);
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => come_back(status, refusal, known),
        Code::Unauthenticated => match known.remedy {
            Remedy::Nothing => stop(status, known),
            Remedy::Asking => Next::Refresh(Lost::Status(refusal)),
            Remedy::Waiting => come_back(status, refusal, known),
        },
        // Of a proxy that has no route yet; a server without this method says so by its reason.
        Code::Unimplemented if refusal.reason.is_none() => Next::Resume(Lost::Status(refusal)),
        Code::Aborted
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::NotFound
        | Code::Unimplemented => stop(status, known),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Internal
        | Code::DataLoss => Next::Resume(Lost::Status(refusal)),
    }
}

/// Comes back when the server says, or as after any loss.
fn come_back(status: &Status, refusal: Refusal, known: &Known) -> Next {
    match wire::pushback(status) {
        Some(Pushback::After(wait)) => Next::ResumeAfter(Lost::Status(refusal), wait),
        // gRPC's word for: do not try again.
        Some(Pushback::Never) => stop(status, known),
        None => Next::Resume(Lost::Status(refusal)),
    }
}

fn stop(status: &Status, known: &Known) -> Next {
    let refusal = Refusal::from(status);
    Next::Stop(match status.code() {
        Code::Aborted => SubscribeError::TakenOver(refusal),
        Code::Unauthenticated => SubscribeError::Unauthenticated(refusal),
        Code::OutOfRange => SubscribeError::OutOfRange {
            position: known.position,
            refusal,
        },
        _ => SubscribeError::Refused(refusal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_begins_with_the_name_of_its_code() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            let refusal = Refusal::from(&Status::new(code, "why"));
            let said = refusal.to_string();
            let (name, why) = said.split_once(": ").unwrap();
            let plain = format!("{code:?}").to_uppercase();
            assert_eq!((name.replace('_', ""), why), (plain, "why"));
        }
        assert_eq!(code::name(17), "UNKNOWN");
        assert_eq!(code::name(-1), "UNKNOWN");
    }
}
