//! A subscription of the frozen contract `protos.Longlived`: it reconnects and backs off like the other one.
//!
//! Does not: prove anything. This contract carries neither positions nor gaps, so nobody can know whether
//! something was missed or came twice.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_stream::Stream;

use crate::client::Client;
use crate::subscriber::{Lost, SubscribeError, UnsubscribeError};

/// What a [`LegacySubscriber`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyItem {
    /// One response.
    Data(String),
    /// A stream was opened; above 1 it has resubscribed. This contract has no Welcome: it shows when the
    /// response headers have come.
    Connected {
        /// Counts the streams this subscriber has opened.
        streams: u64,
    },
    /// The stream is lost; the subscriber comes back by itself. What is published meanwhile may be missed.
    Disconnected {
        /// Why.
        reason: Lost,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The stream ended with OK, which in this contract only Unsubscribe does, or it was lost after
    /// Unsubscribe was called. Nothing follows.
    Unsubscribed {
        /// The stream ended with OK.
        ok: bool,
    },
}

/// A legacy subscription to be opened; see [`Client::legacy_subscriber`].
#[derive(Clone, Debug)]
#[must_use]
pub struct LegacyBuilder {
    client: Client,
    id: i32,
}

impl LegacyBuilder {
    pub(crate) fn new(client: Client, id: i32) -> Self {
        Self { client, id }
    }

    /// The subscriber. It opens its stream when it is first read, and keeps trying while there is no server.
    pub fn build(self) -> LegacySubscriber {
        let _ = (self.client, self.id);
        todo!()
    }
}

/// A subscription of the frozen contract.
#[must_use = "a subscriber does nothing until it is read"]
pub struct LegacySubscriber {
    items: Pin<Box<dyn Stream<Item = Result<LegacyItem, SubscribeError>> + Send>>,
    handle: LegacyHandle,
}

impl LegacySubscriber {
    /// Ends the subscription from elsewhere while this side goes on reading.
    pub fn handle(&self) -> LegacyHandle {
        self.handle.clone()
    }
}

impl Stream for LegacySubscriber {
    type Item = Result<LegacyItem, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LegacySubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacySubscriber").finish_non_exhaustive()
    }
}

/// The way to end a [`LegacySubscriber`] while somebody else reads it.
#[derive(Clone, Debug)]
pub struct LegacyHandle {
    client: Client,
    id: i32,
    leaving: Arc<tokio_util::sync::CancellationToken>,
}

impl LegacyHandle {
    /// Calls Unsubscribe; the subscriber must be read on to see the OK of its stream.
    pub async fn unsubscribe(&self) -> Result<(), UnsubscribeError> {
        let _ = (&self.client, self.id, &self.leaving);
        todo!()
    }
}
