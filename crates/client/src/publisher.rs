//! Sending: one message and its answer, many in flight, or a whole file with one answer.
//!
//! Holds: nothing is sent twice unless the server cannot have stored the first, or the message carries an id
//! by which the server recognises it. Where neither holds, the error says that the outcome is unknown.

mod bulk;
mod message;
mod pipeline;
mod single;

use tokio_stream::Stream;

use std::time::Duration;

pub use self::bulk::{BulkError, BulkPublished};
pub use self::message::{Durability, Message, Published};
pub use self::single::PublishError;
use crate::client::Client;

/// Publishes to one server; see [`Client::publisher`]. Cheap to clone.
///
/// ```no_run
/// use longlived_client::{Client, Message};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = Client::new("http://127.0.0.1:7070")?.publisher();
/// let message = Message::new("orders.eu", "42 boxes").message_id("order-17");
/// let published = publisher.publish(message).await?;
/// println!("stored at {} ({:?})", published.position, published.durability);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Publisher {
    client: Client,
    timeout: Duration,
}

impl Publisher {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            timeout: Duration::from_secs(30),
        }
    }

    /// How long one message may take with all its attempts, 30 s unless told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Publishes one message and waits until it is as durable as the answer says.
    pub async fn publish(&self, message: impl Into<Message>) -> Result<Published, PublishError> {
        single::publish(&self.client, message.into(), self.timeout).await
    }

    /// Publishes many messages with up to `in_flight` unanswered, and yields their answers in order. The
    /// stream is driven by reading it; an error is its last item.
    pub fn publish_stream<S>(
        &self,
        messages: S,
        in_flight: usize,
    ) -> impl Stream<Item = Result<Published, PublishError>> + Send + use<S>
    where
        S: Stream<Item = Message> + Send + 'static,
    {
        pipeline::publish_stream(
            self.client.clone(),
            messages,
            in_flight.max(1),
            self.timeout,
        )
    }

    /// Publishes many messages with one answer at the end. Never retried: without answers nobody knows where
    /// to go on, but [`BulkError::published`] says how many were stored when the server could tell.
    pub async fn bulk<S>(&self, messages: S) -> Result<BulkPublished, BulkError>
    where
        S: Stream<Item = Message> + Send + 'static,
    {
        bulk::publish(&self.client, messages).await
    }
}
