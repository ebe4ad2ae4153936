//! Pages from the log's segments, whose index is in memory: planned under the lock, read after it.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    super::{
        BlockKey, Shared,
        history::History,
        sealed::Loaded,
        segment::{Record, Segment, SegmentFile},
    },
    Io, Miss, Parts,
};
use crate::{
    frame::{Entry, Frames, Slice, TopicId},
    position::Sequence,
    store::{
        Damaged, FilterFrom, Query,
        query::{FEW_TOPICS, PROBE, PROBE_ONE_IN, SCAN_MAX},
    },
};

/// The key of a segment in caches.
pub(in super::super) fn log_key(number: u64) -> u64 {
    // Sealed files are counted from 1.
    number | 1 << 63
}

/// The planned reads.
pub(super) struct Plan {
    pieces: Vec<Piece>,
    through: Sequence,
}

/// A run of entries of one batch.
struct Piece {
    file: Arc<SegmentFile>,
    number: usize,
    record: Record,
    begin: usize,
    end: usize,
}

struct Planner<'a> {
    history: &'a History,
    query: &'a Query,
    pieces: Vec<Piece>,
    bytes: usize,
}

impl History {
    pub(super) fn plan(&self, filters: &[FilterFrom], query: &Query) -> Plan {
        let planner = || Planner {
            history: self,
            query,
            pieces: Vec::new(),
            bytes: 0,
        };
        self.topics
            .up_to(FEW_TOPICS, filters)
            .map(|topics| planner().merge(&topics))
            .or_else(|| planner().scan(filters))
            .or_else(|| {
                let all = self.topics.up_to(usize::MAX, filters);
                all.map(|topics| planner().merge(&topics))
            })
            .unwrap_or(Plan {
                pieces: Vec::new(),
                through: query.through,
            })
    }

    fn is_kept(&self, entry: &Entry) -> bool {
        let class = self.topics.get(entry.topic).class;
        entry.sequence > self.classes[class].floor
    }

    /// The last event of the log that was published before a time.
    pub(super) fn before_time_in_log(&self, unix_nanos: i64) -> Option<Sequence> {
        let records = |segment: &Arc<Segment>| {
            let count = segment
                .records
                .partition_point(|record| record.stamp.published < unix_nanos);
            count
                .checked_sub(1)
                .map(|last| segment.records[last].last())
        };
        self.log.iter().rev().find_map(records)
    }
}

impl Planner<'_> {
    fn push(&mut self, segment: usize, number: usize, entry: usize) {
        let segment = &self.history.log[segment];
        let record = &segment.records[number];
        self.bytes += record.entries[entry].len as usize;
        if let Some(last) = self.pieces.last_mut()
            && last.file.number == segment.file.number
            && last.number == number
            && last.end == entry
        {
            last.end += 1;
            return;
        }
        self.pieces.push(Piece {
            file: segment.file.clone(),
            number,
            record: record.clone(),
            begin: entry,
            end: entry + 1,
        });
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.query.bytes_max
    }

    fn finish(self, through: Sequence) -> Plan {
        Plan {
            pieces: self.pieces,
            through,
        }
    }

    fn merge(mut self, topics: &FxHashMap<TopicId, Sequence>) -> Plan {
        let history = self.history;
        let mut heap = BinaryHeap::new();
        let entry_at = |segment: usize, (record, entry): (u32, u32)| {
            history.log[segment].records[record as usize].entries[entry as usize]
        };
        // The next place of a topic at or behind one, in later segments too.
        let next = |topic: TopicId, segment: usize, at: usize| {
            let mut at = at;
            (segment..history.log.len()).find_map(|segment| {
                let places = history.log[segment].places(topic);
                let place = places.get(std::mem::take(&mut at)).copied()?;
                Some((segment, place))
            })
        };
        for (&topic, &after) in topics {
            let first = history
                .log
                .iter()
                .enumerate()
                .find_map(|(number, segment)| {
                    let places = segment.places(topic);
                    let at =
                        places.partition_point(|&place| entry_at(number, place).sequence <= after);
                    (at < places.len()).then_some((number, at))
                });
            if let Some((segment, at)) = first {
                let place = history.log[segment].places(topic)[at];
                heap.push(Reverse((
                    entry_at(segment, place).sequence,
                    topic,
                    segment,
                    at,
                )));
            }
        }
        while let Some(Reverse((sequence, topic, segment, at))) = heap.pop() {
            if sequence > self.query.through {
                break;
            }
            let place = history.log[segment].places(topic)[at];
            if history.is_kept(&entry_at(segment, place)) {
                self.push(segment, place.0 as usize, place.1 as usize);
            }
            if let Some((later, place)) = next(topic, segment, at + 1) {
                let at = if later == segment { at + 1 } else { 0 };
                heap.push(Reverse((entry_at(later, place).sequence, topic, later, at)));
            }
            if self.is_full() {
                return self.finish(sequence);
            }
        }
        let through = self.query.through;
        self.finish(through)
    }

    /// `None` when matches are so rare that the topics' own places are the better way.
    fn scan(mut self, filters: &[FilterFrom]) -> Option<Plan> {
        let history = self.history;
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
        let mut scanned = 0;
        let mut found = 0;
        let mut last = self.query.after;
        for (number, segment) in history.log.iter().enumerate() {
            let first = segment
                .records
                .partition_point(|record| record.last() <= self.query.after);
            for (index, record) in segment.records.iter().enumerate().skip(first) {
                for at in record.index_after(self.query.after)..record.entries.len() {
                    let entry = &record.entries[at];
                    if entry.sequence > self.query.through {
                        let through = self.query.through;
                        return Some(self.finish(through));
                    }
                    if self.is_full() || scanned == SCAN_MAX {
                        return Some(self.finish(last));
                    }
                    if scanned == PROBE && found * PROBE_ONE_IN < scanned {
                        return None;
                    }
                    if wanted_after(entry.topic) < entry.sequence && history.is_kept(entry) {
                        self.push(number, index, at);
                        found += 1;
                    }
                    scanned += 1;
                    last = entry.sequence;
                }
            }
        }
        let through = self.query.through;
        Some(self.finish(through))
    }
}

impl Shared {
    /// Does the planned reads.
    pub(super) fn carry_out(&self, plan: Plan, io: Io) -> Result<Parts, Miss> {
        let mut parts = Parts {
            through: plan.through,
            ..Parts::default()
        };
        for piece in plan.pieces {
            let key = BlockKey {
                file: log_key(piece.file.number),
                block: piece.number as u32,
            };
            let record = &piece.record;
            let loaded = self.block(key, io, || {
                let content = piece.file.frames_of(record)?;
                let frames = content
                    .and_then(|content| Frames::from_parts(content, record.entries.to_vec()));
                Ok(frames.map_or_else(
                    || {
                        self.note_lost(&record.entries);
                        self.note_damage(&piece.file.path, record.first(), record.last());
                        Loaded::Damaged(None)
                    },
                    Loaded::Whole,
                ))
            })?;
            match loaded {
                Loaded::Whole(frames) => {
                    let slice = Slice::new(frames, piece.begin, piece.end);
                    let extended = parts
                        .slices
                        .last_mut()
                        .is_some_and(|last: &mut Slice| last.extend_with(&slice));
                    if !extended {
                        parts.slices.push(slice);
                    }
                }
                Loaded::Damaged(_) => {
                    let lost = &record.entries[piece.begin..piece.end];
                    parts.damaged.extend(lost.iter().map(|entry| Damaged {
                        after: entry.sequence - 1,
                        through: entry.sequence,
                        events: 1,
                    }));
                }
            }
        }
        Ok(parts)
    }
}
