//! A message of a publisher, before it has a number.

use std::{collections::BTreeMap, hash::Hasher as _, sync::Arc};

use bytes::Bytes;
use longlived_topic::TopicName;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::{
    faults::{Fault, planted},
    frame,
};

/// The identity of a publisher or subscriber; message ids are unique per principal. Without authentication everybody is
/// [`Principal::anonymous`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The one principal of a server without authentication.
    pub fn anonymous() -> Self {
        Self("".into())
    }

    /// The server itself, which publishes too.
    pub fn server() -> Self {
        Self("$server".into())
    }

    /// A principal with a name. `None` for a name that is empty, begins with `$` or holds a zero byte.
    pub fn named(name: &str) -> Option<Self> {
        let is_name = !name.is_empty() && !name.starts_with('$') && !name.contains('\0');
        is_name.then(|| Self(name.into()))
    }

    /// Its name; `None` for [`Principal::anonymous`].
    pub fn name(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&*self.0)
    }
}

/// A message id together with its principal and topic, as a hash under a secret of the history: 128 bits, so that two
/// never meet, and small enough to keep many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(pub u128);

impl MessageKey {
    /// `None` when the message carries no id.
    pub fn of(message: &Message, principal: &Principal, secret: [u64; 2]) -> Option<Self> {
        if message.message_id.is_empty() {
            return None;
        }
        let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
        // Principals and topics hold no zero byte, so the three parts cannot be shifted against each other.
        if !planted(Fault::DedupeAcrossPrincipals) {
            hasher.write(principal.0.as_bytes());
        }
        hasher.write(&[0]);
        hasher.write(message.topic.as_str().as_bytes());
        hasher.write(&[0]);
        hasher.write(message.message_id.as_bytes());
        Some(Self(hasher.finish128().as_u128()))
    }
}

/// A message as published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: TopicName,
    /// The content, opaque.
    pub payload: Bytes,
    /// The key of the message; may be empty.
    pub key: String,
    /// Names and values handed on as they are.
    pub headers: BTreeMap<String, String>,
    /// The thing that `key` names is gone.
    pub deleted: bool,
    /// Stored once per principal and topic within the window; empty = no such promise.
    pub message_id: String,
}

/// Why a message cannot be taken in any state of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The event would be larger than every subscriber is promised.
    #[error("the encoded event has up to {bytes} bytes; the limit event_bytes_max is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// `deleted` says that the thing named by `key` is gone, and no key is given.
    #[error("`deleted` needs a `key`")]
    DeletedWithoutKey,
    /// Only the server publishes there.
    #[error("`topic` begins with $sys, to which only the server publishes")]
    Reserved,
    /// An inbox that no subscriber can follow.
    #[error(
        "`topic` is no inbox that anybody can follow; an inbox is `inbox.<subscriber id>`, two tokens"
    )]
    NoInbox,
    /// The id is longer than the window keeps.
    #[error("`message_id` has {bytes} bytes; the limit is {limit}")]
    MessageIdTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// About the memory of a header beside its text: two strings and its place in the map.
const HEADER_OVERHEAD_BYTES: usize = 100;

/// The longest message id, in bytes: the window keeps each in memory.
pub(crate) const MESSAGE_ID_BYTES_MAX: usize = 256;

impl Message {
    /// A message with a payload and nothing else.
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            key: String::new(),
            headers: BTreeMap::new(),
            deleted: false,
            message_id: String::new(),
        }
    }

    /// Checks everything that does not depend on the log. `event_bytes_max` bounds the whole encoded event.
    pub fn check(&self, event_bytes_max: usize) -> Result<(), MessageError> {
        if self.topic.is_sys() {
            return Err(MessageError::Reserved);
        }
        if self.topic.is_nobodys_inbox() {
            return Err(MessageError::NoInbox);
        }
        if self.deleted && self.key.is_empty() {
            return Err(MessageError::DeletedWithoutKey);
        }
        if self.message_id.len() > MESSAGE_ID_BYTES_MAX {
            return Err(MessageError::MessageIdTooLong {
                bytes: self.message_id.len(),
                limit: MESSAGE_ID_BYTES_MAX,
            });
        }
        let bytes = frame::event_len_max(self);
        if bytes > event_bytes_max {
            return Err(MessageError::TooLarge {
                bytes,
                limit: event_bytes_max,
            });
        }
        Ok(())
    }

    /// About its bytes in the publish queue, its own bookkeeping included.
    pub fn queued_bytes(&self) -> usize {
        let header =
            |(name, value): (&String, &String)| name.len() + value.len() + HEADER_OVERHEAD_BYTES;
        let headers: usize = self.headers.iter().map(header).sum();
        let texts = self.topic.as_str().len() + self.key.len() + self.message_id.len();
        size_of::<Self>() + texts + self.payload.len() + headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_client_is_named_as_the_server_or_anonymous() {
        assert_eq!(Principal::named("ann").unwrap().name(), Some("ann"));
        assert_eq!(Principal::anonymous().name(), None);
        for no_name in ["", "$server", "\0", "ann\0"] {
            assert_eq!(Principal::named(no_name), None, "{no_name:?}");
        }
    }

    #[test]
    fn the_same_id_of_another_principal_or_topic_is_another_one() {
        let key = |principal: &str, topic: &str, id: &str| {
            let message = Message {
                message_id: id.to_owned(),
                ..Message::new(TopicName::parse(topic).unwrap(), "x")
            };
            MessageKey::of(&message, &Principal(principal.into()), [1, 2])
        };
        let one = key("ann", "a", "1");
        assert!(one.is_some());
        assert_eq!(one, key("ann", "a", "1"));
        assert_ne!(one, key("bob", "a", "1"));
        assert_ne!(one, key("ann", "b", "1"));
        assert_ne!(one, key("ann", "a", "2"));
        assert_eq!(key("ann", "a", ""), None, "no id is never the same");
    }
}
