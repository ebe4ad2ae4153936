//! One call and its answer, over the connection kept for such calls.

use std::future::Future;
use std::time::Duration;

use tonic::{Request, Response, Status};

use crate::client::Client;
use crate::credential::CredentialError;
use crate::pool::Lane;
use crate::subscriber::{Lost, Refusal};
use crate::wire::{self, Pushback, Seen, Wire};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// It never reached a server, or the server says that it did not process it.
    #[error("{0}")]
    NotSent(Lost),
    /// It was sent, and the answer was lost.
    #[error("{0}")]
    Lost(Lost),
    /// No credential could be had.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

/// A call without an answer, with the facts that its caller needs to decide about another attempt.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: CallError,
    pub(crate) pushback: Option<Pushback>,
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self {
            error,
            pushback: None,
        }
    }
}

/// Calls once, and once more with another credential, if there is one, when the server refuses the first.
pub(crate) async fn call<M, R, F, Fut>(
    client: &Client,
    lane: Lane,
    message: &M,
    timeout: Duration,
    send: F,
) -> Result<R, Failed>
where
    M: Clone,
    F: Fn(Wire, Request<M>) -> Fut,
    Fut: Future<Output = Result<Response<R>, Status>>,
{
    let shared = &client.shared;
    let mut other = None;
    loop {
        let lease = shared.pool.lease_for_call(lane).await;
        let lease = lease.map_err(CallError::NotSent)?;
        let is_first = other.is_none();
        let credential = if is_first {
            let credential = shared.credentials.for_call(lease.connected);
            credential.await.map_err(CallError::from)?
        } else {
            other.take()
        };
        let seen = Seen::default();
        let mut request = Request::new(message.clone());
        request.extensions_mut().insert(seen.clone());
        if let Some(credential) = &credential {
            credential.send(request.metadata_mut());
        }
        request.set_timeout(timeout);
        // The server keeps the same deadline; ours is for one that does not answer at all.
        let answer = tokio::time::timeout(timeout, send(lease.wire.clone(), request)).await;
        let status = match answer {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_elapsed) => {
                shared.pool.retire(&lease);
                return Err(CallError::Lost(Lost::Silent(timeout)).into());
            }
        };
        if !seen.sent() {
            shared.pool.retire(&lease);
            let lost = seen.lost(&status);
            return Err(if wire::never_sent(&status) {
                CallError::NotSent(lost).into()
            } else {
                CallError::Lost(lost).into()
            });
        }
        if let Some(refused) = &credential
            && status.code() == tonic::Code::Unauthenticated
            && is_first
        {
            let fresh = shared.credentials.other_than(refused).await;
            other = fresh.map_err(CallError::from)?;
            if other.is_some() {
                continue;
            }
        }
        return Err(Failed {
            error: CallError::Refused(Refusal::from(&status)),
            pushback: wire::pushback(&status),
        });
    }
}
