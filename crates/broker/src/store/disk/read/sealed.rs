//! Pages from sealed files. In each file either every block is looked at or only those where the wanted topics' events
//! are, whichever touches less.

use std::{cmp::Reverse, collections::BinaryHeap, io, sync::Arc};

use smallvec::SmallVec;

use super::{
    super::{
        BlockKey, READS_MAX, Shared, format::split, record::Index, sealed::Loaded, sealed::Sealed,
    },
    ClassView, Io, Literal, Miss, Parts, View,
};
use crate::{
    frame::{Entry, Frames, Slice},
    position::Sequence,
    store::{Damaged, FilterFrom, Query, merge},
};

/// The most blocks that one page looks at without finding enough: it then says how far it came.
const SCAN_BLOCKS_MAX: usize = 256;
/// The bytes that are read ahead for a reader that goes through a file: its next pages are then made without a thread
/// that may wait for the disk.
const READ_AHEAD_BYTES: u64 = 512 << 10;
/// No more of the cache than this part of it.
const READ_AHEAD_ONE_IN: u64 = 8;
/// Wanted events are looked up one by one when fewer than one event in this many is wanted.
const FEW_ONE_IN: u64 = 4;

/// Which topics of a file a filter matches, by the file's numbers.
#[derive(Debug)]
pub(in super::super) struct TopicSet {
    bits: Box<[u64]>,
    events: u64,
}

impl TopicSet {
    pub(in super::super) fn len_bytes(&self) -> usize {
        size_of_val(&*self.bits)
    }

    fn contains(&self, local: u32) -> bool {
        let bits = self.bits.get(local as usize / 64);
        bits.is_some_and(|bits| bits >> (local % 64) & 1 == 1)
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.bits.len() as u32 * 64).filter(|&local| self.contains(local))
    }
}

/// The wanted events of a file.
#[derive(Default)]
struct Wanted {
    filters: SmallVec<[(Sequence, Topics); 1]>,
    events: u64,
}

enum Topics {
    All,
    One(u32),
    Some(Arc<TopicSet>),
}

impl Wanted {
    fn has(&self, entry: &Entry) -> bool {
        self.filters.iter().any(|(after, topics)| {
            entry.sequence > *after
                && match topics {
                    Topics::All => true,
                    Topics::One(local) => entry.topic == *local,
                    Topics::Some(set) => set.contains(entry.topic),
                }
        })
    }

    /// Whether every event of a stretch that begins after `after` is wanted.
    fn has_all(&self, after: Sequence) -> bool {
        let all =
            |(from, topics): &(Sequence, Topics)| matches!(topics, Topics::All) && *from <= after;
        self.filters.iter().any(all)
    }

    fn locals(&self, topics: u32) -> Vec<u32> {
        let mut locals: Vec<u32> = Vec::new();
        for (_, wanted) in &self.filters {
            match wanted {
                Topics::All => locals.extend(0..topics),
                Topics::One(local) => locals.push(*local),
                Topics::Some(set) => locals.extend(set.iter()),
            }
        }
        locals.sort_unstable();
        locals.dedup();
        locals
    }
}

/// Collects the found events of one class.
struct Run {
    slices: Vec<Slice>,
    damaged: Vec<Damaged>,
    after: Sequence,
    through: Sequence,
    bytes: usize,
    bytes_max: usize,
    looked_at: usize,
}

/// Whether more fit, or up to where the run is complete.
enum Reach {
    More,
    Through(Sequence),
}

impl Run {
    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    fn push(&mut self, frames: &Arc<Frames>, begin: usize, end: usize) -> Reach {
        let mut slice = Slice::new(frames.clone(), begin, end);
        let fitting = slice.count_within(self.bytes_max - self.bytes);
        let cut = slice.split_off(fitting).is_some();
        self.bytes += slice.len_bytes();
        let last = slice.last();
        let extended = self
            .slices
            .last_mut()
            .is_some_and(|before| before.extend_with(&slice));
        if !extended {
            self.slices.push(slice);
        }
        if cut || self.is_full() {
            Reach::Through(last)
        } else {
            Reach::More
        }
    }

    /// Notes the wanted events of a damaged block.
    fn note_damaged(
        &mut self,
        file: &Sealed,
        block: usize,
        index: Option<&Index>,
        wanted: &Wanted,
    ) {
        let Some(index) = index else {
            let block = file.blocks[block];
            let after = (block.first - 1).max(self.after);
            let through = block.last.min(self.through);
            if after < through {
                self.damaged.push(Damaged {
                    after,
                    through,
                    events: 0,
                });
            }
            return;
        };
        let lost = (index.entries.iter())
            .filter(|entry| entry.sequence > self.after && entry.sequence <= self.through)
            .filter(|entry| wanted.has(entry));
        self.damaged.extend(lost.map(|entry| Damaged {
            after: entry.sequence - 1,
            through: entry.sequence,
            events: 1,
        }));
    }
}

