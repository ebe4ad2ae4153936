//! How two filters overlap: all names of one, some names, or none.
//!
//! Holds: the answer is about names of 1 to [`TOKENS_MAX`] tokens, and agrees with [`TopicFilter::matches`]. One walk
//! over the tokens of both filters finds it:
//! - Every filter matches some name, since it has at most [`TOKENS_MAX`] tokens itself. So a filter that is within
//!   another has a name in common with it.
//! - `*` is within no literal token: more tokens fit into 64 bytes than a filter names.
//! - `>` is within `*` at the last place that a name can have, and nowhere else.

use crate::{
    filter::TopicFilter,
    grammar::{TOKENS_MAX, is_reserved, is_wildcard},
};

/// The relation of one filter's names to another filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It matches all of them.
    Within,
    /// It matches some of them.
    Overlapping,
    /// It matches none of them.
    Disjoint,
}

/// The relation of the names of `inner` to `outer`.
pub(crate) fn relation(inner: &TopicFilter, outer: &TopicFilter) -> Relation {
    let mut relation = Relation::Within;
    let (mut inner, mut outer) = (inner.tokens(), outer.tokens());
    for place in 1.. {
        let (token, other) = match (inner.next(), outer.next()) {
            (Some(token), Some(other)) => (token, other),
            (None, None) => break,
            // A name has as many tokens as a filter without `>`.
            _ => return Relation::Disjoint,
        };
        if place == 1 && (is_hidden(token, other) || is_hidden(other, token)) {
            return Relation::Disjoint;
        }
        match (token, other) {
            // The rest of the inner filter is one token or more.
            (_, ">") => break,
            // The rest of the outer filter can be matched, but other names can be longer or differ.
            (">", "*") if place == TOKENS_MAX => break,
            (">", _) => return Relation::Overlapping,
            (_, "*") => {}
            ("*", _) => relation = Relation::Overlapping,
            _ if token == other => {}
            _ => return Relation::Disjoint,
        }
    }
    relation
}

/// Whether the first token of one filter hides a name from a filter that begins with `wildcard`.
fn is_hidden(token: &str, wildcard: &str) -> bool {
    is_wildcard(wildcard) && is_reserved(token)
}

#[cfg(test)]
mod tests;
