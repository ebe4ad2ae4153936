//! Reads back the log of an earlier process, and the rest of a sealed file whose footer is damaged.
//!
//! Each batch was synced before the next was written, so at most the last one can be torn: it was never acknowledged.
//! A torn one lacks a part, which reads as zeros, because segments are allocated empty. A last batch that is there as a
//! whole and does not have its checksum was damaged later; it may have been acknowledged, so it is announced as lost
//! and its numbers are not given out again. Damage before the last batch is found by what comes behind it, and a log
//! that ends too early by `HEAD`.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use longlived_topic::TopicName;

use super::{
    Shared,
    builder::Builder,
    files::{OpenMode, read_all_of_damaged},
    format::{self, FileRef, Hole, State},
    head::{Head, Left, NUMBERS_AHEAD},
    history::{History, Recent},
    open::{OpenError, at},
    record::{self, ALIGN, HEADER_BYTES, Header, Index},
    segment::{self, Record, SEGMENT_HEADER_BYTES, SegmentFile},
};
use crate::{
    faults::{Fault, planted},
    frame::{Entry, Frames, topic_of},
    position::Sequence,
    store::clock::Stamp,
};

/// A disk writes so much at once: a part of a torn write is missing in multiples of it.
const SECTOR_BYTES: usize = 512;

/// The content of a stretch of a file.
enum Found {
    Whole {
        header: Header,
        index: Index,
        frames: Bytes,
        at: usize,
    },
    /// A header with nothing behind it that could be used.
    Damaged { header: Header, torn: bool },
    /// Something that is not even a header.
    Unknown { torn: bool },
}

/// Goes through the records of a file.
struct Scan<'a> {
    content: &'a Bytes,
    secret: u64,
    at: usize,
    /// Where the last thing ends that was ever written.
    written: usize,
}

impl<'a> Scan<'a> {
    fn new(content: &'a Bytes, secret: u64, at: usize) -> Self {
        Self {
            content,
            secret,
            at,
            written: at,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let rest = self.content.get(self.at..)?;
        let Some(header) = Header::decode(rest, self.secret) else {
            return self.skip();
        };
        let at = self.at;
        let end = at + header.record_bytes();
        self.at = end;
        self.written = end;
        let Some(content) = self.content.get(at..end) else {
            // Segments have all their space from the beginning: one that ends in the middle of a record was cut.
            return Some(Found::Damaged {
                header,
                torn: false,
            });
        };
        let frames_at = at + header.frames_at();
        let frames_end = frames_at + header.frames_bytes as usize;
        let frames = self.content.slice(frames_at..frames_end);
        let index = record::decode_index(&header, &content[HEADER_BYTES..]);
        let whole = record::frames_are_whole(&header, &frames) || planted(Fault::TornTailKept);
        Some(match index {
            Some(index) if whole => Found::Whole {
                header,
                index,
                frames,
                at,
            },
            _ => Found::Damaged {
                header,
                torn: lacks_a_sector(&self.content[at..frames_end], at),
            },
        })
    }
}

impl Scan<'_> {
    /// From something that is no header to the next one.
    fn skip(&mut self) -> Option<Found> {
        let begin = self.at;
        let is_header = |at: &usize| Header::decode(&self.content[*at..], self.secret).is_some();
        let next = (begin + ALIGN..self.content.len())
            .step_by(ALIGN)
            .find(is_header);
        self.at = next.unwrap_or(self.content.len());
        let between = &self.content[begin..self.at];
        if was_never_written(between) {
            // The end of the written records.
            return next.and_then(|_| self.next());
        }
        self.written = self.at;
        let header_is_missing = between.iter().take(ALIGN).all(|&byte| byte == 0);
        Some(Found::Unknown {
            torn: header_is_missing,
        })
    }
}

/// Whether nothing was ever written there. A record begins with several bytes that are not zero; one alone is damage of
/// space that was never used, and takes nothing from anybody. By the sector: most of a segment can be empty, and every
/// start looks at it.
fn was_never_written(content: &[u8]) -> bool {
    const ZEROS: [u8; SECTOR_BYTES] = [0; SECTOR_BYTES];
    let mut written = content
        .chunks(SECTOR_BYTES)
        .filter(|sector| sector != &&ZEROS[..sector.len()]);
    let not_zero = |sector: &[u8]| sector.iter().filter(|byte| **byte != 0).count();
    written.next().is_none_or(|sector| not_zero(sector) == 1) && written.next().is_none()
}

