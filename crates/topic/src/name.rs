//! The name of one topic.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::{
    filter::TopicFilter,
    grammar::{INBOX, SYS, TopicError, check, check_token},
};

/// The name of one topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(pub(crate) Arc<str>);

impl TopicName {
    /// Checks the grammar. `$sys` topics are names too; whether a caller may publish to them is its matter.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text, false)?;
        Ok(Self(text.into()))
    }

    /// The inbox of a subscriber; `None` when the id is not one token, and so has no inbox.
    pub fn inbox(subscriber_id: &str) -> Option<Self> {
        check_token(subscriber_id, 1).ok()?;
        Some(Self([INBOX, ".", subscriber_id].concat().into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are clones of one name; equal names may be none.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The filter that matches this topic alone.
    pub fn to_filter(&self) -> TopicFilter {
        TopicFilter(Arc::clone(&self.0))
    }

    /// Whether it begins as an inbox does and is the inbox of nobody: an id that is one token has one.
    pub fn is_nobodys_inbox(&self) -> bool {
        let rest = self.0.strip_prefix(INBOX);
        rest.is_some_and(|rest| match rest.strip_prefix('.') {
            Some(id) => id.contains('.'),
            None => rest.is_empty(),
        })
    }

    /// Whether only the server may publish to it.
    pub fn is_sys(&self) -> bool {
        let rest = self.0.strip_prefix(SYS);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
