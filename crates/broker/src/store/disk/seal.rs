//! Moves the oldest segment of the log into sealed files, one for each class that has events in it.
//!
//! A class whose newest file is small has it replaced by one that begins with the same events.
//!
//! Holds: readers are sent to the new files when those are synced, and the segment is removed when `STATE` names them; a
//! crash in between leaves the segment to be sealed again.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use longlived_topic::TopicName;
use rustc_hash::FxHashMap;

use super::{
    Shared,
    builder::Builder,
    format,
    sealed::{Loaded, Sealed},
    segment::{self, Record, Segment},
};
use crate::{
    faults::{Fault, planted},
    frame::{Entry, TopicId},
    position::Sequence,
};

/// A class whose newest file is smaller than this part of a segment gets its next events in the same file, so that a
/// quiet class does not come to have thousands.
const SMALL_PART: u64 = 16;
/// The most topics that one hold of the lock copies.
const TOPICS_AT_ONCE: usize = 4_096;

/// The inputs to seal a segment, so that no lock is held while files are written.
struct Job {
    segment: Arc<Segment>,
    // With its class and a floor of its own, which is above 0 only while a log is taken over.
    topics: FxHashMap<TopicId, (TopicName, usize, Sequence)>,
    classes: Vec<JobClass>,
    through: Sequence,
    last_time: i64,
}

/// A class as it is when a segment is sealed.
struct JobClass {
    identity: String,
    floor: Sequence,
    /// Its newest file, if that is so small that the new one begins with its events.
    small: Option<Arc<Sealed>>,
}

/// The new files and their classes, and the unreadable events.
struct Written {
    files: Vec<(usize, Arc<Sealed>)>,
    damaged: Vec<Record>,
}

impl Shared {
    /// Seals the oldest segment; returns whether there was one. The last segment is still written to, unless `all` says
    /// that it is not.
    pub(super) fn seal_oldest(&self, all: bool) -> io::Result<bool> {
        let Some(job) = self.job(all) else {
            return Ok(false);
        };
        let mut paths = Vec::new();
        let written = self.write_files(&job, &mut paths);
        if written.is_err() {
            // A half-written file would take the space that other files need.
            for path in &paths {
                self.files.remove(path).ok();
            }
        }
        let Written { files, damaged } = written?;
        paths.retain(|path| files.iter().all(|(_, file)| file.path != *path));
        for record in &damaged {
            self.lost.lock().forget(&record.entries);
        }
        let ids = self.history.read().ids_through(job.through);
        format::write_parts(&*self.files, &self.config.dir.join("IDS"), ids)?;
        {
            let history = &mut *self.history.write();
            let mut doomed = self.doomed.lock();
            doomed.append(&mut paths);
            for (class, file) in files {
                let known = Arc::make_mut(&mut history.classes[class].files);
                // One that began with the events of the last takes its place.
                if let Some(last) = known.pop_if(|last| last.last() >= file.first()) {
                    doomed.push(last.path.clone());
                }
                known.push(file);
            }
            for record in damaged {
                history.add_hole(record.first() - 1, record.last());
                for entry in record.entries.iter() {
                    history.forget_damaged(entry);
                }
            }
            history.sealed_through = history.sealed_through.max(job.through);
            history.sealed_time = history.sealed_time.max(job.last_time);
            let through = history.sealed_through;
            history.topics.reusable_through(through);
            history.log.pop_front();
            doomed.push(job.segment.file.path.clone());
        }
        if planted(Fault::SegmentRemovedUnnamed) {
            let doomed = std::mem::take(&mut *self.doomed.lock());
            return doomed
                .iter()
                .try_for_each(|path| self.files.remove(path))
                .map(|()| true);
        }
        self.remove_doomed()?;
        // `job` is the last to hold the segment: freeing a long index takes its time, outside the lock.
        Ok(true)
    }

