//! What a reader asks of a store, and what it gets.

use std::collections::VecDeque;

use crate::{frame::Slice, position::Sequence, topic::TopicFilter};

/// A filter, and the sequence after which its events are wanted.
#[derive(Clone, Debug)]
pub struct FilterFrom {
    /// The filter.
    pub filter: TopicFilter,
    /// Exclusive.
    pub after: Sequence,
}

/// Asks for the matching events after `after`, through `through`, about `bytes_max` of them.
#[derive(Clone, Debug)]
pub struct Query {
    /// Matching any of these; a filter's own `after` holds where it is higher.
    pub filters: Vec<FilterFrom>,
    /// Exclusive.
    pub after: Sequence,
    /// Inclusive.
    pub through: Sequence,
    /// Soft: a page ends with the event that passes it.
    pub bytes_max: usize,
}

/// The answer: matching events in rising order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Events up to here are gone on some matching topic; 0 when everything asked for is kept.
    pub trimmed_through: Sequence,
    /// What there is.
    pub slices: VecDeque<Slice>,
    /// Every matching event that is kept, after the query's `after` and up to here, is in the page.
    pub through: Sequence,
}
