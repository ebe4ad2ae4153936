//! Topic names and topic filters: their grammar, when a filter matches a name, and what two filters have in common.
//!
//! A name is 1 to 16 tokens of `[A-Za-z0-9_-]{1,64}` joined by dots; the first may also be `$sys`. A filter
//! may use `*` for exactly one token and, as its last token, `>` for one or more. A filter that begins with
//! a wildcard matches neither `inbox` nor `$sys` topics, so that "everything" never means other people's
//! inboxes.
//!
//! Does not: know messages, subscribers or grants.

mod filter;
mod grammar;
mod name;
mod relation;

pub use filter::TopicFilter;
pub use grammar::{INBOX, SYS, TOKEN_BYTES_MAX, TOKENS_MAX, TopicError, is_reserved, is_token};
pub use name::TopicName;

#[cfg(test)]
mod tests;
