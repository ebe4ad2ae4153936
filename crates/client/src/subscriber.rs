//! A subscription that outlives its connections: a stream of items that reconnects, resumes and announces missing
//! events.
//!
//! Holds: events come in log order, each once; missing events are a [`Gap`], a broken promise is a [`Violation`], and
//! an error is always the last item.
//! Does not: run while it is not polled. An application that stops reading stops its server from sending;
//! nothing piles up here. No task is spawned, and dropping the subscriber cancels its stream.

mod builder;
mod ending;
mod engine;
mod handle;
mod notice;
mod stream;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

pub use self::builder::{BuildError, GapPolicy, SlowPolicy, SubscriberBuilder};
#[cfg(feature = "legacy")]
pub(crate) use self::ending::{End, Known, Next, judge};
pub use self::ending::{Lost, Refusal, SubscribeError};
pub use self::handle::{SubscriberHandle, UnsubscribeError};
pub use self::notice::{GoAwayReason, Notice, Outcome};
use crate::continuity::Violation;
use crate::event::{Event, Gap};
use crate::position::Position;

/// An item of a [`Subscriber`].
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A message.
    Event(Event),
    /// Messages that matched and will not come.
    Gap(Gap),
    /// The proof of continuity failed. The subscription goes on; continuity no longer holds for the topic named.
    Violation(Violation),
    /// News of the stream underneath.
    Notice(Notice),
}

/// A subscription; see [`Client::subscriber`](crate::Client::subscriber).
///
/// ```
/// use longlived_client::{Client, Item, Subscriber};
/// use tokio_stream::StreamExt as _;
///
/// async fn next_payload(orders: &mut Subscriber) -> Result<String, Box<dyn std::error::Error>> {
///     while let Some(item) = orders.next().await {
///         match item? {
///             Item::Event(event) => return Ok(String::from_utf8(event.payload.to_vec())?),
///             Item::Gap(gap) => eprintln!("missing: {gap}"),
///             Item::Violation(violation) => eprintln!("broken promise: {violation}"),
///             Item::Notice(notice) => eprintln!("{notice}"),
///         }
///     }
///     Err("unsubscribed".into())
/// }
///
/// # use longlived_server::{Config, Environment, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = Config { listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..Config::default() };
/// # let server = Server::bind(config, Environment::system()).await?;
/// # let url = format!("http://{}", server.local_addr());
/// # tokio::spawn(server.run(std::future::pending()));
/// let client = Client::new(url)?;
/// client.publisher().publish(("orders.eu", "first")).await?;
/// client.publisher().publish(("orders.us", "second")).await?;
///
/// let mut orders = client.subscriber("billing-1").filter("orders.*").earliest().build()?;
/// assert_eq!(next_payload(&mut orders).await?, "first");
/// let position = orders.position().expect("an event has come");
/// drop(orders);
///
/// // Another run of the program goes on after what the first has processed.
/// let mut orders = client.subscriber("billing-1").filter("orders.*").resume_after(position).build()?;
/// assert_eq!(next_payload(&mut orders).await?, "second");
/// orders.unsubscribe().await?;
/// # Ok(())
/// # }
/// ```
///
/// To continue in another run of the program, save [`position`](Self::position) after processing the item and hand it
/// to [`SubscriberBuilder::resume_after`]. After its end a subscriber may be read on, and yields `None`.
#[must_use = "a subscriber does nothing until it is read"]
pub struct Subscriber {
    items: Pin<Box<dyn Stream<Item = Result<Item, SubscribeError>> + Send>>,
    handle: SubscriberHandle,
}

impl Subscriber {
    /// The id it subscribes under.
    pub fn id(&self) -> &str {
        self.handle.id()
    }

    /// Where the application stands: everything up to here that matches was handed out, or announced as a
    /// gap. `None` until the server has named a position.
    pub fn position(&self) -> Option<Position> {
        self.handle.position()
    }

    /// Ends the subscription from elsewhere while this side goes on reading.
    pub fn handle(&self) -> SubscriberHandle {
        self.handle.clone()
    }

    /// Ends the subscription on the server and waits until its stream ended with OK. Events that still arrive are
    /// dropped; to receive it too, call [`SubscriberHandle::unsubscribe`] and read on.
    pub async fn unsubscribe(mut self) -> Result<Option<Position>, UnsubscribeError> {
        handle::unsubscribe_and_drain(&mut self).await
    }
}

impl Stream for Subscriber {
    type Item = Result<Item, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("id", &self.id())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
