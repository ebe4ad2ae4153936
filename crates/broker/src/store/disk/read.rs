//! Reading: pages of history, the place of a time, the list of topics.
//!
//! Sealed files are read without a lock: a reader takes the lists of files and the floors as they are and reads on in
//! those, beside sealing and retention. Reads of the log are planned under the lock, and done after it. A page whose
//! bytes are all in memory is made at once; otherwise it is made on a thread that may wait for the disk.

mod log;
mod postings;
mod sealed;

use std::{io, sync::Arc};

use longlived_topic::{TopicFilter, TopicName};
use smallvec::SmallVec;

pub(super) use self::log::log_key;
pub(super) use self::sealed::TopicSet;
use super::{
    BlockKey, Shared,
    format::Hole,
    history::History,
    sealed::{Loaded, Sealed},
};
use crate::{
    frame::{Slice, TopicId},
    position::Sequence,
    store::{Damaged, FilterFrom, Page, Query, ReadError, Removed, TopicInfo},
};

/// The most names one hold of the lock looks at.
const LIST_SCAN_MAX: usize = 4_096;

/// Whether a page may ask the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Io {
    MemoryOnly,
    Disk,
}

/// Why a page could not be made.
#[derive(Debug)]
enum Miss {
    /// Something is not in memory, and the disk was not to be asked.
    NotInMemory,
    Failed(io::Error),
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// One class as a reader found it.
struct ClassView {
    files: Arc<Vec<Arc<Sealed>>>,
    floor: Sequence,
}

/// The topic of a filter without wildcards.
enum Literal {
    Topic(TopicId),
    Unknown,
    Wildcards,
}

/// The state that a page needs, taken at one moment.
struct View {
    sealed_through: Sequence,
    classes: SmallVec<[ClassView; 3]>,
    // For each filter.
    topics: SmallVec<[Literal; 1]>,
    trimmed_through: Sequence,
    holes: Vec<Hole>,
}

/// The found events, before they are one page.
#[derive(Default)]
struct Parts {
    slices: Vec<Slice>,
    damaged: Vec<Damaged>,
    through: Sequence,
}

pub(super) async fn read(shared: Arc<Shared>, query: Query) -> Result<Page, ReadError> {
    if shared.config.inline {
        return shared.page(&query, Io::Disk).map_err(failed);
    }
    match shared.page(&query, Io::MemoryOnly) {
        Ok(page) => Ok(page),
        Err(Miss::NotInMemory) => {
            on_thread(shared, move |shared| shared.page(&query, Io::Disk)).await
        }
        Err(error) => Err(failed(error)),
    }
}

pub(super) async fn before_time(
    shared: Arc<Shared>,
    unix_nanos: i64,
) -> Result<Sequence, ReadError> {
    let ask = move |shared: &Shared| shared.before_time(unix_nanos).map_err(Miss::from);
    if shared.config.inline {
        return ask(&shared).map_err(failed);
    }
    on_thread(shared, ask).await
}

pub(super) async fn topics(
    shared: Arc<Shared>,
    filter: TopicFilter,
    after: Option<TopicName>,
    limit: usize,
) -> Result<Vec<TopicInfo>, ReadError> {
    let mut infos: Vec<TopicInfo> = Vec::new();
    let mut places: Vec<(TopicId, Sequence)> = Vec::new();
    let mut next = after;
    loop {
        let left = limit - infos.len();
        next = {
            let history = shared.history.read();
            let listed = &history.topics;
            let (found, next) = listed.listed(&filter, next.as_ref(), left, LIST_SCAN_MAX);
            infos.extend(found.iter().map(|(_, topic)| TopicInfo {
                topic: topic.name.clone(),
                first: 0,
                last: topic.last,
                events: topic.events,
                bytes: topic.bytes,
            }));
            let ids = found.iter().map(|(id, topic)| (*id, topic.trimmed_through));
            places.extend(ids);
            next
        };
        if next.is_none() || infos.len() == limit {
            break;
        }
        // A filter that matches little is looked for among all names, but never in one go.
        tokio::task::yield_now().await;
    }
    // Events announced as damaged are not kept.
    for (info, (id, trimmed_through)) in infos.iter_mut().zip(places) {
        let (events, bytes) = shared.lost.lock().of(id, trimmed_through);
        info.events = info.events.saturating_sub(events);
        info.bytes = info.bytes.saturating_sub(bytes);
    }
    for info in infos.iter_mut().filter(|info| info.events > 0) {
        let filter = info.topic.to_filter();
        let query = Query {
            filters: vec![FilterFrom { filter, after: 0 }],
            after: 0,
            through: info.last,
            bytes_max: 1,
        };
        info.first = shared.first_of(query).await?;
    }
    Ok(infos)
}

/// Runs work that may wait for the disk on a thread where waiting delays nothing else.
async fn on_thread<T: Send + 'static>(
    shared: Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, Miss> + Send + 'static,
) -> Result<T, ReadError> {
    let ended = |error: &dyn std::fmt::Display| ReadError(error.to_string());
    let permit = shared.reads.clone().acquire_owned().await;
    let permit = permit.map_err(|error| ended(&error))?;
    let run = move || {
        let result = work(&shared).map_err(failed);
        drop(permit);
        result
    };
    tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| ended(&error))?
}

