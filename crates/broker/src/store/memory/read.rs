//! Reading the memory store. A page costs about the smaller of two things: the stretch of the log it scans,
//! or the events it returns plus the topics that match. Which is smaller is found by trying: a short scan
//! that meets few matches gives way to the topics' own indices.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use rustc_hash::FxHashMap;

use super::History;
use crate::{
    frame::{Frames, Slice, TopicId},
    position::Sequence,
    store::{
        FilterFrom, Page, Query,
        query::{FEW_TOPICS, PROBE, PROBE_ONE_IN, SCAN_MAX},
    },
};

pub(super) fn page(history: &History, query: &Query) -> Page {
    let filters = query.filters_after();
    let mut page = history
        .topics
        .up_to(FEW_TOPICS, &filters)
        .map(|topics| merge_topics(history, &topics, query))
        .or_else(|| scan(history, &filters, query))
        .or_else(|| {
            (history.topics.up_to(usize::MAX, &filters))
                .map(|topics| merge_topics(history, &topics, query))
        })
        .unwrap_or_default();
    page.trimmed_through = history.topics.trimmed_through(&filters, |filter| {
        let classes = history.retention.classes_for(filter);
        let floors = classes.map(|class| history.classes[class].trimmed_through());
        floors.max().unwrap_or(0)
    });
    page.removed = history.topics.removed(&filters, query.after, &page);
    page
}

fn merge_topics(history: &History, topics: &FxHashMap<TopicId, Sequence>, query: &Query) -> Page {
    let mut heap = BinaryHeap::new();
    for (&id, &after) in topics {
        let kept = history.kept.of(id);
        let index = kept.partition_point(|&sequence| sequence <= after);
        if let Some(&sequence) = kept.get(index) {
            heap.push(Reverse((sequence, id, index)));
        }
    }
    let mut builder = PageBuilder::new(query);
    let mut located: FxHashMap<usize, (usize, usize)> = FxHashMap::default();
    while let Some(Reverse((sequence, id, index))) = heap.pop() {
        if sequence > query.through {
            break;
        }
        let topic = history.topics.get(id);
        let class = &history.classes[topic.class];
        // The next event of a class is most often in the batch of the last one.
        let hint = located.get(&topic.class).copied();
        let place = hint
            .and_then(|(batch, _)| {
                let frames = class.batch(batch)?;
                let inside = frames.first() <= sequence && sequence <= frames.last();
                inside.then(|| (batch, frames.index_after(sequence - 1)))
            })
            .unwrap_or_else(|| class.seek(sequence - 1));
        located.insert(topic.class, place);
        if let Some(frames) = class.batch(place.0) {
            builder.push(frames, place.1, place.1 + 1);
        }
        if let Some(&next) = history.kept.of(id).get(index + 1) {
            heap.push(Reverse((next, id, index + 1)));
        }
        if builder.is_full() {
            return builder.finish(sequence);
        }
    }
    builder.finish(query.through)
}

/// `None` when matches are so rare that the topics' indices are the better way.
fn scan(history: &History, filters: &[FilterFrom], query: &Query) -> Option<Page> {
    let mut matched: FxHashMap<TopicId, Sequence> = FxHashMap::default();
    let mut wanted_after = |id: TopicId| {
        *matched.entry(id).or_insert_with(|| {
            let name = history.topics.get(id).name.as_str();
            filters
                .iter()
                .filter(|wanted| wanted.filter.matches(name))
                .map(|wanted| wanted.after)
                .min()
                .unwrap_or(Sequence::MAX)
        })
    };
    let mut at: Vec<_> = history
        .classes
        .iter()
        .map(|class| class.seek(query.after))
        .collect();
    let mut builder = PageBuilder::new(query);
    let mut scanned = 0;
    let mut found = 0;
    let mut last = query.after;
    loop {
        let next = history
            .classes
            .iter()
            .zip(&at)
            .enumerate()
            .filter_map(|(index, (class, &(batch, entry)))| {
                let frames = class.batch(batch)?;
                Some((frames.entries()[entry].sequence, index))
            })
            .min();
        let Some((sequence, index)) = next.filter(|&(sequence, _)| sequence <= query.through)
        else {
            return Some(builder.finish(query.through));
        };
        if builder.is_full() || scanned == SCAN_MAX {
            return Some(builder.finish(last));
        }
        if scanned == PROBE && found * PROBE_ONE_IN < scanned {
            return None;
        }
        let (batch, entry) = at[index];
        let frames = history.classes[index].batch(batch)?;
        if wanted_after(frames.entries()[entry].topic) < sequence {
            builder.push(frames, entry, entry + 1);
            found += 1;
        }
        scanned += 1;
        last = sequence;
        at[index] = if entry + 1 == frames.entries().len() {
            (batch + 1, 0)
        } else {
            (batch, entry + 1)
        };
    }
}

struct PageBuilder {
    page: Page,
    bytes: usize,
    bytes_max: usize,
}

impl PageBuilder {
    fn new(query: &Query) -> Self {
        Self {
            page: Page::default(),
            bytes: 0,
            bytes_max: query.bytes_max,
        }
    }

    fn push(&mut self, frames: &Arc<Frames>, begin: usize, end: usize) {
        let slice = Slice::new(frames.clone(), begin, end);
        self.bytes += slice.len_bytes();
        let extended = self
            .page
            .slices
            .back_mut()
            .is_some_and(|last| last.extend_with(&slice));
        if !extended {
            self.page.slices.push_back(slice);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    fn finish(mut self, through: Sequence) -> Page {
        self.page.through = through;
        self.page
    }
}
