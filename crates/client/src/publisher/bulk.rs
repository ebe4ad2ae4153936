//! Many messages, one answer.

use tokio_stream::Stream;

use super::{Durability, Message};
use crate::client::Client;
use crate::position::Position;
use crate::unary::CallError;

/// The answer to a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkPublished {
    /// How many were stored.
    pub published: u64,
    /// How many of them had been stored before under the same message id.
    pub duplicates: u64,
    /// The place of the last one.
    pub last_position: Option<Position>,
    /// What a crash can still take away.
    pub durability: Durability,
}

/// A bulk that ended early.
#[derive(Debug, thiserror::Error)]
#[error("{cause}; {}", published.map_or_else(|| "how many were stored is unknown".to_owned(), |count| format!("{count} were stored")))]
pub struct BulkError {
    /// How many were stored, when the server could tell.
    pub published: Option<u64>,
    /// What went wrong.
    pub cause: CallError,
}

pub(super) async fn publish<S>(client: &Client, messages: S) -> Result<BulkPublished, BulkError>
where
    S: Stream<Item = Message> + Send + 'static,
{
    let _ = (client, messages);
    todo!()
}
