//! Appends batches to the log's segment and syncs them, one after the other, on a thread of its own.
//!
//! Holds: a batch that failed leaves nothing behind it; after a failed sync nothing is written again, since the state
//! of the disk is not known any more.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    files::{is_full, is_passing},
    head::{Head, NUMBERS_AHEAD},
    record::{Encoded, Header},
    segment::{SEGMENT_HEADER_BYTES, SegmentFile},
};
use crate::{frame::Frames, store::AppendError};

/// A segment has this many times the space of the one before. A file is not given more space later: on ext4 a file in
/// several pieces made each commit cost a tenth to a third more.
const SEGMENT_GROWTH: u64 = 4;

/// Where a batch is.
pub(super) struct Place {
    pub(super) file: Arc<SegmentFile>,
    pub(super) at: u64,
}

/// A batch to be made durable.
pub(super) struct Job {
    pub(super) encoded: Encoded,
    pub(super) frames: Arc<Frames>,
    reply: oneshot::Sender<Result<Place, AppendError>>,
}

/// The writer, where it runs.
#[derive(Debug)]
pub(super) enum Commits {
    Inline(Mutex<Writer>),
    Thread {
        // `None` once the store is dropped.
        jobs: Option<mpsc::Sender<Job>>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Commits {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let inline = shared.config.inline;
        let mut writer = Writer {
            shared,
            active: None,
        };
        if inline {
            return Ok(Self::Inline(Mutex::new(writer)));
        }
        let (jobs, mut queue) = mpsc::channel::<Job>(1);
        let run = move || {
            while let Some(job) = queue.blocking_recv() {
                let place = writer.commit(&job.encoded, &job.frames);
                // The waiting task may be gone with its runtime; the batch is on the disk nevertheless.
                job.reply.send(place).ok();
            }
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        Ok(Self::Thread {
            jobs: Some(jobs),
            thread: Some(thread.spawn(run)?),
        })
    }

    pub(super) async fn commit(
        &self,
        encoded: Encoded,
        frames: Arc<Frames>,
    ) -> Result<Place, AppendError> {
        match self {
            Self::Inline(writer) => writer.lock().commit(&encoded, &frames),
            Self::Thread { jobs, .. } => {
                let (reply, place) = oneshot::channel();
                let job = Job {
                    encoded,
                    frames,
                    reply,
                };
                let ended = || AppendError::Broken("the store's writer has ended".to_owned());
                let jobs = jobs.as_ref().ok_or_else(ended)?;
                jobs.send(job).await.map_err(|_| ended())?;
                place.await.map_err(|_| ended())?
            }
        }
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        if let Self::Thread { jobs, thread } = self {
            jobs.take();
            if let Some(thread) = thread.take() {
                thread.join().ok();
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    active: Option<Arc<SegmentFile>>,
}

impl Writer {
    fn commit(&mut self, encoded: &Encoded, frames: &Frames) -> Result<Place, AppendError> {
        if let Some(broken) = self.shared.broken.get() {
            return Err(AppendError::Broken(broken.clone()));
        }
        self.shared.note_ahead(&encoded.header)?;
        let record_bytes = encoded.header.record_bytes();
        let fitting = self.active.take_if(|active| active.has_space(record_bytes));
        let active = match fitting {
            Some(active) => active,
            None => self.next_segment(record_bytes)?,
        };
        let at = active.used();
        if let Err(error) = active.append(encoded, frames) {
            return Err(self.take_back(&active, &error));
        }
        if let Err(error) = active.file.sync() {
            // The pages may count as clean although they are not on the disk: trying again would prove nothing.
            return Err(self.shared.set_broken("cannot sync the log", &error));
        }
        let was_filling = active.is_filling();
        active.keep(record_bytes);
        if active.is_filling() && !was_filling {
            // The next one is to be there before it is needed.
            self.shared.bell.ring();
        }
        let head_file = &self.shared.head_file;
        let mut noted = head_file.note(Head {
            sequence: encoded.header.last,
            published: encoded.header.time,
        });
        if at == SEGMENT_HEADER_BYTES as u64 {
            // From now on the segment is missed if it is gone, also after a power cut.
            noted = noted.and_then(|()| head_file.sync());
        }
        noted.map_err(|error| self.shared.set_broken("cannot write HEAD", &error))?;
        let place = Place {
            file: active.clone(),
            at,
        };
        self.active = Some(active);
        let counters = &self.shared.counters;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        let events = u64::from(encoded.header.count);
        counters.events.fetch_add(events, Ordering::Relaxed);
        Ok(place)
    }

    /// A write failed: the segment ends before it, and the next batch begins another.
    fn take_back(&self, active: &SegmentFile, error: &io::Error) -> AppendError {
        let full = is_full(error);
        match active.take_back() {
            Ok(()) if full => self.shared.full(),
            Ok(()) => self.shared.set_broken("cannot write the log", error),
            Err(error) => self.shared.set_broken("cannot take back a write", &error),
        }
    }

    fn next_segment(&self, record_bytes: usize) -> Result<Arc<SegmentFile>, AppendError> {
        let shared = &self.shared;
        // Held while one is made: segments are used in the order of their numbers.
        let mut prepared = shared.prepared.lock();
        let file = match prepared.take() {
            Some(file) if file.has_space(record_bytes) => Ok(file),
            too_small => {
                if let Some(file) = too_small {
                    shared.files.remove(&file.path).ok();
                }
                shared.make_segment(record_bytes)
            }
        };
        drop(prepared);
        file.map(Arc::new)
            .map_err(|error| shared.not_allocated(&error))
    }
}

impl Shared {
    /// An empty segment with space for a record at least. The first is small and each is larger than the one before, up
    /// to the full size. So a log with few messages takes little space, and little is read at the next start.
    pub(super) fn make_segment(&self, record_bytes: usize) -> io::Result<SegmentFile> {
        let number = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let needed = (SEGMENT_HEADER_BYTES + record_bytes) as u64;
        let before = self.active().map_or(0, |active| active.allocated());
        let bytes = before
            .max(needed)
            .saturating_mul(SEGMENT_GROWTH)
            .max(self.config.segment_begin_bytes)
            .min(self.config.segment_bytes)
            // The space above the reserve may be less.
            .min(self.left()?)
            .max(needed);
        SegmentFile::create(&*self.files, &self.log_dir(), number, bytes)
    }

    /// The space of the disk that publishing may still take.
    fn left(&self) -> io::Result<u64> {
        let available = self.files.available(&self.config.dir)?;
        Ok(available.saturating_sub(self.config.reserve_bytes))
    }

    /// No number is given out that is far above the `HEAD` on the disk. Seldom is there work to do.
    fn note_ahead(&self, header: &Header) -> Result<(), AppendError> {
        let needed = header.last.saturating_sub(NUMBERS_AHEAD);
        let needed = needed.min(header.first - 1);
        if self.head_file.synced() >= needed {
            return Ok(());
        }
        let synced = self.head_file.sync();
        synced.map_err(|error| self.set_broken("cannot sync HEAD", &error))?;
        if self.head_file.synced() < needed {
            return Err(self.full());
        }
        Ok(())
    }

    /// There is no space for a batch.
    fn not_allocated(&self, error: &io::Error) -> AppendError {
        if is_full(error) {
            self.full()
        } else if is_passing(error) {
            AppendError::Unavailable(format!("cannot allocate space in the log: {error}"))
        } else {
            self.set_broken("cannot allocate space in the log", error)
        }
    }

    /// Whether publishing would leave the reserve alone.
    pub(super) fn writable(&self) -> Result<(), AppendError> {
        if let Some(broken) = self.broken.get() {
            return Err(AppendError::Broken(broken.clone()));
        }
        let available = self.files.available(&self.config.dir);
        let available =
            available.map_err(|error| self.set_broken("cannot ask for free space", &error))?;
        let reserve = self.config.reserve_bytes;
        if available < reserve {
            return Err(AppendError::Full { available, reserve });
        }
        Ok(())
    }

    /// The disk has said that it is full.
    fn full(&self) -> AppendError {
        let available = self.files.available(&self.config.dir);
        AppendError::Full {
            available: available.unwrap_or(0),
            reserve: self.config.reserve_bytes,
        }
    }
}
