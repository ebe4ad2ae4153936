//! Reading the tails of several channels as one: in log order, each event once.

use std::collections::VecDeque;

use super::{Cursor, DELIVERY_BYTES};
use crate::{channel::BehindTail, frame::Slice, position::Sequence, store::Page};

impl Cursor {
    /// What the channels' tails hold after the position, up to `visible`; `None` when that is nothing, an
    /// error when some tail no longer reaches back.
    pub(super) fn collect_live(&self, visible: Sequence) -> Result<Option<Page>, BehindTail> {
        let bytes_max = DELIVERY_BYTES / self.feeds.len().max(1);
        let mut sources: Vec<VecDeque<Slice>> = Vec::new();
        let mut through = visible;
        for feed in &self.feeds {
            let channel = feed.attachment.channel();
            let after = self.position.max(feed.after);
            if !channel.is_due(after) {
                // The tail may have let go of what this reader has not seen, but then it is due.
                continue;
            }
            let mut due = VecDeque::new();
            let all = channel.collect(after, visible, bytes_max, &mut due)?;
            if let Some(last) = due.back() {
                if !all {
                    through = through.min(last.last());
                }
                sources.push(due);
            }
        }
        let slices = match sources.len() {
            0 => return Ok(None),
            1 => sources.pop().unwrap_or_default(),
            _ => merge(sources, through),
        };
        Ok(Some(Page {
            trimmed_through: 0,
            slices,
            through,
        }))
    }
}

/// One rising order, without repeats, up to `through`. Longest runs are kept whole.
fn merge(mut sources: Vec<VecDeque<Slice>>, through: Sequence) -> VecDeque<Slice> {
    let mut merged: VecDeque<Slice> = VecDeque::new();
    let mut last = 0;
    loop {
        // What another source has handed over already is dropped here.
        for source in &mut sources {
            while let Some(front) = source.front_mut() {
                let passed = front.entries().partition_point(|e| e.sequence <= last);
                if passed == 0 {
                    break;
                }
                match front.split_off(passed) {
                    Some(rest) => *front = rest,
                    None => drop(source.pop_front()),
                }
            }
        }
        let next = sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| Some((source.front()?.first(), index)))
            .min();
        let Some((first, index)) = next.filter(|&(first, _)| first <= through) else {
            return merged;
        };
        // The run ends where another source has something to say, at the latest with its slice.
        let others = sources
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != index)
            .filter_map(|(_, source)| Some(source.front()?.first()))
            .min()
            .unwrap_or(Sequence::MAX);
        let limit = through.min(others.max(first + 1) - 1);
        let Some(mut slice) = sources[index].pop_front() else {
            return merged;
        };
        let run = slice.entries().partition_point(|e| e.sequence <= limit);
        if let Some(rest) = slice.split_off(run.max(1)) {
            sources[index].push_front(rest);
        }
        last = slice.last();
        let extended = merged
            .back_mut()
            .is_some_and(|before| before.extend_with(&slice));
        if !extended {
            merged.push_back(slice);
        }
    }
}
