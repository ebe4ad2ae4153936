//! Topic names and topic filters: their grammar, and when a filter matches a name.
//!
//! A name is 1 to 16 tokens of `[A-Za-z0-9_-]{1,64}` joined by dots; the first may also be `$sys`. A filter
//! may use `*` for exactly one token and, as its last token, `>` for one or more. A filter that begins with
//! a wildcard matches neither `inbox` nor `$sys` topics, so that "everything" never means other people's
//! inboxes.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The most tokens in a name or filter.
pub const TOKENS_MAX: usize = 16;
/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64;
/// First token of topics that only the server publishes to.
pub const SYS: &str = "$sys";
/// First token of the topics that belong to one subscriber each.
pub const INBOX: &str = "inbox";

/// Why a text is no topic name or filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("is empty; it needs 1 to {TOKENS_MAX} tokens joined by dots")]
    Empty,
    /// More tokens than allowed.
    #[error("has {0} tokens; at most {TOKENS_MAX} are allowed")]
    TooManyTokens(usize),
    /// Two dots in a row, or a dot at an end.
    #[error("has an empty token (number {0}); each token has 1 to {TOKEN_BYTES_MAX} characters")]
    EmptyToken(usize),
    /// One token is too long.
    #[error("has a token of {0} bytes; at most {TOKEN_BYTES_MAX} are allowed")]
    TokenTooLong(usize),
    /// A character outside the allowed set.
    #[error("holds the character {0:?}; tokens are made of A-Z a-z 0-9 _ -")]
    Character(char),
    /// A wildcard in a name that must not have one.
    #[error("holds the wildcard `{0}`; a topic name has none")]
    Wildcard(char),
    /// `>` before the end.
    #[error("has `>` before its last token; `>` stands last only")]
    RestNotLast,
}

/// The name of one topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks the grammar. `$sys` topics are names too; whether a caller may publish to them is its matter.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text, false)?;
        Ok(Self(text.into()))
    }

    /// The inbox of a subscriber; `None` when the id is not one token, and so has no inbox.
    pub fn inbox(subscriber_id: &str) -> Option<Self> {
        check_token(subscriber_id, 1).ok()?;
        Some(Self(format!("{INBOX}.{subscriber_id}").into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both are clones of one name; equal names may be none.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The filter that matches this topic alone.
    pub fn to_filter(&self) -> TopicFilter {
        TopicFilter(self.0.clone())
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

/// A pattern over topic names. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

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
        (!self.has_wildcard()).then(|| TopicName(self.0.clone()))
    }

    /// Whether it can match more than one topic.
    pub fn has_wildcard(&self) -> bool {
        self.0.ends_with('>') || self.tokens().any(|token| token == "*")
    }

    /// What every matching name begins with: the text before the first wildcard.
    pub fn literal_prefix(&self) -> &str {
        let wildcard = self
            .0
            .split_inclusive('.')
            .scan(0, |at, part| {
                let begin = *at;
                *at += part.len();
                Some((begin, part))
            })
            .find(|(_, part)| matches!(part.trim_end_matches('.'), "*" | ">"));
        wildcard.map_or(&self.0, |(begin, _)| &self.0[..begin])
    }

    /// Whether a topic is meant.
    pub fn matches(&self, topic: &str) -> bool {
        let mut names = topic.split('.');
        for (index, token) in self.tokens().enumerate() {
            let Some(name) = names.next() else {
                return false;
            };
            let wildcard = matches!(token, "*" | ">");
            if index == 0 && wildcard && is_reserved(name) {
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

    /// Stretches of the names in order, from inclusive to exclusive, outside of which nothing matches.
    pub fn stretches(&self) -> Vec<(String, Option<String>)> {
        // '/' is what comes after '.': the end of everything below a token.
        let end = |begin: &str| format!("{}/", begin.trim_end_matches('.'));
        match self.literal_prefix() {
            // A leading wildcard passes over what may be most of all topics.
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

    /// Whether the filter begins with the token `inbox`.
    pub fn is_inbox(&self) -> bool {
        first_token(&self.0) == INBOX
    }
}

/// Whether topics that begin with this token are hidden from leading wildcards.
pub fn is_reserved(first_token: &str) -> bool {
    first_token == INBOX || first_token == SYS
}

fn first_token(text: &str) -> &str {
    text.split('.').next().unwrap_or(text)
}

/// Whether it is a name without anything special: most are, and publishing checks many.
fn is_plain(text: &str) -> bool {
    let mut tokens = 1;
    let mut token_bytes = 0;
    for byte in text.bytes() {
        match byte {
            b'.' if token_bytes == 0 => return false,
            b'.' => {
                tokens += 1;
                token_bytes = 0;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => token_bytes += 1,
            _ => return false,
        }
        if token_bytes > TOKEN_BYTES_MAX {
            return false;
        }
    }
    token_bytes > 0 && tokens <= TOKENS_MAX
}

fn check(text: &str, wildcards: bool) -> Result<(), TopicError> {
    if is_plain(text) {
        return Ok(());
    }
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    let tokens = text.split('.').count();
    if tokens > TOKENS_MAX {
        return Err(TopicError::TooManyTokens(tokens));
    }
    for (index, token) in text.split('.').enumerate() {
        match token {
            "*" if wildcards => {}
            ">" if wildcards && index + 1 == tokens => {}
            ">" if wildcards => return Err(TopicError::RestNotLast),
            SYS if index == 0 => {}
            _ => check_token(token, index + 1)?,
        }
    }
    Ok(())
}

fn check_token(token: &str, number: usize) -> Result<(), TopicError> {
    if token.is_empty() {
        return Err(TopicError::EmptyToken(number));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match token.chars().find(|&c| !allowed(c)) {
        Some(c @ ('*' | '>')) if token.len() == 1 => return Err(TopicError::Wildcard(c)),
        Some(c) => return Err(TopicError::Character(c)),
        None => {}
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TopicError::TokenTooLong(token.len()));
    }
    Ok(())
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

#[cfg(test)]
mod tests;
