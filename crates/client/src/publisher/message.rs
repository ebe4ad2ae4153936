//! A message to publish, and the server's answer.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use longlived_api::v1;

use crate::position::Position;

/// A message to publish.
///
/// ```
/// use longlived_client::Message;
///
/// let message = Message::new("orders.eu", "42 boxes")
///     .key("order-17")
///     .header("content-type", "text/plain")
///     .message_id("order-17-created");
/// assert_eq!(message.topic, "orders.eu");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The topic: a name without wildcards.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The thing it is about; empty for none.
    pub key: String,
    /// Handed to subscribers as they are.
    pub headers: BTreeMap<String, String>,
    /// Stored once however often it is sent; empty for none. With it an attempt whose outcome is unknown is
    /// repeated.
    pub message_id: String,
    /// The thing that `key` names is gone.
    pub deleted: bool,
}

impl Message {
    /// A message with nothing but its topic and payload.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Names the thing it is about.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Makes repeated attempts safe: the server stores one message of this id.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.message_id = id.into();
        self
    }

    /// Says that the thing its key names is gone.
    pub fn deleted(mut self) -> Self {
        self.deleted = true;
        self
    }
}

impl<T: Into<String>, P: Into<Bytes>> From<(T, P)> for Message {
    fn from((topic, payload): (T, P)) -> Self {
        Self::new(topic, payload)
    }
}

impl From<Message> for v1::PublishRequest {
    fn from(message: Message) -> Self {
        Self {
            topic: message.topic,
            payload: message.payload,
            key: message.key,
            headers: message.headers,
            message_id: message.message_id,
            deleted: message.deleted,
        }
    }
}

/// The crash that the message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Not said by the server.
    Unknown,
    /// A crash of the server process loses it.
    Memory,
    /// Synced to the server's disk.
    Disk,
    /// Acknowledged by the cluster's log.
    Replicated,
}

impl Durability {
    pub(crate) fn from_wire(durability: i32) -> Self {
        match v1::Durability::try_from(durability) {
            Ok(v1::Durability::Memory) => Self::Memory,
            Ok(v1::Durability::Disk) => Self::Disk,
            Ok(v1::Durability::Replicated) => Self::Replicated,
            Ok(v1::Durability::Unspecified) | Err(_) => Self::Unknown,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Replicated => "replicated",
        })
    }
}

/// The answer to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its place in the log.
    pub position: Position,
    /// The crash that the message survives.
    pub durability: Durability,
    /// Its message id was seen before; the position is that of the first.
    pub duplicate: bool,
}

impl Published {
    /// `None` when the answer names no position.
    pub(crate) fn from_wire(answer: v1::PublishResponse) -> Option<Self> {
        Some(Self {
            position: answer.position?.into(),
            durability: Durability::from_wire(answer.durability),
            duplicate: answer.duplicate,
        })
    }
}