impl Shared {
    pub(super) fn sealed_parts(
        &self,
        view: &View,
        filters: &[FilterFrom],
        query: &Query,
        io: Io,
    ) -> Result<Parts, Miss> {
        let through = query.through.min(view.sealed_through);
        let bytes_max = (query.bytes_max / view.classes.len().max(1)).max(1);
        let mut parts = Parts {
            through,
            ..Parts::default()
        };
        let mut sources = Vec::new();
        for class in &view.classes {
            let mut run = Run {
                slices: Vec::new(),
                damaged: Vec::new(),
                after: query.after.max(class.floor),
                through,
                bytes: 0,
                bytes_max,
                looked_at: 0,
            };
            if let Reach::Through(reached) = self.collect(class, view, filters, &mut run, io)? {
                parts.through = parts.through.min(reached);
            }
            parts.damaged.append(&mut run.damaged);
            if !run.slices.is_empty() {
                sources.push(run.slices.into_iter().collect());
            }
        }
        parts.slices = merge(sources, parts.through).into();
        for range in &mut parts.damaged {
            if range.through > parts.through {
                range.through = parts.through;
                range.events = 0;
            }
        }
        parts.damaged.retain(|range| range.after < range.through);
        Ok(parts)
    }

    fn collect(
        &self,
        class: &ClassView,
        view: &View,
        filters: &[FilterFrom],
        run: &mut Run,
        io: Io,
    ) -> Result<Reach, Miss> {
        let first = class.files.partition_point(|file| file.last() <= run.after);
        for file in &class.files[first..] {
            if file.first() > run.through {
                break;
            }
            let wanted = self.wanted(file, view, filters, run.after, io)?;
            if wanted.filters.is_empty() {
                continue;
            }
            let few = wanted.events * FEW_ONE_IN < file.events;
            let reach = if few {
                self.pick(file, &wanted, run, io)?
            } else {
                self.scan(file, &wanted, run, io)?
            };
            if let Reach::Through(_) = reach {
                return Ok(reach);
            }
        }
        Ok(Reach::More)
    }

    /// The events of a file that the filters want.
    fn wanted(
        &self,
        file: &Sealed,
        view: &View,
        filters: &[FilterFrom],
        after: Sequence,
        io: Io,
    ) -> Result<Wanted, Miss> {
        let mut wanted = Wanted::default();
        for (filter, topic) in filters.iter().zip(&view.topics) {
            if filter.after >= file.last() {
                continue;
            }
            match topic {
                Literal::Topic(id) => {
                    let Some(local) = file.local(*id) else {
                        continue;
                    };
                    let topic = &file.topics[local as usize];
                    if topic.last > after.max(filter.after) {
                        wanted.events += u64::from(topic.events);
                        wanted.filters.push((filter.after, Topics::One(local)));
                    }
                }
                Literal::Unknown => {}
                Literal::Wildcards => {
                    let set = self.topic_set(file, filter, io)?;
                    wanted.events += set.events;
                    if set.events == file.events {
                        wanted.filters.push((filter.after, Topics::All));
                    } else if set.events > 0 {
                        wanted.filters.push((filter.after, Topics::Some(set)));
                    }
                }
            }
        }
        Ok(wanted)
    }

    fn topic_set(&self, file: &Sealed, wanted: &FilterFrom, io: Io) -> Result<Arc<TopicSet>, Miss> {
        let key = (file.id, wanted.filter.clone());
        if let Some(known) = self.matches.get(&key) {
            return Ok(known);
        }
        if io == Io::MemoryOnly {
            // Looking at every topic of a file is no work for a thread that serves others.
            return Err(Miss::NotInMemory);
        }
        let mut bits = vec![0_u64; file.topics.len().div_ceil(64)];
        let mut events = 0;
        for (local, topic) in file.topics.iter().enumerate() {
            if wanted.filter.matches(topic.name.as_str()) {
                bits[local / 64] |= 1 << (local % 64);
                events += u64::from(topic.events);
            }
        }
        let set = Arc::new(TopicSet {
            bits: bits.into(),
            events,
        });
        self.matches.insert(key, set.clone());
        Ok(set)
    }

    fn sealed_block(&self, file: &Sealed, block: usize, io: Io) -> Result<Loaded, Miss> {
        let key = BlockKey {
            file: file.id,
            block: block as u32,
        };
        self.block(key, io, || {
            let loaded = file.load(block);
            if let Ok(Loaded::Damaged(index)) = &loaded {
                self.note_lost_block(file, block, index.as_deref());
                let block = &file.blocks[block];
                self.note_damage(&file.path, block.first, block.last);
            }
            loaded
        })
    }

