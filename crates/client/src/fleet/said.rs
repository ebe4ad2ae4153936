//! The items of a subscriber of either contract, in one form, so that a fleet drives both alike.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio_stream::{Stream, StreamExt as _};

use crate::client::Client;
use crate::continuity::Violation;
use crate::event::{Event, Gap};
use crate::legacy::LegacyItem;
use crate::position::Position;
use crate::subscriber::{BuildError, GoAwayReason, Item, Notice, Outcome, SubscribeError};

pub(super) enum Said {
    Event(Event),
    Data(String),
    Gap(Gap),
    Violation(Violation),
    /// Outcome and position are those of a Welcome.
    Opened(Option<(Outcome, Position)>),
    Current(Position),
    Lost {
        reason: String,
        retry_in: Duration,
    },
    HandingOver {
        cause: GoAwayReason,
    },
    /// A part of what it follows is over; why.
    FilterRefused(String),
    Unsubscribed {
        ok: bool,
    },
    /// Nothing a fleet counts or tells.
    Aside,
}

/// A subscriber and the call that ends it; the call's answer is whether the server agreed.
pub(super) struct Driven {
    pub(super) items: Pin<Box<dyn Stream<Item = Result<Said, SubscribeError>> + Send>>,
    pub(super) unsubscribe: Pin<Box<dyn Future<Output = bool> + Send>>,
}

pub(super) fn v1(client: &Client, id: String, filters: Vec<String>) -> Result<Driven, BuildError> {
    let subscriber = client.subscriber(id).filters(filters).build()?;
    let handle = subscriber.handle();
    Ok(Driven {
        items: Box::pin(subscriber.map(|item| item.map(Said::from))),
        unsubscribe: Box::pin(async move { handle.unsubscribe().await.is_ok() }),
    })
}

pub(super) fn protos(client: &Client, id: i32) -> Driven {
    let subscriber = client.legacy_subscriber(id).build();
    let handle = subscriber.handle();
    Driven {
        items: Box::pin(subscriber.map(|item| item.map(Said::from))),
        unsubscribe: Box::pin(async move { handle.unsubscribe().await.is_ok() }),
    }
}

impl From<Item> for Said {
    fn from(item: Item) -> Self {
        match item {
            Item::Event(event) => Self::Event(event),
            Item::Gap(gap) => Self::Gap(gap),
            Item::Violation(violation) => Self::Violation(violation),
            Item::Notice(notice) => Self::from(notice),
        }
    }
}

impl From<Notice> for Said {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Connected {
                outcome, position, ..
            } => Self::Opened(Some((outcome, position))),
            Notice::Current { position } => Self::Current(position),
            Notice::Disconnected { reason, retry_in } => Self::Lost {
                reason: reason.to_string(),
                retry_in,
            },
            Notice::HandingOver { reason, .. } => Self::HandingOver { cause: reason },
            Notice::FilterRefused { .. } => Self::FilterRefused(notice.to_string()),
            Notice::Unsubscribed { ok } => Self::Unsubscribed { ok },
            Notice::Progress { .. } | Notice::CredentialExpires { .. } => Self::Aside,
        }
    }
}

impl From<LegacyItem> for Said {
    fn from(item: LegacyItem) -> Self {
        match item {
            LegacyItem::Data(data) => Self::Data(data),
            LegacyItem::Connected { .. } => Self::Opened(None),
            LegacyItem::Disconnected { reason, retry_in } => Self::Lost {
                reason: reason.to_string(),
                retry_in,
            },
            LegacyItem::Unsubscribed { ok } => Self::Unsubscribed { ok },
        }
    }
}
