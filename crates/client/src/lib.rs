//! Client library of longlived: subscriptions that outlive connections and servers.
//!
//! - [`Client`]: one server, its connections, credential and identity.
//! - [`Subscriber`]: a `Stream` of events with positions. It comes back by itself, resumes after the last
//!   event, proves that nothing is missing, and says what is.
//! - [`Publisher`]: one message, many in flight, or a whole file.
//! - [`Client::topics`], [`Client::read_history`], [`Client::check_position`]: looking without subscribing.
//! - [`Client::health`]: whether the server serves.
//! - [`legacy`]: the frozen contract `protos.Longlived`.
//! - [`fleet`]: many subscribers and a verdict, as `longlived simulate` runs them.
//!
//! Time is tokio's and randomness can be seeded ([`ClientBuilder::seed`]), so that tests can replay a run.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod address;
mod backoff;
mod client;
mod codec;
mod connector;
mod continuity;
mod credential;
mod event;
pub mod fleet;
mod health;
pub mod legacy;
mod pool;
mod position;
mod preface;
mod publisher;
pub mod record;
mod subscriber;
mod tasks;
mod topics;
mod unary;
mod wire;

pub use self::backoff::{Backoff, BackoffOptions};
pub use self::client::{Client, ClientBuilder, Compression, UrlError};
pub use self::continuity::Violation;
pub use self::credential::CredentialError;
pub use self::event::{Event, Gap, GapReason};
pub use self::health::Health;
pub use self::position::{ParsePositionError, Position};
pub use self::publisher::{
    BulkError, BulkPublished, Durability, Message, PublishError, Published, Publisher,
};
pub use self::subscriber::{
    BuildError, GapPolicy, GoAwayReason, Item, Lost, Notice, Outcome, Refusal, SlowPolicy,
    SubscribeError, Subscriber, SubscriberBuilder, SubscriberHandle, UnsubscribeError,
};
pub use self::topics::{
    HistoryEntry, HistoryPage, HistoryQuery, PositionCheck, TopicInfo, TopicsError, TopicsPage,
    TopicsQuery,
};
pub use self::unary::CallError;

/// The example of the README is compiled with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
