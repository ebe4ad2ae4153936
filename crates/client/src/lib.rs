//! Client library of longlived: subscriptions that outlive connections and servers.
//!
//! - [`Client`]: one server, its connections, credential and identity.
//! - [`Subscriber`]: a `Stream` of events with positions. It comes back by itself, resumes after the last
//!   event, and proves that nothing is missing, or announces it.
//! - [`Publisher`]: one message, many in flight, or a whole file.
//!
//! Features, none of them on by default:
//!
//! - `inspect`: looks at topics, history and positions without subscribing, and asks for the server's health.
//! - `legacy`: the frozen contract `protos.Longlived`.
//! - `fleet`: many subscribers and a verdict, as `longlived simulate` runs them.
//! - `record`: tells each publish and each response of each stream.
//!
//! Time is tokio's and randomness can be seeded ([`ClientBuilder::seed`]), so that tests can replay a run.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod address;
#[cfg_attr(
    not(feature = "fleet"),
    allow(unreachable_pub, reason = "it is public with the feature")
)]
mod backoff;
mod client;
mod codec;
mod connector;
mod continuity;
mod credential;
mod event;
#[cfg(feature = "fleet")]
pub mod fleet;
mod goaway;
#[cfg(feature = "inspect")]
mod health;
#[cfg(feature = "legacy")]
pub mod legacy;
mod pool;
mod position;
mod preface;
mod publisher;
#[cfg(feature = "record")]
pub mod record;
#[cfg(not(feature = "record"))]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "without the feature nothing is recorded"
)]
mod record;
mod subscriber;
mod target;
#[cfg(feature = "fleet")]
mod tasks;
mod tls;
mod token;
#[cfg(feature = "inspect")]
mod topics;
mod unary;
mod wire;

#[cfg(feature = "fleet")]
pub use self::backoff::Backoff;
pub use self::backoff::BackoffOptions;
pub use self::client::{Client, ClientBuilder, Compression, UrlError};
pub use self::continuity::Violation;
pub use self::credential::CredentialError;
pub use self::event::{Event, Gap, GapReason};
#[cfg(feature = "inspect")]
pub use self::health::Health;
pub use self::position::{ParsePositionError, Position};
pub use self::publisher::{
    BulkError, BulkPublished, Durability, Message, PublishError, Published, Publisher,
};
pub use self::subscriber::{
    BuildError, GapPolicy, GoAwayReason, Item, Lost, Notice, Outcome, Refusal, SlowPolicy,
    SubscribeError, Subscriber, SubscriberBuilder, SubscriberHandle, UnsubscribeError,
};
pub use self::tls::{TlsError, TlsOptions};
pub use self::token::{Token, TokenError};
#[cfg(feature = "inspect")]
pub use self::topics::{
    HistoryEntry, HistoryPage, HistoryQuery, PositionCheck, TopicInfo, TopicsError, TopicsPage,
    TopicsQuery,
};
pub use self::unary::CallError;

/// The example of the README is compiled with the tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