fn failed(miss: Miss) -> ReadError {
    match miss {
        Miss::NotInMemory => ReadError("the disk was not asked".to_owned()),
        Miss::Failed(error) => ReadError(error.to_string()),
    }
}

impl Shared {
    async fn first_of(self: &Arc<Self>, query: Query) -> Result<Sequence, ReadError> {
        let mut query = query;
        loop {
            let (through, after) = (query.through, query.after);
            let page = read(self.clone(), query.clone()).await?;
            if let Some(first) = page.slices.front() {
                return Ok(first.first());
            }
            if page.through >= through || page.through <= after {
                return Ok(0);
            }
            query.after = page.through;
        }
    }

    fn page(&self, query: &Query, io: Io) -> Result<Page, Miss> {
        let filters = query.filters_after();
        // The floors, the sealed files and the log belong to one moment: taken under one lock.
        let history = self.history.read();
        let view = View::new(&history, &filters);
        let parts = if query.after < view.sealed_through {
            drop(history);
            self.sealed_parts(&view, &filters, query, io)?
        } else {
            let plan = history.plan(&filters, query);
            drop(history);
            self.carry_out(plan, io)?
        };
        let all_sealed = query.after < view.sealed_through && parts.through == view.sealed_through;
        let mut page = view.finish(parts, query.after);
        if page.trimmed_through > query.after {
            let topics = &self.history.read().topics;
            page.removed = topics.removed(&filters, query.after, &page);
        }
        let nothing = page.slices.is_empty() && page.damaged.is_empty();
        if nothing && all_sealed && page.through < query.through {
            // Where the sealed files end is no news to a reader, and no place to end an announcement.
            let rest = Query {
                after: page.through,
                ..query.clone()
            };
            let rest = self.page(&rest, io)?;
            return Ok(page.join(rest));
        }
        Ok(page)
    }

