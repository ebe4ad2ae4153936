//! One message, with the attempts that are safe.

use std::time::Duration;

use longlived_api::v1;
use longlived_api::v1::publish_service_client::PublishServiceClient;
use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{Message, Published};
use crate::backoff::Backoff;
use crate::client::Client;
use crate::credential::CredentialError;
use crate::pool::Lane;
use crate::subscriber::Refusal;
use crate::unary::{self, CallError, Failed};
use crate::wire::Pushback;

/// How long one attempt waits for its answer when another is safe. It is long enough for a slow disk. It is short
/// enough that a server that died without a word costs one attempt and not the whole timeout.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// The last attempt begins this long before the time is over, or there would be none left for its answer.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// The wait before another attempt: the drawn one, but never so long that the remaining time passes without an attempt.
/// `None` when there is no time for another.
pub(super) fn clipped(wait: Duration, deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    left.checked_sub(LAST_MOMENT)
        .filter(|left| !left.is_zero())
        .map(|left| wait.min(left))
}

/// Why a message is not known to be stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The server refuses it; it is not stored.
    #[error("refused, not stored: {0}")]
    Refused(Refusal),
    /// It could not be handed to a server in time; it is not stored.
    #[error("not sent within {timeout:?}, not stored: {cause}")]
    NotSent {
        /// The time it had.
        timeout: Duration,
        /// The failure of the last attempt.
        cause: String,
    },
    /// It was sent and the answer was lost: it may be stored, and sending it again may store it twice. A
    /// message with a message id is repeated safely until its time is over.
    #[error("sent, but the answer was lost, so {} may or may not be stored: {cause}", match unanswered { 1 => "it".to_owned(), many => format!("{many} messages") })]
    Unknown {
        /// How many messages this is about: more than one only in a stream.
        unanswered: usize,
        /// The response that came instead of the answer.
        cause: String,
    },
    /// No credential could be had; it was not sent.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// The outcome of the message after a failed attempt.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Not stored, and the server names the wait before another attempt.
    NotStoredWait(Refusal, Duration),
    /// Not stored, for good.
    NotStored(PublishError),
    /// Never reached a server.
    NeverSent(String),
    /// Perhaps stored.
    Perhaps(String),
}

/// The same for a status that the server sent.
pub(super) fn refused(refusal: Refusal, pushback: Option<Pushback>) -> Meaning {
    match refusal.code {
        // It may stand in the log, and may be sent again all the same: with a message id it is stored once.
        Code::Unavailable if refusal.reason.as_deref() == Some("STORE_UNCERTAIN") => {
            Meaning::Perhaps(refusal.to_string())
        }
        // Of a proxy that has no route yet.
        Code::Unimplemented if refusal.reason.is_none() => Meaning::NeverSent(refusal.to_string()),
        // A hint to come back is given only where nothing was begun.
        Code::Unavailable | Code::ResourceExhausted => match pushback {
            Some(Pushback::After(wait)) => Meaning::NotStoredWait(refusal, wait),
            Some(Pushback::Never) => Meaning::NotStored(PublishError::Refused(refusal)),
            None if refusal.code == Code::ResourceExhausted => {
                Meaning::NotStored(PublishError::Refused(refusal))
            }
            None => Meaning::Perhaps(refusal.to_string()),
        },
        Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::DataLoss
        | Code::Aborted
        | Code::Ok => Meaning::Perhaps(refusal.to_string()),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Meaning::NotStored(PublishError::Refused(refusal)),
    }
}

fn meaning(failed: Failed) -> Meaning {
    match failed.error {
        CallError::Refused(refusal) => refused(refusal, failed.pushback),
        CallError::NotSent(lost) => Meaning::NeverSent(lost.to_string()),
        CallError::Lost(lost) => Meaning::Perhaps(lost.to_string()),
        CallError::Credential(error) => Meaning::NotStored(error.into()),
    }
}

