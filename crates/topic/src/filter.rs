//! A pattern over topic names.

use std::{fmt, sync::Arc};

use crate::{
    grammar::{
        INBOX, SYS, TOKENS_MAX, TopicError, check, check_token, first_token, is_reserved,
        is_wildcard,
    },
    name::TopicName,
    relation::{Relation, relation},
};

/// A pattern over topic names. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(pub(crate) Arc<str>);

impl TopicFilter {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text, true)?;
        Ok(Self(text.into()))
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens, first to last.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// The one topic a filter without wildcards matches.
    pub fn literal(&self) -> Option<TopicName> {
        (!self.has_wildcard()).then(|| TopicName(Arc::clone(&self.0)))
    }

    /// Whether it can match more than one topic.
    pub fn has_wildcard(&self) -> bool {
        self.0.ends_with('>') || self.tokens().any(|token| token == "*")
    }

    /// The text before the first wildcard. Every matching name begins with it.
    pub fn literal_prefix(&self) -> &str {
        let wildcard = self
            .0
            .split_inclusive('.')
            .scan(0, |at, part| {
                let begin = *at;
                *at += part.len();
                Some((begin, part))
            })
            .find(|(_, part)| is_wildcard(part.trim_end_matches('.')));
        wildcard.map_or(&self.0, |(begin, _)| &self.0[..begin])
    }

    /// Whether a topic is meant.
    pub fn matches(&self, topic: &str) -> bool {
        let mut names = topic.split('.');
        for (index, token) in self.tokens().enumerate() {
            let Some(name) = names.next() else {
                return false;
            };
            if index == 0 && is_wildcard(token) && is_reserved(name) {
                return false;
            }
            match token {
                ">" => return true,
                "*" => {}
                _ if token == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// Whether `outer` matches every name that this filter matches.
    pub fn is_within(&self, outer: &Self) -> bool {
        relation(self, outer) == Relation::Within
    }

    /// Whether no name is matched by both filters.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        relation(self, other) == Relation::Disjoint
    }

    /// The filter of the names that both filters match; `None` if there is none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.is_disjoint(other) {
            return None;
        }
        let (mut tokens, mut others) = (self.tokens(), other.tokens());
        let mut common = Vec::with_capacity(TOKENS_MAX);
        while let (Some(token), Some(other)) = (tokens.next(), others.next()) {
            match (token, other) {
                (">", rest) => {
                    common.push(rest);
                    common.extend(others);
                    break;
                }
                (rest, ">") => {
                    common.push(rest);
                    common.extend(tokens);
                    break;
                }
                ("*", literal) | (literal, _) => common.push(literal),
            }
        }
        Some(Self(common.join(".").into()))
    }

    /// Stretches of the names in order, from inclusive to exclusive, outside of which nothing matches.
    pub fn stretches(&self) -> Vec<(String, Option<String>)> {
        // '/' is what comes after '.': the end of everything below a token.
        let end = |begin: &str| format!("{}/", begin.trim_end_matches('.'));
        match self.literal_prefix() {
            // A leading wildcard would go over most of all topics.
            "" => vec![
                (String::new(), Some(format!("{SYS}."))),
                (end(SYS), Some(format!("{INBOX}."))),
                (end(INBOX), None),
            ],
            prefix if self.has_wildcard() => vec![(prefix.to_owned(), Some(end(prefix)))],
            // '-' is the first character of the grammar: the end of the one name.
            name => vec![(name.to_owned(), Some(format!("{name}-")))],
        }
    }

    /// Whether it is the inbox of this subscriber, as [`TopicName::inbox`](crate::TopicName::inbox) names it.
    pub fn is_inbox_of(&self, subscriber_id: &str) -> bool {
        let rest = self.0.strip_prefix(INBOX);
        let id = rest.and_then(|rest| rest.strip_prefix('.'));
        id == Some(subscriber_id) && check_token(subscriber_id, 1).is_ok()
    }

    /// Whether the filter begins with the token `inbox`.
    pub fn is_inbox(&self) -> bool {
        first_token(&self.0) == INBOX
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
