//! Which events are kept of each topic, so that a few topics are read without looking at the others.

use std::collections::VecDeque;

use crate::{frame::TopicId, position::Sequence};

/// Rising sequences by topic.
#[derive(Default)]
pub(super) struct Kept {
    by_topic: Vec<VecDeque<Sequence>>,
}

impl Kept {
    pub(super) fn push(&mut self, id: TopicId, sequence: Sequence) {
        let index = id as usize;
        if index >= self.by_topic.len() {
            self.by_topic.resize_with(index + 1, VecDeque::new);
        }
        self.by_topic[index].push_back(sequence);
    }

    /// The oldest kept event of a topic is gone.
    pub(super) fn trimmed(&mut self, id: TopicId, sequence: Sequence) {
        let kept = &mut self.by_topic[id as usize];
        let oldest = kept.pop_front();
        debug_assert_eq!(oldest, Some(sequence), "a topic is trimmed in its order");
        if kept.is_empty() {
            *kept = VecDeque::new();
        }
    }

    pub(super) fn of(&self, id: TopicId) -> &VecDeque<Sequence> {
        const NONE: &VecDeque<Sequence> = &VecDeque::new();
        self.by_topic.get(id as usize).unwrap_or(NONE)
    }
}