    /// Writes down the sealed files and the removed ranges, then removes files that nothing names any more. A file that
    /// cannot be removed now is tried again the next time.
    pub(super) fn remove_doomed(&self) -> io::Result<()> {
        let doomed = std::mem::take(&mut *self.doomed.lock());
        if doomed.is_empty() {
            return Ok(());
        }
        let planted = planted(Fault::DeleteBeforeFloor);
        let mut result = if planted { Ok(()) } else { self.write_state() };
        let mut left = Vec::new();
        for path in doomed {
            if result.is_ok() {
                match self.files.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => result = Err(error),
                    _ => continue,
                }
            }
            left.push(path);
        }
        self.doomed.lock().append(&mut left);
        result
    }

    /// Writes down the sealed files and the removed ranges.
    pub(super) fn write_state(&self) -> io::Result<()> {
        let next_file = self.next_file.load(Ordering::Relaxed);
        let mut state = self.history.write().next_state(next_file);
        let clock = self.clock.lasting();
        state.clock = Some((&clock).into());
        let mut from = Some(0);
        while let Some(at) = from {
            let history = self.history.read();
            from = history.topic_states(at, TOPICS_AT_ONCE, &mut state.topics);
            // Topics that were forgotten while this went on lie below this.
            state.forgotten_through = history.topics.forgotten_through();
        }
        format::write_pair(&*self.files, &self.config.dir.join("STATE"), &state)?;
        self.clock.saved(clock);
        self.floors_are_written(&state.classes);
        Ok(())
    }

    fn job(&self, all: bool) -> Option<Job> {
        let (segment, classes) = {
            let history = self.history.read();
            if history.log.len() < 2 && !all {
                return None;
            }
            let small = self.config.segment_bytes / SMALL_PART;
            let classes = history.classes.iter();
            let classes = classes.map(|class| JobClass {
                identity: class.identity.clone(),
                floor: class.floor,
                small: class
                    .files
                    .last()
                    .filter(|file| file.bytes() < small)
                    .cloned(),
            });
            (history.log.front()?.clone(), classes.collect())
        };
        let mut topics = FxHashMap::default();
        let ids: Vec<_> = segment.topics().collect();
        for ids in ids.chunks(TOPICS_AT_ONCE) {
            let history = self.history.read();
            topics.extend(ids.iter().map(|&id| {
                let topic = history.topics.get(id);
                let floor = history.former_floor(&topic.name);
                (id, (topic.name.clone(), topic.class, floor))
            }));
        }
        Some(Job {
            through: segment.last().unwrap_or(0),
            last_time: (segment.records.last()).map_or(0, |record| record.stamp.published),
            segment,
            topics,
            classes,
        })
    }

    /// Writes the files of a segment's classes; `paths` are those that were begun.
    fn write_files(&self, job: &Job, paths: &mut Vec<PathBuf>) -> io::Result<Written> {
        let mut builders: FxHashMap<usize, Vec<(u64, Builder)>> = FxHashMap::default();
        let mut damaged = Vec::new();
        for record in &job.segment.records {
            let Some(frames) = job.segment.file.frames_of(record)? else {
                self.note_damage(&job.segment.file.path, record.first(), record.last());
                damaged.push(record.clone());
                continue;
            };
            for entry in record.entries.iter() {
                let (name, number, floor) = &job.topics[&entry.topic];
                let class = &job.classes[*number];
                if entry.sequence <= class.floor.max(*floor) {
                    continue;
                }
                let open = builders.entry(*number).or_default();
                if !open.last().is_some_and(|(_, builder)| builder.has_space()) {
                    let mut builder = self.begin(&class.identity, paths)?;
                    if open.is_empty()
                        && let Some(small) = &class.small
                        && !copy_into(&mut builder.1, small, class.floor)?
                    {
                        // It has damage, which stays where it is known.
                        builder = self.begin(&class.identity, paths)?;
                    }
                    open.push(builder);
                }
                if let Some((_, builder)) = open.last_mut() {
                    let end = (entry.offset + entry.len) as usize;
                    let frame = &frames[entry.offset as usize..end];
                    builder.push(name, entry, frame, record.stamp)?;
                }
            }
        }
        let mut files = Vec::new();
        for (class, builders) in builders {
            for (number, builder) in builders {
                files.push((class, Arc::new(builder.finish(number)?)));
            }
        }
        self.files.sync_dir(&self.sealed_dir())?;
        Ok(Written { files, damaged })
    }

    fn begin(&self, class: &str, paths: &mut Vec<PathBuf>) -> io::Result<(u64, Builder)> {
        let number = self.new_file_number();
        let path = segment::path(&self.sealed_dir(), number);
        paths.push(path.clone());
        let secret = self.record_secret;
        let builder = Builder::create(&*self.files, path, class.to_owned(), secret)?;
        Ok((number, builder))
    }

    pub(super) fn new_file_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }
}

/// Takes over the kept events of a small file; `false` when some of them are damaged.
fn copy_into(builder: &mut Builder, small: &Sealed, floor: Sequence) -> io::Result<bool> {
    let first = small.blocks.partition_point(|block| block.last <= floor);
    for number in first..small.blocks.len() {
        let Loaded::Whole(frames) = small.load(number)? else {
            return Ok(false);
        };
        let Some(index) = small.load_index(number)? else {
            return Ok(false);
        };
        for (at, entry) in frames.entries().iter().enumerate() {
            let Some(topic) = small.topics.get(entry.topic as usize) else {
                return Ok(false);
            };
            if entry.sequence > floor {
                let end = (entry.offset + entry.len) as usize;
                let frame = &frames.bytes()[entry.offset as usize..end];
                let entry = Entry {
                    topic: topic.id,
                    ..*entry
                };
                builder.push(&topic.name, &entry, frame, index.stamp_of(at))?;
            }
        }
    }
    Ok(true)
}