/// Whether some sector of a record was never written.
fn lacks_a_sector(content: &[u8], offset: usize) -> bool {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES) % SECTOR_BYTES;
    let zeros = |part: &[u8]| !part.is_empty() && part.iter().all(|&byte| byte == 0);
    let (begin, rest) = content.split_at(first.min(content.len()));
    zeros(begin) || rest.chunks(SECTOR_BYTES).any(zeros)
}

/// The findings in the log so far.
struct Recovery {
    last: Sequence,
    /// The last record read was torn or damaged, and the known facts about it; the next record decides which.
    pending: Option<(bool, Option<Sequence>)>,
    holes: Vec<Hole>,
}

impl Recovery {
    /// A record comes that follows `previous_last`.
    fn follow(&mut self, header: &Header) {
        self.pending = None;
        if header.previous_last > self.last {
            self.holes.push(Hole {
                after: self.last,
                through: header.previous_last,
            });
        }
        self.last = header.last;
    }

    /// An unusable record comes. Earlier records were synced before it was written, so an earlier unusable one was
    /// damaged.
    fn cannot_use(&mut self, torn: bool, header: Option<&Header>) {
        let before = header.map(|header| header.previous_last);
        let pending = self.pending.take().and_then(|(_, known)| known);
        if let Some(through) = before.max(pending)
            && through > self.last
        {
            self.holes.push(Hole {
                after: self.last,
                through,
            });
            self.last = through;
        }
        self.pending = Some((torn, header.map(|header| header.last)));
    }

    /// The log has ended: judges its end, when everything up to a sequence had been synced.
    fn end(&mut self, synced: Sequence) {
        let (torn, known) = self.pending.take().unwrap_or((true, None));
        if torn && synced <= self.last {
            // Never acknowledged. Its numbers are left out all the same: that costs nothing.
            self.last = self.last.max(known.unwrap_or(self.last));
            return;
        }
        // Behind the events that were certainly synced there may have been more, unless this was the last.
        let last_known = known.filter(|&known| known >= synced);
        let through = last_known.unwrap_or(self.last.max(synced) + NUMBERS_AHEAD);
        if through > self.last && !planted(Fault::NumberReusedAfterDamage) {
            self.holes.push(Hole {
                after: self.last,
                through,
            });
            self.last = through;
        }
    }
}

