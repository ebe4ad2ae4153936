//! How two filters overlap: all names of one, some names, or none.
//!
//! Holds: the answer is about names of 1 to [`TOKENS_MAX`] tokens, and agrees with [`TopicFilter::matches`]. One walk over both filters
//! finds it, which passes over what their texts have in common in words of the machine: grants ask it for each of their rules.
//! - Where the texts differ and no wildcard stands at that place, a token or the number of tokens differs.
//! - A wildcard is a whole token, so where it differs from the other text, a token begins in both.
//! - Every filter matches some name, since it has at most [`TOKENS_MAX`] tokens itself. So a filter that is within
//!   another has a name in common with it.
//! - `*` is within no literal token: more tokens fit into 64 bytes than a filter names.
//! - `>` is within `*` at the last place that a name can have, and nowhere else.

use crate::{
    filter::TopicFilter,
    grammar::{TOKENS_MAX, is_reserved},
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
    let (inner, outer) = (inner.as_str().as_bytes(), outer.as_str().as_bytes());
    let mut relation = Relation::Within;
    let (mut rest, mut other) = (inner, outer);
    loop {
        let same = common(rest, other);
        (rest, other) = (&rest[same..], &other[same..]);
        match (rest, other) {
            ([], []) => return relation,
            ([b'*' | b'>', ..], [_, ..]) | ([_, ..], [b'*' | b'>', ..]) => {}
            _ => return Relation::Disjoint,
        }
        let is_first = rest.len() == inner.len();
        let ((token, after), (other_token, other_after)) = (first_of(rest), first_of(other));
        if is_first && (is_hidden(token) || is_hidden(other_token)) {
            return Relation::Disjoint;
        }
        match (token, other_token) {
            // The rest of the inner filter is one token or more.
            (_, b">") => return relation,
            // The rest of the outer filter can be matched, but other names can be longer or differ.
            (b">", b"*") if is_last_place(inner, rest) => return relation,
            (b">", _) => return Relation::Overlapping,
            (_, b"*") => {}
            _ => relation = Relation::Overlapping,
        }
        (rest, other) = match (after, other_after) {
            ([], []) => return relation,
            ([_, after @ ..], [_, other_after @ ..]) => (after, other_after),
            // A name has as many tokens as a filter without `>`.
            _ => return Relation::Disjoint,
        };
    }
}

/// The first token, and what stands behind it, with its dot.
fn first_of(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'.');
    text.split_at(end.unwrap_or(text.len()))
}

/// Whether a name that begins so is hidden from a wildcard, which the other filter begins with.
fn is_hidden(token: &[u8]) -> bool {
    str::from_utf8(token).is_ok_and(is_reserved)
}

/// Whether `rest` is the last token that a name can have.
fn is_last_place(filter: &[u8], rest: &[u8]) -> bool {
    let before = &filter[..filter.len() - rest.len()];
    before.split(|byte| *byte == b'.').count() == TOKENS_MAX
}

/// How many bytes two texts have in common at their beginning.
fn common(one: &[u8], other: &[u8]) -> usize {
    let len = one.len().min(other.len());
    let (one, other) = (&one[..len], &other[..len]);
    let mut at = 0;
    while let (Some(word), Some(other_word)) = (one[at..].first_chunk(), other[at..].first_chunk())
    {
        if let Some(differing) = differing(*word, *other_word) {
            return at + differing;
        }
        at += WORD;
    }
    // The last word begins within the one before it.
    if let (Some(word), Some(other_word)) = (one.last_chunk(), other.last_chunk()) {
        return differing(*word, *other_word).map_or(len, |differing| len - WORD + differing);
    }
    let mut pairs = one.iter().zip(other);
    pairs.position(|(one, other)| one != other).unwrap_or(len)
}

/// Bytes that are compared at once.
const WORD: usize = size_of::<u64>();

/// The first byte in which two words differ.
fn differing(one: [u8; WORD], other: [u8; WORD]) -> Option<usize> {
    let bits = u64::from_le_bytes(one) ^ u64::from_le_bytes(other);
    (bits != 0).then(|| (bits.trailing_zeros() / u8::BITS) as usize)
}

#[cfg(test)]
mod tests;
