//! One message, with the attempts that are safe.

use std::time::Duration;

use super::{Message, Published};
use crate::client::Client;
use crate::credential::CredentialError;
use crate::subscriber::Refusal;

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
        /// What the last attempt met.
        cause: String,
    },
    /// It was sent and the answer was lost: it may be stored, and sending it again may store it twice. A
    /// message with a message id is repeated safely until its time is over.
    #[error("sent, but the answer was lost, so it may or may not be stored: {cause}")]
    Unknown {
        /// What was seen instead of the answer.
        cause: String,
    },
    /// No credential could be had; it was not sent.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

pub(super) async fn publish(
    client: &Client,
    message: Message,
    timeout: Duration,
) -> Result<Published, PublishError> {
    let _ = (client, message, timeout);
    todo!()
}