impl Shared {
    /// Takes over the segments that are left and seals them. `had_head` says that there was a `HEAD`.
    pub(super) fn recover_log(&self, had_head: bool) -> Result<(), OpenError> {
        let dir = self.log_dir();
        let head_path = self.head_file.path();
        let left = self.head_file.read(&*self.files).map_err(at(head_path))?;
        let names = self.files.list(&dir).map_err(at(&dir))?;
        let numbers: Vec<u64> = names.iter().filter_map(|n| segment::number_in(n)).collect();
        let sealed_through = self.history.read().sealed_through;
        // Numbers of a damaged last batch are not given out again, also when a crash came before that was written down.
        let lost_through = {
            let history = self.history.read();
            history.holes.last().map_or(0, |hole| hole.through)
        };
        // The directory is an older version's; its content is known anyway.
        let is_first = left == Left::Nothing && !had_head;
        if is_first {
            let begun = self.begin_head(self.head_at(sealed_through));
            begun.map_err(at(head_path))?;
        }
        let mut recovery = Recovery {
            last: sealed_through,
            pending: None,
            holes: Vec::new(),
        };
        for &number in &numbers {
            let path = segment::path(&dir, number);
            self.recover_segment(number, &mut recovery)
                .map_err(at(&path))?;
        }
        let synced = self.synced_by(left, recovery.last);
        recovery.end(synced);
        // Not before: a start that ended in the middle of this may have left something whole in front of a damage.
        recovery.last = recovery.last.max(lost_through);
        let head_is_lost = left == Left::Damaged || (left == Left::Nothing && had_head);
        if head_is_lost {
            let after = recovery.last;
            recovery.last += NUMBERS_AHEAD;
            recovery.holes.push(Hole {
                after,
                through: recovery.last,
            });
            tracing::error!(
                file = %head_path.display(), next = recovery.last + 1,
                "damaged or gone: nothing shows whether the end of the log is missing; numbers that may have been given \
                 out are left out"
            );
        }
        let changed = recovery.last > sealed_through;
        // Before a file is sealed: its footer has the time of the clock.
        self.clock.has_shown(self.history.read().last.taken);
        {
            let history = &mut *self.history.write();
            for hole in &recovery.holes {
                tracing::error!(
                    after = hole.after,
                    through = hole.through,
                    "damaged: these events of the log are lost"
                );
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
                history.add_hole(hole.after, hole.through);
            }
        }
        while self.seal_oldest(true).map_err(at(&dir))? {}
        if changed {
            let history = &mut *self.history.write();
            history.sealed_through = recovery.last;
            history.sealed_time = history.last.published;
        }
        if changed || is_first || !recovery.holes.is_empty() {
            self.write_state().map_err(at(&dir))?;
        }
        for &number in &numbers {
            let path = segment::path(&dir, number);
            match self.files.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&path)(error));
                }
                _ => {}
            }
        }
        let next = numbers.last().map_or(1, |last| last + 1);
        self.next_segment.store(next, Ordering::Relaxed);
        let begun = self.begin_head(self.head_at(recovery.last));
        begun.map_err(at(head_path))?;
        self.history.write().forget_former(recovery.last);
        self.last.store(recovery.last, Ordering::Release);
        Ok(())
    }

    /// How far the log is known to have been synced. An end that is missing is told.
    fn synced_by(&self, left: Left, found: Sequence) -> Sequence {
        let Left::Head(head) = left else { return 0 };
        if planted(Fault::EndOfLogNotMissed) {
            return 0;
        }
        // An event that is lost was published, too: none that follows is told to be older.
        self.history.write().saw(Stamp {
            published: head.published,
            taken: 0,
        });
        let synced = head.sequence;
        if synced > found {
            tracing::error!(
                dir = %self.log_dir().display(), found, synced,
                "the end of the log is not there: it was changed from outside, or the disk has lost synced bytes"
            );
        }
        synced
    }

    /// Begins `HEAD` at the end of a log.
    pub(super) fn begin_head(&self, head: Head) -> io::Result<()> {
        self.head_file.begin(&*self.files, head)
    }

    /// The end of a log whose last event has this number.
    fn head_at(&self, sequence: Sequence) -> Head {
        let published = self.history.read().last.published;
        Head {
            sequence,
            published,
        }
    }

    fn recover_segment(&self, number: u64, recovery: &mut Recovery) -> io::Result<()> {
        let file = Arc::new(SegmentFile::left(&*self.files, &self.log_dir(), number)?);
        let content = Bytes::from(read_all_of_damaged(&*file.file)?);
        let mut scan = Scan::new(&content, self.record_secret, SEGMENT_HEADER_BYTES);
        let ages = self.clock.ages();
        for found in scan.by_ref() {
            match found {
                Found::Whole { header, .. } | Found::Damaged { header, .. }
                    if header.last <= recovery.last => {} // Sealed before.
                Found::Whole {
                    header,
                    index,
                    frames,
                    at,
                } => {
                    recovery.follow(&header);
                    let history = &mut *self.history.write();
                    let Some(record) = history.take_back(&header, &index, &frames, at) else {
                        // The checksums hold and a frame names no topic: nothing can be made of it.
                        history.add_hole(header.first - 1, header.last);
                        continue;
                    };
                    let recent = index.keys.iter().filter_map(|&(entry, key)| {
                        Some(Recent {
                            key,
                            sequence: index.entries.get(entry as usize)?.sequence,
                            taken: index.stamp.taken,
                        })
                    });
                    history.remember(recent, &self.config, &ages);
                    history.keep(&file, record);
                }
                Found::Damaged { header, torn } => {
                    recovery.cannot_use(torn, Some(&header));
                    // Its index may be damaged, and with it the times of its events.
                    self.history.write().saw(Stamp {
                        published: header.time,
                        taken: 0,
                    });
                }
                Found::Unknown { torn } => recovery.cannot_use(torn, None),
            }
        }
        if segment::is_cut(&content, scan.written) {
            recovery.cannot_use(false, None);
        }
        Ok(())
    }

    /// A sealed file that is gone or has lost its footer: its readable part is written anew, the rest is announced.
    /// `STATE` has the loss before the new file counts; the caller then writes one that names the file.
    pub(super) fn salvage(&self, file: &FileRef, path: &Path, state: &State) -> io::Result<()> {
        self.note_damage(path, file.first, file.last);
        let content = match self.files.open(path, OpenMode::Read) {
            Ok(opened) => Bytes::from(read_all_of_damaged(&*opened)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
            Err(error) => return Err(error),
        };
        let number = self.new_file_number();
        let builder = self.salvage_into(number, file, &content)?;
        let with_holes = {
            let history = &mut *self.history.write();
            State {
                version: history.next_version(),
                holes: history.holes.clone(),
                ..state.clone()
            }
        };
        format::write_pair(&*self.files, &self.config.dir.join("STATE"), &with_holes)?;
        if let Some(builder) = builder {
            let sealed = Arc::new(builder.finish(number)?);
            let history = &mut *self.history.write();
            history.count_sealed(&file.class, &sealed);
        }
        self.files.sync_dir(&self.sealed_dir())
    }

    fn salvage_into(
        &self,
        number: u64,
        file: &FileRef,
        content: &Bytes,
    ) -> io::Result<Option<Builder>> {
        let scan = Scan::new(content, self.record_secret, 0);
        let mut builder = None;
        let mut last = file.first - 1;
        for found in scan {
            let Found::Whole {
                header,
                index,
                frames,
                ..
            } = found
            else {
                continue;
            };
            if header.first <= last || header.last > file.last {
                continue;
            }
            let history = &mut *self.history.write();
            if header.previous_last > last {
                history.add_hole(last, header.previous_last);
            }
            for (at, entry) in index.entries.iter().enumerate() {
                let end = (entry.offset + entry.len) as usize;
                let frame = frames.get(entry.offset as usize..end).unwrap_or_default();
                let name = topic_of(frame).and_then(|name| TopicName::parse(name).ok());
                let Some(name) = name else {
                    history.add_hole(entry.sequence - 1, entry.sequence);
                    continue;
                };
                let builder = match &mut builder {
                    Some(builder) => builder,
                    none => none.insert(Builder::create(
                        &*self.files,
                        segment::path(&self.sealed_dir(), number),
                        file.class.clone(),
                        self.record_secret,
                    )?),
                };
                let topic = history.known(&name);
                builder.push(&name, &Entry { topic, ..*entry }, frame, index.stamp_of(at))?;
            }
            last = header.last;
        }
        if last < file.last {
            self.history.write().add_hole(last, file.last);
        }
        Ok(builder)
    }
}

impl History {
    /// A batch of the log as it is known in memory; `None` when a frame names no topic.
    fn take_back(
        &mut self,
        header: &Header,
        index: &Index,
        frames: &Bytes,
        at: usize,
    ) -> Option<Record> {
        let frames = Frames::from_parts(frames.clone(), index.entries.clone())?;
        let mut entries = Vec::with_capacity(index.entries.len());
        for entry in frames.entries() {
            let end = (entry.offset + entry.len) as usize;
            let name = topic_of(&frames.bytes()[entry.offset as usize..end])?;
            let name = TopicName::parse(name).ok()?;
            let class = self.retention.class_of(&name);
            let topic = self.topics.known_again(&name, class);
            self.topics.recall(topic, entry.sequence, 0);
            entries.push(Entry { topic, ..*entry });
        }
        Some(Record {
            frames_at: (at + header.frames_at()) as u64,
            frames_bytes: header.frames_bytes,
            frames_crc: header.frames_crc,
            stamp: index.stamp,
            entries: entries.into(),
        })
    }
}
