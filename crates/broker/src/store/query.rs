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

/// A range in which matching events were lost to damage, and in which no matching event is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Exclusive.
    pub after: Sequence,
    /// Inclusive.
    pub through: Sequence,
    /// How many matching events; 0 = unknown, and then maybe none.
    pub events: u64,
}

/// The answer: matching events in rising order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Retention removed events up to here of some matching topic; 0 when it removed nothing that was asked for.
    pub trimmed_through: Sequence,
    /// What the store cannot give back although retention has not removed it, rising.
    pub damaged: VecDeque<Damaged>,
    /// What there is.
    pub slices: VecDeque<Slice>,
    /// Every matching event that is kept, after the query's `after` and up to here, is in the page.
    pub through: Sequence,
}

impl Page {
    /// Bytes of the batches that its events are a part of.
    pub(crate) fn held_bytes(&self) -> usize {
        self.slices.iter().map(Slice::held_bytes).sum()
    }

    /// The damage that comes before every event of the page, for a reader that stands at `position`.
    pub(crate) fn next_damaged(&mut self, position: Sequence) -> Option<Damaged> {
        // A gap that was announced for another reason may have covered it.
        while self.damaged.front()?.through <= position {
            self.damaged.pop_front();
        }
        let damaged = *self.damaged.front()?;
        let first = self.slices.front().map(Slice::first);
        first
            .is_none_or(|first| damaged.through < first)
            .then_some(damaged)
    }
}