pub(super) async fn publish(
    client: &Client,
    message: Message,
    timeout: Duration,
) -> Result<Published, PublishError> {
    let request = v1::PublishRequest::from(message);
    let Some(recording) = &client.shared.recording else {
        return attempts(client, request, timeout).await;
    };
    // One publish over all its attempts: without an id there is another only where the first is not stored.
    let publish = recording.publish_begun(&request);
    let answer = attempts(client, request, timeout).await;
    recording.publish_ended(publish, answer.as_ref());
    answer
}

async fn attempts(
    client: &Client,
    request: v1::PublishRequest,
    timeout: Duration,
) -> Result<Published, PublishError> {
    let deadline = Instant::now() + timeout;
    let mut backoff = Backoff::new(client.shared.backoff);
    let mut rng = client.shared.rng();
    let repeatable = !request.message_id.is_empty();
    let send =
        |wire, request| async move { PublishServiceClient::new(wire).publish(request).await };
    // Once an attempt may have been stored, no later failure makes it unstored.
    let mut perhaps = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let attempt = if repeatable {
            left.min(ATTEMPT_MAX)
        } else {
            left
        };
        let failed = match unary::call(client, Lane::Unary, &request, attempt, send).await {
            Ok(answer) => {
                return Published::from_wire(answer).ok_or_else(|| PublishError::Unknown {
                    unanswered: 1,
                    cause: "the answer names no position".to_owned(),
                });
            }
            Err(failed) => meaning(failed),
        };
        // A wait that the server names is waited out or not begun; one of our own is cut to the remaining time.
        let now = Instant::now();
        let named = |wait| (now + wait < deadline).then_some(wait);
        let (wait, error) = match failed {
            Meaning::NotStored(error) if !perhaps => return Err(error),
            Meaning::NotStored(error) => {
                return Err(PublishError::Unknown {
                    unanswered: 1,
                    cause: format!("lost earlier, then {error}"),
                });
            }
            Meaning::NotStoredWait(refusal, wait) => {
                backoff.named(now, wait);
                (named(wait), PublishError::Refused(refusal))
            }
            Meaning::NeverSent(cause) => (
                clipped(backoff.next_wait(now, &mut rng), deadline),
                PublishError::NotSent { timeout, cause },
            ),
            Meaning::Perhaps(cause) => {
                perhaps = true;
                let error = PublishError::Unknown {
                    unanswered: 1,
                    cause,
                };
                if !repeatable {
                    return Err(error);
                }
                (clipped(backoff.next_wait(now, &mut rng), deadline), error)
            }
        };
        match (wait, error) {
            (Some(wait), _) => sleep(wait).await,
            (None, error @ PublishError::Unknown { .. }) => return Err(error),
            (None, error) if perhaps => {
                return Err(PublishError::Unknown {
                    unanswered: 1,
                    cause: format!("lost earlier, then {error}"),
                });
            }
            (None, error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn refusal(code: Code, reason: Option<&str>) -> Refusal {
        Refusal {
            code,
            message: "by script".to_owned(),
            reason: reason.map(ToOwned::to_owned),
            fields: BTreeMap::new(),
        }
    }

    #[test]
    fn a_message_that_is_perhaps_stored_stays_so_with_any_wait_that_is_named() {
        let wait = Duration::from_secs(1);
        let pushback = Some(Pushback::After(wait));
        let uncertain = refusal(Code::Unavailable, Some("STORE_UNCERTAIN"));
        assert!(matches!(refused(uncertain, pushback), Meaning::Perhaps(_)));
        let full = refusal(Code::ResourceExhausted, Some("STORE_FULL"));
        assert!(
            matches!(refused(full, pushback), Meaning::NotStoredWait(_, after) if after == wait)
        );
    }

    #[test]
    fn a_method_that_only_something_on_the_way_does_not_know_may_be_there_the_next_time() {
        let proxy = refusal(Code::Unimplemented, None);
        assert!(matches!(refused(proxy, None), Meaning::NeverSent(_)));
        let server = refusal(Code::Unimplemented, Some("METHOD_UNKNOWN"));
        assert!(matches!(refused(server, None), Meaning::NotStored(_)));
    }
}
