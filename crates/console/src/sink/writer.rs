//! The thread that writes.
//!
//! Holds: a piece is at most as long as a pipe takes at once, and ends with a line where it can. So a line is written
//! or not, the written lines are known, and lines of several processes on one pipe do not mix.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{Failing, Notice, Shared, lines};

/// The bytes that a ready pipe takes without waiting (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;
/// Room that is kept for the next text.
const ROOM_KEPT_BYTES: usize = 64 << 10;

/// Where text goes.
pub(super) trait Target {
    /// Waits until something can be written, or cannot and never will.
    fn ready(&self);

    fn write(&self, piece: &[u8]) -> rustix::io::Result<usize>;
}

impl<F: AsFd> Target for F {
    fn ready(&self) {
        // An error of the descriptor will show in the write.
        let _ = poll(&mut [PollFd::new(self, PollFlags::OUT)], None);
    }

    fn write(&self, piece: &[u8]) -> rustix::io::Result<usize> {
        rustix::io::write(self, piece)
    }
}

pub(super) struct Writer<T> {
    shared: Arc<Shared>,
    to: T,
    /// Lines that failed writes have lost and that were not reported yet.
    untold: u64,
    /// The last write ended within a line.
    mid_line: bool,
    /// The rest of that line is lost.
    torn: bool,
}

impl<T: Target> Writer<T> {
    pub(super) fn new(shared: Arc<Shared>, to: T) -> Self {
        Self {
            shared,
            to,
            untold: 0,
            mid_line: false,
            torn: false,
        }
    }

    /// Until the process ends.
    pub(super) fn run(mut self) {
        let mut text = Vec::new();
        loop {
            let (turned_away, notice) = self.take(&mut text);
            self.write(&text, turned_away, notice);
            text.clear();
            text.shrink_to(ROOM_KEPT_BYTES);
        }
    }

    /// Waits for text. Returns how many lines found no room behind it.
    fn take(&self, text: &mut Vec<u8>) -> (u64, Notice) {
        let mut queue = self.shared.queue.lock();
        queue.busy_since = None;
        self.shared.idle.notify_all();
        while queue.text.is_empty() && queue.turned_away == 0 {
            self.shared.work.wait(&mut queue);
        }
        std::mem::swap(&mut queue.text, text);
        queue.busy_since = Some(Instant::now());
        let turned_away = std::mem::take(&mut queue.turned_away);
        let notice = queue.notice;
        drop(queue);
        self.shared
            .progress
            .send_modify(|progress| progress.takes += 1);
        (turned_away, notice)
    }

    /// Lines that failed before are told before the text, lines that did not fit after it.
    fn write(&mut self, text: &[u8], turned_away: u64, notice: Notice) {
        let told = self.tell(self.untold, notice);
        if told.is_ok() {
            self.untold = 0;
        }
        let written = match told {
            Ok(()) => self.lines(text),
            Err(error) => self.failed(error, lines(text)),
        };
        if written.is_err() || self.tell(turned_away, notice).is_err() {
            self.untold += turned_away;
        }
    }

    /// One line of our own, which is not counted.
    fn tell(&mut self, lines: u64, notice: Notice) -> io::Result<()> {
        if lines == 0 {
            return Ok(());
        }
        let notice = notice(lines);
        let mut rest = notice.as_bytes();
        while !rest.is_empty() {
            let written = self.piece(rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    fn lines(&mut self, text: &[u8]) -> Result<(), ()> {
        let mut rest = text;
        while !rest.is_empty() {
            match self.piece(rest) {
                Ok(written) => {
                    let whole = lines(&rest[..written]);
                    rest = &rest[written..];
                    self.shared.progress.send_modify(|progress| {
                        progress.written += whole;
                        progress.failure = None;
                    });
                }
                Err(error) => return self.failed(error, lines(rest)),
            }
        }
        Ok(())
    }

    /// Counts the lines that are lost with a failed write.
    fn failed(&mut self, error: io::Error, lost: u64) -> Result<(), ()> {
        self.untold += lost;
        self.torn = self.mid_line;
        self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
        if self.shared.failing == Failing::Ends {
            self.shared.queue.lock().stopped = true;
        }
        self.shared.progress.send_modify(|progress| {
            progress.lost += lost;
            // Text that was stopped for a failure belongs to that failure: its rest is no failure of its own.
            let is_the_cause = progress.failure.is_none() || self.shared.failing != Failing::Ends;
            if is_the_cause {
                progress.failure = Some(Arc::new(error));
            }
        });
        Err(())
    }

    /// Writes some of it. Waits as long as it takes.
    fn piece(&mut self, text: &[u8]) -> io::Result<usize> {
        let end = text.len().min(PIECE_BYTES);
        let end = match text[..end].iter().rposition(|byte| *byte == b'\n') {
            Some(line) => line + 1,
            None => end,
        };
        self.shared.queue.lock().busy_since = Some(Instant::now());
        loop {
            // Waited for here and not in the write: text that is stopped meanwhile writes nothing more.
            self.to.ready();
            if self.shared.queue.lock().stopped {
                return Err(io::Error::other("it was stopped"));
            }
            // The rest of a line whose beginning is lost would be taken for the end of that one.
            let piece = if self.torn { b"\n" } else { &text[..end] };
            match self.to.write(piece) {
                Ok(_) if self.torn => (self.torn, self.mid_line) = (false, false),
                Ok(written) => {
                    self.mid_line = text[..written].last() != Some(&b'\n');
                    return Ok(written);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
