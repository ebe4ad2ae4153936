//! The events that retention has removed lately, by topic, so that a gap is announced only where events are missing,
//! with their number.
//!
//! Holds: of each topic, every removed event above its `known_after` is here.
//! Does not: outlive the process, or go back for ever. The oldest entries of a class give way to its newest; a gap over
//! unknown ones says so.

use std::collections::VecDeque;

use crate::{frame::TopicId, position::Sequence};

/// Removed events that are remembered of each class: 3 MB. Readers that come back later than that are told of a gap of
/// unknown number.
pub(super) const REMOVED_MAX: usize = 1 << 17;

/// The removed events of one topic, rising.
#[expect(
    clippy::box_collection,
    reason = "most of a million topics have none: 8 bytes of each, not 32"
)]
#[derive(Debug, Default)]
pub(super) struct RemovedOfTopic {
    known_after: Sequence,
    // Of most topics there is none.
    sequences: Option<Box<VecDeque<Sequence>>>,
}

impl RemovedOfTopic {
    /// Nothing is known of the removals up to here.
    pub(super) fn unknown_through(&mut self, through: Sequence) {
        self.known_after = self.known_after.max(through);
        let Some(sequences) = &mut self.sequences else {
            return;
        };
        while sequences.front().is_some_and(|&it| it <= through) {
            sequences.pop_front();
        }
        if sequences.is_empty() {
            self.sequences = None;
        }
    }

    fn push(&mut self, sequence: Sequence) {
        let last = self.sequences.as_ref().and_then(|it| it.back().copied());
        let last = last.unwrap_or(self.known_after);
        if sequence > last {
            self.sequences.get_or_insert_default().push_back(sequence);
        } else {
            // Of a class that is not configured any more: its events go in an order of their own.
            self.unknown_through(last);
        }
    }

    /// Those above `after` and up to `through`; `None` when not all of them are known.
    pub(super) fn within(
        &self,
        after: Sequence,
        through: Sequence,
    ) -> Option<impl DoubleEndedIterator<Item = Sequence> + ExactSizeIterator> {
        const NONE: &VecDeque<Sequence> = &VecDeque::new();
        (after >= self.known_after).then(|| {
            let sequences = self.sequences.as_deref().unwrap_or(NONE);
            let begin = sequences.partition_point(|&it| it <= after);
            let end = sequences.partition_point(|&it| it <= through);
            sequences.range(begin..end.max(begin)).copied()
        })
    }
}

/// In which order the events of each class were removed, so that the oldest can be forgotten.
#[derive(Debug, Default)]
pub(super) struct RemovalOrder {
    by_class: Vec<VecDeque<(TopicId, Sequence)>>,
}

impl RemovalOrder {
    /// Notes one more, of a topic whose removed events are these; which is to be forgotten for it.
    pub(super) fn push(
        &mut self,
        class: usize,
        topic: TopicId,
        removed: &mut RemovedOfTopic,
        sequence: Sequence,
    ) -> Option<(TopicId, Sequence)> {
        removed.push(sequence);
        if class >= self.by_class.len() {
            self.by_class.resize_with(class + 1, VecDeque::new);
        }
        let order = &mut self.by_class[class];
        order.push_back((topic, sequence));
        (order.len() > REMOVED_MAX)
            .then(|| order.pop_front())
            .flatten()
    }
}
