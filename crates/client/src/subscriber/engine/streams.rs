//! The stream that is read and the one that is to replace it: a wait for the first of their events.

use std::pin::Pin;

use tokio::time::{Instant, sleep_until};

use super::super::stream::{Got, Live, OpenFuture, Opened};
use crate::credential::{Credential, CredentialError};

/// The stream that is read, and the one that is to replace it.
pub(super) struct Streams {
    pub(super) current: Live,
    pub(super) successor: Successor,
}

pub(super) enum Successor {
    None,
    /// A fresh credential to open it with is looked for.
    Asking(Pin<Box<dyn Future<Output = Asked> + Send>>),
    Opening(OpenFuture),
    Open(Box<Live>),
}

/// A fresh credential, if there is one.
pub(super) type Asked = Result<Option<Credential>, CredentialError>;

/// The first happening.
pub(super) enum Step {
    Current(Got),
    Successor(Got),
    Asked(Asked),
    Opened(Box<Opened>),
    /// The turn has come to open the next stream, or to look for a credential for it.
    Turn,
    /// The time of the current stream is over, though it has not ended.
    Overdue,
}

/// Of two streams, the one a response came from.
#[derive(Clone, Copy)]
pub(super) enum Which {
    Current,
    Successor,
}

impl Streams {
    /// Waits for the first happening. Safe to drop while it waits.
    pub(super) async fn step(&mut self) -> Step {
        let departure = self.current.departure;
        match &mut self.successor {
            Successor::None => tokio::select! {
                biased;
                () = sleep_until_set(self.current.turn()) => Step::Turn,
                got = self.current.next() => Step::Current(got),
            },
            Successor::Asking(asking) => tokio::select! {
                biased;
                asked = asking => Step::Asked(asked),
                got = self.current.next() => Step::Current(got),
            },
            Successor::Opening(opening) => tokio::select! {
                biased;
                opened = opening => Step::Opened(Box::new(opened)),
                got = self.current.next() => Step::Current(got),
            },
            // Sequences of two histories cannot be compared: first everything of the old one.
            Successor::Open(next) if next.checker.epoch() != self.current.checker.epoch() => {
                tokio::select! {
                    biased;
                    () = sleep_until_set(departure.and_then(|departure| departure.ends)) => Step::Overdue,
                    got = self.current.next() => Step::Current(got),
                }
            }
            // The new one first: it brings all that the old one does, and ends the time of two.
            Successor::Open(next) => tokio::select! {
                biased;
                () = sleep_until_set(departure.and_then(|departure| departure.ends)) => Step::Overdue,
                got = next.next() => Step::Successor(got),
                got = self.current.next() => Step::Current(got),
            },
        }
    }
}

/// Never when there is no time to wait for.
async fn sleep_until_set(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
