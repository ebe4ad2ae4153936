//! Many messages, one answer.

use longlived_api::v1;
use longlived_api::v1::publish_service_client::PublishServiceClient;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Request;

use super::{Durability, Message};
use crate::client::Client;
use crate::position::Position;
use crate::subscriber::Refusal;
use crate::unary::CallError;
use crate::wire::{self, Seen};

/// The answer to a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkPublished {
    /// How many were stored.
    pub published: u64,
    /// How many of them had been stored before under the same message id.
    pub duplicates: u64,
    /// The place of the last one.
    pub last_position: Option<Position>,
    /// The crash that an acknowledged message survives.
    pub durability: Durability,
}

/// A bulk that ended early.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {}", published.map_or_else(|| "how many were stored is unknown".to_owned(), |count| format!("{count} were stored")))]
pub struct BulkError {
    /// How many were stored, when it can be known.
    pub published: Option<u64>,
    /// The error.
    pub cause: CallError,
}

impl BulkError {
    fn nothing_sent(cause: CallError) -> Self {
        Self {
            published: Some(0),
            cause,
        }
    }
}

/// There is no deadline: a bulk may be a file of any size. A dead connection ends it by keepalive.
pub(super) async fn publish<S>(client: &Client, messages: S) -> Result<BulkPublished, BulkError>
where
    S: Stream<Item = Message> + Send + 'static,
{
    let shared = &client.shared;
    let credential = shared.credentials.for_stream(None).await;
    let credential = credential.map_err(|error| BulkError::nothing_sent(error.into()))?;
    let lane = shared.pool.assign_publishing();
    let lease = shared.pool.lease(lane).await;
    let lease = lease.map_err(|lost| BulkError::nothing_sent(CallError::NotSent(lost)))?;
    let seen = Seen::default();
    let recording = shared.recording.clone();
    let mut request = Request::new(messages.map(move |message| {
        let request = v1::PublishRequest::from(message);
        if let Some(recording) = &recording {
            // The one answer does not say where each is, so none is recorded as ended.
            recording.publish_begun(&request);
        }
        request
    }));
    request.extensions_mut().insert(seen.clone());
    if let Some(credential) = credential {
        credential.send(request.metadata_mut());
    }
    let answer = PublishServiceClient::new(lease.wire.clone())
        .bulk_publish(request)
        .await;
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(BulkPublished {
                published: answer.published,
                duplicates: answer.duplicates,
                last_position: answer.last_position.map(Position::from),
                durability: Durability::from_wire(answer.durability),
            })
        }
        Err(status) if seen.sent() => Err(BulkError {
            published: status
                .metadata()
                .get("longlived-published")
                .and_then(|count| count.to_str().ok()?.parse().ok()),
            cause: CallError::Refused(Refusal::from(&status)),
        }),
        Err(status) => {
            shared.pool.retire(&lease);
            let lost = seen.lost(&status);
            Err(if wire::never_sent(&status) {
                BulkError::nothing_sent(CallError::NotSent(lost))
            } else {
                BulkError {
                    published: None,
                    cause: CallError::Lost(lost),
                }
            })
        }
    }
}
