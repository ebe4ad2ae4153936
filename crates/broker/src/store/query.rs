//! The queries of a store, and their answers.

use std::collections::VecDeque;

use longlived_topic::TopicFilter;

use crate::{frame::Slice, position::Sequence};

/// The most entries one page looks at, so that a reader holds the lock for about a millisecond at most.
pub(super) const SCAN_MAX: usize = 16_384;
/// Up to this many matching topics are merged by their own indices at once.
pub(super) const FEW_TOPICS: usize = 8;
/// After this many entries a scan must have met one match in [`PROBE_ONE_IN`], or it gives way.
pub(super) const PROBE: usize = 512;
pub(super) const PROBE_ONE_IN: usize = 16;

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

impl Query {
    /// The filters, each with the place after which its events are wanted of this query.
    pub(super) fn filters_after(&self) -> Vec<FilterFrom> {
        let filters = self.filters.iter();
        let wanted = filters.map(|wanted| FilterFrom {
            filter: wanted.filter.clone(),
            after: wanted.after.max(self.after),
        });
        wanted.collect()
    }
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

/// The matching events after a page's beginning that retention has removed, as far as each is known.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// Where the page begins.
    pub after: Sequence,
    /// Each removed event up to here is known, and none above it. 0 = none is.
    pub known_through: Sequence,
    /// How many lie before the first kept event of the page, or before its end where it has none.
    pub ahead: u64,
    /// The last of those; 0 = there are none.
    pub last_ahead: Sequence,
    /// Those behind the first kept event, rising.
    pub between: Vec<Sequence>,
}

impl Removed {
    /// Those above `after` and up to `through`, where nothing of the page is kept between the two: how many, and the last.
    /// `None` where that is not known.
    pub(crate) fn within(&self, after: Sequence, through: Sequence) -> Option<(u64, Sequence)> {
        if through > self.known_through {
            return None;
        }
        if after == self.after {
            return Some((self.ahead, self.last_ahead));
        }
        let begin = self.between.partition_point(|&it| it <= after);
        let end = self.between.partition_point(|&it| it <= through);
        let inside = &self.between[begin..end.max(begin)];
        Some((inside.len() as u64, inside.last().copied().unwrap_or(0)))
    }

    /// Goes on with a page that begins where the one of these ended without a kept event.
    fn join(self, next: Self, joint: Sequence) -> Self {
        // Of a stretch that is known in parts no number is told: one announcement for all of it.
        let known = self.known_through >= joint;
        Self {
            after: self.after,
            known_through: if known { next.known_through } else { 0 },
            ahead: self.ahead + next.ahead,
            last_ahead: self.last_ahead.max(next.last_ahead),
            between: next.between,
        }
    }
}

/// The answer: matching events in rising order.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Retention removed events up to here of some matching topic; 0 when it removed nothing that was asked for.
    pub trimmed_through: Sequence,
    /// Which those are, where that is known.
    pub removed: Removed,
    /// The events that the store cannot give back although retention has not removed them, rising.
    pub damaged: VecDeque<Damaged>,
    /// The kept events.
    pub slices: VecDeque<Slice>,
    /// Every matching event that is kept, after the query's `after` and up to here, is in the page.
    pub through: Sequence,
}

impl Page {
    /// Whether nothing in it is kept or damaged, and nothing is to be announced to a reader at `position` either.
    pub(crate) fn says_nothing(&self, position: Sequence) -> bool {
        let silent = || {
            let removed = self.removed.within(position, self.through);
            self.trimmed_through <= position || removed.is_some_and(|(count, _)| count == 0)
        };
        self.slices.is_empty() && self.damaged.is_empty() && silent()
    }

    /// Whether retention removed events in it and beyond it, and nothing in it is kept or damaged. Then a gap would end
    /// with the page, and not with the missing events.
    pub(crate) fn ends_in_a_loss(&self, position: Sequence) -> bool {
        self.slices.is_empty()
            && self.damaged.is_empty()
            && self.trimmed_through > self.through
            && !self.says_nothing(position)
    }

    /// Goes on with the page that begins where this one ends, as if both were one. This one has no event.
    pub(crate) fn join(self, next: Self) -> Self {
        Self {
            trimmed_through: self.trimmed_through.max(next.trimmed_through),
            removed: self.removed.join(next.removed, self.through),
            ..next
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn page(after: Sequence, through: Sequence, removed: &[Sequence], known: bool) -> Page {
        Page {
            trimmed_through: 50,
            removed: Removed {
                after,
                known_through: if known { through } else { 0 },
                ahead: removed.len() as u64,
                last_ahead: removed.last().copied().unwrap_or(0),
                between: Vec::new(),
            },
            through,
            ..Page::default()
        }
    }

    #[test]
    fn a_loss_over_several_pages_is_told_as_one_and_counted_where_all_of_it_is_known() {
        let first = page(0, 10, &[2, 9], true);
        assert!(first.ends_in_a_loss(0));
        let both = first.clone().join(page(10, 20, &[11, 12], true));
        assert_eq!(both.removed.within(0, 20), Some((4, 12)));
        let partly = first.join(page(10, 20, &[11, 12], false));
        assert_eq!(partly.removed.within(0, 20), None);
        let partly = page(0, 10, &[], false).join(page(10, 20, &[11, 12], true));
        assert_eq!(partly.removed.within(0, 20), None);
    }

    #[test]
    fn a_page_in_which_nothing_that_was_wanted_is_missing_says_nothing() {
        assert!(page(0, 10, &[], true).says_nothing(0));
        assert!(!page(0, 10, &[], false).says_nothing(0), "nobody knows");
        assert!(!page(0, 10, &[4], true).says_nothing(0));
    }
}
