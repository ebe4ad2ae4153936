//! Verifying a token that is not known: some hundred microseconds of cryptography, which no connection's turn may hold.
//!
//! Holds: it is done on a thread of its own, for a few tokens at a time, and for one of each connection. So a peer that sends many
//! bad tokens waits for itself.

use std::sync::Arc;

use super::Callers;
use crate::contract::{Caller, CallerError};
use crate::transport::connection::ConnectionContext;

/// A token that is to be verified.
pub(crate) struct Unverified {
    callers: Arc<Callers>,
    token: Box<str>,
    connection: Option<Arc<ConnectionContext>>,
}

impl Unverified {
    pub(super) fn new(
        callers: &Arc<Callers>,
        token: &str,
        connection: Option<&Arc<ConnectionContext>>,
    ) -> Self {
        Self {
            callers: callers.clone(),
            token: token.into(),
            connection: connection.cloned(),
        }
    }

    /// The caller, when it is its turn.
    pub(crate) async fn verify(self) -> Result<Arc<Caller>, CallerError> {
        let Self {
            callers,
            token,
            connection,
        } = self;
        let Some(checked) = &callers.checked else {
            return Err(CallerError::Missing);
        };
        let own_turn = match &connection {
            Some(connection) => connection.queue().acquire_owned().await.ok(),
            None => None,
        };
        // Another call of the connection may have brought the same.
        if let Some(known) = checked.known_token(&token) {
            return Ok(known);
        }
        let turn = checked.verifiers.clone().acquire_owned().await.ok();
        let verify = {
            let callers = callers.clone();
            // A call that ends meanwhile leaves its turns to the thread, which cannot be ended.
            move || {
                let _turns = (own_turn, turn);
                match &callers.checked {
                    Some(checked) => checked.of_token(&token),
                    None => Err(CallerError::Missing),
                }
            }
        };
        let verified = tokio::task::spawn_blocking(verify).await;
        let verified = verified.unwrap_or_else(|error| {
            tracing::error!(%error, "verifying a token failed");
            Err(CallerError::Failed)
        });
        verified.map_err(|error| callers.refuse(error))
    }
}