    /// Looks at every block.
    fn scan(&self, file: &Sealed, wanted: &Wanted, run: &mut Run, io: Io) -> Result<Reach, Miss> {
        let first = file.blocks.partition_point(|block| block.last <= run.after);
        for number in first..file.blocks.len() {
            let block = &file.blocks[number];
            if block.first > run.through {
                break;
            }
            if run.looked_at == SCAN_BLOCKS_MAX {
                return Ok(Reach::Through((block.first - 1).max(run.after)));
            }
            run.looked_at += 1;
            let frames = match self.sealed_block(file, number, io)? {
                Loaded::Whole(frames) => frames,
                Loaded::Damaged(index) => {
                    run.note_damaged(file, number, index.as_deref(), wanted);
                    continue;
                }
            };
            let entries = frames.entries();
            let mut at = frames.index_after(run.after);
            let end = frames.index_after(run.through);
            let all = at < end && wanted.has_all(entries[at].sequence - 1);
            while at < end {
                let mut run_end = end;
                if !all {
                    if !wanted.has(&entries[at]) {
                        at += 1;
                        continue;
                    }
                    let others = entries[at..end].iter();
                    run_end = at + others.take_while(|entry| wanted.has(entry)).count();
                }
                if let Reach::Through(last) = run.push(&frames, at, run_end) {
                    if io == Io::Disk {
                        self.read_ahead(file, number + 1, run.through);
                    }
                    return Ok(Reach::Through(last));
                }
                at = run_end;
            }
        }
        Ok(Reach::More)
    }

    /// Brings the next blocks into the cache, unless many read at other places: they would push out each other's.
    fn read_ahead(&self, file: &Sealed, first: usize, through: Sequence) {
        if self.config.inline || self.reads.available_permits() < READS_MAX / 2 {
            return;
        }
        let mut left = READ_AHEAD_BYTES.min(self.config.cache_bytes / READ_AHEAD_ONE_IN);
        for (number, block) in file.blocks.iter().enumerate().skip(first) {
            let bytes = u64::from(block.record_bytes);
            // The readers that want the block are told of a failure.
            if block.first > through
                || bytes > left
                || self.sealed_block(file, number, Io::Disk).is_err()
            {
                return;
            }
            left -= bytes;
        }
    }

    /// Looks only where the wanted topics' events are.
    fn pick(&self, file: &Sealed, wanted: &Wanted, run: &mut Run, io: Io) -> Result<Reach, Miss> {
        let Some(postings) = self.postings_of(file, io)? else {
            return self.scan(file, wanted, run, io);
        };
        let first = file.blocks.partition_point(|block| block.last <= run.after);
        let mut heap = BinaryHeap::new();
        for local in wanted.locals(file.topics.len() as u32) {
            let Some(topic) = postings.topics.get(local as usize) else {
                continue;
            };
            let at = topic
                .places
                .partition_point(|&place| split(place).0 < first);
            if let Some(&place) = topic.places.get(at) {
                heap.push(Reverse((place, local, at)));
            }
        }
        let mut damaged = None;
        while let Some(Reverse((place, local, at))) = heap.pop() {
            let (number, entry) = split(place);
            let Some(block) = file.blocks.get(number) else {
                break;
            };
            if block.first > run.through {
                break;
            }
            let next = postings.topics[local as usize].places.get(at + 1);
            heap.extend(next.map(|&next| Reverse((next, local, at + 1))));
            if damaged == Some(number) {
                continue;
            }
            match self.sealed_block(file, number, io)? {
                Loaded::Whole(frames) => {
                    let Some(found) = frames.entries().get(entry) else {
                        continue;
                    };
                    if found.sequence > run.through {
                        break;
                    }
                    if found.sequence > run.after
                        && wanted.has(found)
                        && let Reach::Through(last) = run.push(&frames, entry, entry + 1)
                    {
                        return Ok(Reach::Through(last));
                    }
                }
                Loaded::Damaged(index) => {
                    damaged = Some(number);
                    run.note_damaged(file, number, index.as_deref(), wanted);
                }
            }
        }
        Ok(Reach::More)
    }
}

/// The last kept event of a class's sealed files that was published before a time; 0 when there is none.
pub(super) fn before_time(
    files: &[Arc<Sealed>],
    floor: Sequence,
    unix_nanos: i64,
) -> io::Result<Sequence> {
    let begins_before = |file: &Arc<Sealed>| {
        let first = file.blocks.first();
        first.is_some_and(|block| block.time < unix_nanos)
    };
    let Some(last) = files.partition_point(begins_before).checked_sub(1) else {
        return Ok(0);
    };
    let file = &files[last];
    if file.last_time < unix_nanos {
        return Ok(file.last());
    }
    let number = file
        .blocks
        .partition_point(|block| block.time < unix_nanos)
        .saturating_sub(1);
    let block = file.blocks[number];
    let Some(index) = file.load_index(number)? else {
        return Ok(block.first);
    };
    let before = (index.entries.iter().enumerate())
        .take_while(|(at, _)| index.stamp_of(*at).published < unix_nanos)
        .last();
    let sequence = before.map_or(0, |(_, entry)| entry.sequence);
    Ok(if sequence > floor { sequence } else { 0 })
}
