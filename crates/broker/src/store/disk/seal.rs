//! Moves the oldest segment of the log into sealed files, one for each class that has events in it.
//!
//! Holds: readers are sent to the new files when those are synced, and the segment is removed when `STATE` names them; a
//! crash in between leaves the segment to be sealed again.

use std::{io, sync::Arc, sync::atomic::Ordering};

use rustc_hash::FxHashMap;

use super::{
    Shared,
    builder::Builder,
    format,
    sealed::Sealed,
    segment::{self, Segment},
};
use crate::{
    faults::{Fault, planted},
    frame::TopicId,
    position::Sequence,
    topic::TopicName,
};

/// The most topics that one hold of the lock copies.
const TOPICS_AT_ONCE: usize = 4_096;

/// What is needed to seal a segment, so that no lock is held while files are written.
struct Job {
    segment: Arc<Segment>,
    topics: FxHashMap<TopicId, (TopicName, usize)>,
    classes: Vec<(String, Sequence)>,
    through: Sequence,
    time: i64,
}

/// The new files and their classes, and what could not be read.
struct Written {
    files: Vec<(usize, Arc<Sealed>)>,
    damaged: Vec<(Sequence, Sequence)>,
}

impl Shared {
    /// Seals the oldest segment; whether there was one. The last one is still written to, unless `all` says that
    /// nobody does.
    pub(super) fn seal_oldest(&self, all: bool) -> io::Result<bool> {
        let Some(job) = self.job(all) else {
            return Ok(false);
        };
        let Written { files, damaged } = self.write_files(&job)?;
        let ids = self.history.read().ids_through(job.through);
        if !planted(Fault::IdsLostWhenSealed) {
            format::write(&*self.files, &self.config.dir.join("IDS"), &ids)?;
        }
        {
            let history = &mut *self.history.write();
            history.add_files(files);
            for (after, through) in damaged {
                history.add_hole(after, through);
            }
            history.sealed_through = history.sealed_through.max(job.through);
            history.sealed_time = history.sealed_time.max(job.time);
            history.log.pop_front();
        }
        if !planted(Fault::SegmentRemovedUnnamed) {
            self.write_state()?;
        }
        // The last to hold it: freeing a long index takes its time, outside the lock.
        self.files.remove(&job.segment.file.path)?;
        Ok(true)
    }

    /// Writes down what is sealed and what is gone.
    pub(super) fn write_state(&self) -> io::Result<()> {
        let mut state = self.history.write().next_state();
        let mut from = Some(0);
        while let Some(at) = from {
            let history = self.history.read();
            from = history.topic_states(at, TOPICS_AT_ONCE, &mut state.topics);
            // Topics that were forgotten while this went on lie below this.
            state.forgotten_through = history.topics.forgotten_through();
        }
        format::write_pair(&*self.files, &self.config.dir.join("STATE"), &state)
    }

    fn job(&self, all: bool) -> Option<Job> {
        let (segment, classes) = {
            let history = self.history.read();
            if history.log.len() < 2 && !all {
                return None;
            }
            let classes = history.classes.iter();
            let classes = classes.map(|class| (class.identity.clone(), class.floor));
            (history.log.front()?.clone(), classes.collect())
        };
        let mut topics = FxHashMap::default();
        let ids: Vec<_> = segment.topics().collect();
        for ids in ids.chunks(TOPICS_AT_ONCE) {
            let history = self.history.read();
            topics.extend(ids.iter().map(|&id| {
                let topic = history.topics.get(id);
                (id, (topic.name.clone(), topic.class))
            }));
        }
        Some(Job {
            through: segment.last().unwrap_or(0),
            time: segment.records.last().map_or(0, |record| record.time),
            segment,
            topics,
            classes,
        })
    }

    fn write_files(&self, job: &Job) -> io::Result<Written> {
        let mut builders: FxHashMap<usize, Vec<Builder>> = FxHashMap::default();
        let mut damaged = Vec::new();
        for record in &job.segment.records {
            let Some(frames) = job.segment.file.frames_of(record)? else {
                self.note_damage(&job.segment.file.path, record.first(), record.last());
                damaged.push((record.first() - 1, record.last()));
                continue;
            };
            for entry in record.entries.iter() {
                let (name, class) = &job.topics[&entry.topic];
                let (identity, floor) = &job.classes[*class];
                if entry.sequence <= *floor {
                    continue;
                }
                let open = builders.entry(*class).or_default();
                if !open.last().is_some_and(Builder::has_room) {
                    let path = segment::path(&self.sealed_dir(), entry.sequence);
                    let secret = self.record_secret;
                    let class = identity.clone();
                    open.push(Builder::create(&*self.files, path, class, secret)?);
                }
                if let Some(builder) = open.last_mut() {
                    let end = (entry.offset + entry.len) as usize;
                    let frame = &frames[entry.offset as usize..end];
                    builder.push(name, entry, frame, record.time)?;
                }
            }
        }
        let mut files = Vec::new();
        for (class, builders) in builders {
            for builder in builders {
                files.push((class, Arc::new(builder.finish(self.new_file_id())?)));
            }
        }
        self.files.sync_dir(&self.sealed_dir())?;
        Ok(Written { files, damaged })
    }

    pub(super) fn new_file_id(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }
}

/// Whether an error says that the disk has lost what was written, and not that it cannot be asked now.
pub(super) fn is_damage(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(EIO)
}
