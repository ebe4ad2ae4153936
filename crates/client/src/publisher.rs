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
/// ```
/// use longlived_client::{Client, Message};
/// use tokio_stream::StreamExt as _;
///
/// # use longlived_server::{Config, Environment, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = Config { listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..Config::default() };
/// # let server = Server::bind(config, Environment::system()).await?;
/// # let url = format!("http://{}", server.local_addr());
/// # tokio::spawn(server.run(std::future::pending()));
/// let publisher = Client::new(url)?.publisher();
/// let message = Message::new("orders.eu", "42 boxes").message_id("order-17");
/// let published = publisher.publish(message.clone()).await?;
/// println!("stored at {} ({})", published.position, published.durability);
///
/// // With an id a message is stored once, however often it is sent.
/// assert!(publisher.publish(message).await?.duplicate);
///
/// // Many at once: up to 64 unanswered, answers in order.
/// let lines = tokio_stream::iter(["one", "two", "three"]).map(|line| Message::new("lines", line));
/// let mut answers = publisher.publish_stream(lines, 64);
/// while let Some(answer) = answers.next().await {
///     println!("stored at {}", answer?.position);
/// }
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
    /// stream is driven by reading it; an error is its last item, and after the end it yields `None`.
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

    /// Publishes many messages with one answer at the end. Never retried: without answers it is not known where to go
    /// on, but [`BulkError::published`] says how many were stored when the server could tell.
    pub async fn bulk<S>(&self, messages: S) -> Result<BulkPublished, BulkError>
    where
        S: Stream<Item = Message> + Send + 'static,
    {
        bulk::publish(&self.client, messages).await
    }
}
