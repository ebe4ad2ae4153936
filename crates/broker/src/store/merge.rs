//! Several rising sources of events as one.

use std::collections::VecDeque;

use crate::{frame::Slice, position::Sequence};

/// One rising order, without repeats, up to `through`. Longest runs are kept whole.
pub(crate) fn merge(mut sources: Vec<VecDeque<Slice>>, through: Sequence) -> VecDeque<Slice> {
    let mut merged: VecDeque<Slice> = VecDeque::new();
    let mut last = 0;
    loop {
        // An event that another source has handed over already is dropped here.
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