    /// A block or batch, from memory or the disk; readers that want the same one wait for one read.
    fn block(
        &self,
        key: BlockKey,
        io: Io,
        load: impl FnOnce() -> io::Result<Loaded>,
    ) -> Result<Loaded, Miss> {
        if let Some(block) = self.blocks.get(&key) {
            return Ok(block);
        }
        if io == Io::MemoryOnly {
            return Err(Miss::NotInMemory);
        }
        let count = &self.counters.reads;
        let load = || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            load()
        };
        Ok(self.blocks.get_or_insert_with(&key, load)?)
    }

    fn before_time(&self, unix_nanos: i64) -> io::Result<Sequence> {
        let (classes, in_log, floor) = {
            let history = self.history.read();
            let classes: Vec<_> = (history.classes.iter())
                .map(|class| (class.files.clone(), class.floor))
                .collect();
            let floors = history.classes.iter();
            let floor = floors
                .filter(|class| class.floor_time < unix_nanos)
                .map(|class| class.floor)
                .max();
            (classes, history.before_time_in_log(unix_nanos), floor)
        };
        let mut before = in_log.max(floor).unwrap_or(0);
        for (files, floor) in &classes {
            before = before.max(sealed::before_time(files, *floor, unix_nanos)?);
        }
        Ok(before)
    }
}

impl View {
    fn new(history: &History, filters: &[FilterFrom]) -> Self {
        let with_files = history
            .classes
            .iter()
            .filter(|class| !class.files.is_empty());
        Self {
            sealed_through: history.sealed_through,
            classes: with_files
                .map(|class| ClassView {
                    files: class.files.clone(),
                    floor: class.floor,
                })
                .collect(),
            topics: filters
                .iter()
                .map(|wanted| match wanted.filter.literal() {
                    Some(topic) => {
                        (history.topics.id_of(&topic)).map_or(Literal::Unknown, Literal::Topic)
                    }
                    None => Literal::Wildcards,
                })
                .collect(),
            trimmed_through: history
                .topics
                .trimmed_through(filters, |filter| history.floor_for(filter)),
            holes: history.holes.clone(),
        }
    }

    /// One page: holes that lie in it are announced where no event that is kept stands.
    fn finish(self, parts: Parts, after: Sequence) -> Page {
        let Parts {
            slices,
            mut damaged,
            through,
        } = parts;
        damaged.extend(self.holes.iter().filter_map(|hole| {
            let begin = hole.after.max(after);
            let end = hole.through.min(through);
            (begin < end).then_some(Damaged {
                after: begin,
                through: end,
                events: 0,
            })
        }));
        Page {
            trimmed_through: self.trimmed_through,
            removed: Removed::default(),
            damaged: separate(damaged, &slices).into(),
            slices: slices.into(),
            through,
        }
    }
}

/// Damaged ranges in rising order, none of them over an event that is kept, and as few as possible.
fn separate(mut damaged: Vec<Damaged>, slices: &[Slice]) -> Vec<Damaged> {
    if damaged.is_empty() {
        return damaged;
    }
    damaged.sort_unstable_by_key(|range| range.after);
    let mut kept = slices
        .iter()
        .flat_map(|slice| slice.entries().iter().map(|entry| entry.sequence))
        .peekable();
    let mut separate: Vec<Damaged> = Vec::new();
    // The last kept event before the next one.
    let mut last_kept = 0;
    for range in damaged {
        let mut begin = range.after;
        loop {
            while let Some(&sequence) = kept.peek()
                && sequence <= begin
            {
                last_kept = sequence;
                kept.next();
            }
            let end = match kept.peek() {
                Some(&sequence) if sequence <= range.through => sequence - 1,
                _ => range.through,
            };
            let whole = begin == range.after && end == range.through;
            if begin < end {
                let events = if whole { range.events } else { 0 };
                push(&mut separate, begin, end, events, last_kept);
            }
            if end == range.through {
                break;
            }
            begin = end + 1;
        }
    }
    separate
}

fn push(
    separate: &mut Vec<Damaged>,
    after: Sequence,
    through: Sequence,
    events: u64,
    last_kept: Sequence,
) {
    match separate.last_mut() {
        // Nothing is kept between the two: one announcement for both.
        Some(last) if last_kept <= last.after => {
            let known = last.events > 0 && events > 0 && after >= last.through;
            last.events = if known { last.events + events } else { 0 };
            last.through = last.through.max(through);
        }
        _ => separate.push(Damaged {
            after,
            through,
            events,
        }),
    }
}
