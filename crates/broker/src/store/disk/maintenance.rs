//! The work beside publishing and reading: makes the next segment ahead, seals full ones, enforces retention. On a
//! thread of its own, or where it is asked to when the store runs inline.

use std::{io, sync::Arc, thread::JoinHandle};

use super::{
    Shared,
    files::{Kept, LockError, is_full, is_passing},
    segment::SegmentFile,
};

type Step = fn(&Shared) -> io::Result<()>;

/// Runs the maintenance until the store is dropped.
#[derive(Debug)]
pub(super) enum Runner {
    Inline,
    Thread {
        shared: Arc<Shared>,
        // `None` once it is joined.
        thread: Option<JoinHandle<()>>,
    },
}

impl Runner {
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        if shared.config.inline {
            return Ok(Self::Inline);
        }
        let thread = std::thread::Builder::new().name("store-maintenance".to_owned());
        let run = shared.clone();
        Ok(Self::Thread {
            shared: shared.clone(),
            thread: Some(thread.spawn(move || run.maintain_until_stopped())?),
        })
    }

    /// Does the thread's work inline.
    pub(super) fn tick(&self, shared: &Shared) {
        match self {
            Self::Inline => shared.maintain(),
            Self::Thread { .. } => {}
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Self::Thread { shared, thread } = self {
            shared.bell.stop();
            if let Some(thread) = thread.take() {
                thread.join().ok();
            }
        }
    }
}

/// A panic must not leave a store that only looks alive.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = io::Error::other("it panicked; see the log");
            self.0.set_broken("the maintenance has ended", &error);
        }
    }
}

impl Shared {
    fn maintain_until_stopped(&self) {
        let _ended = Ended(self);
        while !self.bell.is_stopped() {
            self.maintain();
            self.bell.wait(self.config.retention_interval);
        }
    }

    /// One round. Work that fails for lack of space is tried again in the next. After any other failure the state of
    /// the disk is unknown, and the store is broken.
    fn maintain(&self) {
        if self.broken.get().is_some() {
            return;
        }
        let steps: [(&str, Step); 6] = [
            ("cannot hold the directory", Self::check_lock),
            ("cannot make the next segment", Self::prepare),
            ("cannot sync HEAD", Self::sync_head),
            ("cannot seal a segment", Self::seal_full),
            ("cannot enforce retention", Self::enforce_retention),
            ("cannot write down the clock of ages", Self::save_clock),
        ];
        for (what, step) in steps {
            match step(self) {
                Ok(()) => {}
                Err(error) if is_full(&error) || is_passing(&error) => {
                    tracing::warn!(%error, dir = %self.config.dir.display(), "{what}");
                }
                Err(error) => {
                    self.set_broken(what, &error);
                    return;
                }
            }
        }
    }

    /// Acknowledged events must be where the next process looks for them, and no other process may write there.
    fn check_lock(&self) -> io::Result<()> {
        let dir = self.config.dir.display();
        match self.lock.check() {
            Ok(Kept::Whole) => Ok(()),
            Ok(Kept::FileReplaced) => {
                tracing::error!(%dir, "the file `LOCK` of the directory in use was removed or replaced; it is made anew");
                Ok(())
            }
            Err(LockError::Io(error)) => Err(error),
            Err(LockError::Replaced) => Err(io::Error::other(
                "the directory in use was removed or replaced: nothing that is published would be found again",
            )),
            Err(LockError::Held(holder)) => {
                let text = format!("the file `LOCK` was replaced, and {holder} has it");
                Err(io::Error::other(text))
            }
        }
    }

    /// The segment that is written to.
    pub(super) fn active(&self) -> Option<Arc<SegmentFile>> {
        let history = self.history.read();
        history.log.back().map(|segment| segment.file.clone())
    }

    /// `HEAD` is to survive a power cut, too.
    fn sync_head(&self) -> io::Result<()> {
        self.head_file.sync()
    }

    /// Makes the next segment while the writer still has half of one.
    fn prepare(&self) -> io::Result<()> {
        let is_early = self.active().is_some_and(|active| !active.is_filling());
        // The last bytes of a disk are for messages that are being written, not for those that may come.
        if is_early || self.writable().is_err() {
            return Ok(());
        }
        // Held while one is made: segments are used in the order of their numbers.
        let mut prepared = self.prepared.lock();
        if prepared.is_none() {
            *prepared = Some(self.make_segment(0)?);
        }
        Ok(())
    }

    fn save_clock(&self) -> io::Result<()> {
        if self.clock.is_unsaved() {
            self.write_state()?;
        }
        Ok(())
    }

    fn seal_full(&self) -> io::Result<()> {
        while self.seal_oldest(false)? {}
        Ok(())
    }
}
