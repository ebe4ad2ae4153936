//! Moves the oldest segment of the log into sealed files, one for each class that has events in it.
//!
//! Holds: readers are sent to the new files when those are synced, and the segment is removed when `STATE` names them; a
//! crash in between leaves the segment to be sealed again.

use std::{io, sync::Arc, sync::atomic::Ordering};

use rustc_hash::FxHashMap;

use super::{
    Shared,
    builder::Builder,
    format::{self, State},
    sealed::Sealed,
    segment::{self, Record, SegmentFile},
};
use crate::{
    faults::{Fault, planted},
    frame::TopicId,
    position::Sequence,
    topic::TopicName,
};

/// A copy of what is needed of a segment, so that no lock is held while files are written.
struct Job {
    file: Arc<SegmentFile>,
    records: Vec<Record>,
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
        self.write_state()?;
        self.files.remove(&job.file.path)?;
        Ok(true)
    }

    /// Writes down what is sealed and what is gone.
    pub(super) fn write_state(&self) -> io::Result<()> {
        let state: State = self.history.write().next_state();
        format::write_pair(&*self.files, &self.config.dir.join("STATE"), &state)
    }

    fn job(&self, all: bool) -> Option<Job> {
        let history = self.history.read();
        if history.log.len() < 2 && !all {
            return None;
        }
        let segment = history.log.front()?;
        let mut topics = FxHashMap::default();
        for entry in segment.records.iter().flat_map(|r| r.entries.iter()) {
            topics.entry(entry.topic).or_insert_with(|| {
                let topic = history.topics.get(entry.topic);
                (topic.name.clone(), topic.class)
            });
        }
        Some(Job {
            file: segment.file.clone(),
            records: segment.records.clone(),
            topics,
            classes: history
                .classes
                .iter()
                .map(|class| (class.identity.clone(), class.floor))
                .collect(),
            through: segment.last().unwrap_or(0),
            time: segment.records.last().map_or(0, |record| record.time),
        })
    }

    fn write_files(&self, job: &Job) -> io::Result<Written> {
        let mut builders: FxHashMap<usize, Vec<Builder>> = FxHashMap::default();
        let mut damaged = Vec::new();
        for record in &job.records {
            let Some(frames) = job.file.frames_of(record)? else {
                self.note_damage(&job.file.path, record.first(), record.last());
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
