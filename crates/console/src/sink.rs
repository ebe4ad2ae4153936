//! Standard output or standard error of a process that goes on when either fails: a bounded queue, and one thread that
//! writes.
//!
//! Holds: a caller that offers text never waits; a caller that puts text waits only for space in the queue. Text that
//! was taken is written in its order, or counted as dropped. No lock is held over a write. One line tells of dropped
//! text in its place, as soon as something is written again.
//! Does not: end. The thread may be in a write that never returns, so the end of the process waits for a limited time.
//!
//! The queue of `tracing-appender` is bounded in lines and not in bytes, and does not count the lines that a failed
//! write loses. Its guard prints to standard output, and panics if that is closed.

mod rate;
mod writer;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rate::Rate;
use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes of the log that wait to be written: some ten thousand lines, the output of a server in its worst second. The
/// thread that writes may hold as many again.
const LOG_BYTES_MAX: usize = 2 << 20;
/// How long the end of the process waits for lines that are not written yet. A reader that reads has taken them by
/// then; no other may hold up the end.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Text on its way to one file descriptor.
pub struct Sink {
    shared: Arc<Shared>,
}

/// The fate of the queued text when a write has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// The failed text is dropped and counted, and the next is tried.
    GoesOn,
    /// Nothing more is written: a hole would look like a whole.
    Ends,
}

/// The line about text that was dropped; an empty one is not written.
pub type Notice = fn(lines: u64) -> String;

struct Shared {
    bytes_max: usize,
    failing: Failing,
    queue: Mutex<Queue>,
    /// Notified when there is something to write.
    work: Condvar,
    /// Notified when nothing is left to write.
    idle: Condvar,
    progress: watch::Sender<Progress>,
    /// Lines that will never be written, since the start.
    dropped: AtomicU64,
}

struct Queue {
    text: Vec<u8>,
    /// Lines taken in since the start.
    accepted: u64,
    /// Lines that found no room since the writer last took the text.
    turned_away: u64,
    /// How much may be said in a second.
    rate: Option<Rate>,
    /// Lines beyond it, of which the next line or the end tells.
    beyond_rate: u64,
    /// When the writer began its current write.
    busy_since: Option<Instant>,
    stopped: bool,
    notice: Notice,
}

/// The fate of the lines that were taken in.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Lines written in full.
    written: u64,
    /// Lines given up.
    lost: u64,
    /// How often the writer took the queue, which frees it.
    takes: u64,
    /// Of the last write, if it failed.
    failure: Option<Arc<io::Error>>,
}

/// Standard output takes nothing.
#[derive(Clone, Debug, thiserror::Error)]
// The cause is in the text, so that it is said once.
#[error("standard output cannot be written: {0}")]
pub struct OutputError(Arc<io::Error>);

impl OutputError {
    /// Its reader has gone.
    pub fn reader_has_gone(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

/// Standard error, for the log and for all that is said beside the output.
pub fn stderr() -> &'static Sink {
    STDERR.get_or_init(|| {
        let notice =
            |lines| format!("longlived: {lines} lines were dropped here: nobody took them\n");
        Sink::start(io::stderr(), LOG_BYTES_MAX, Failing::GoesOn, notice)
            .expect("a thread can be started")
    })
}

/// Standard output, for a command that goes on while it is not read, as the first call wants it.
pub fn stdout(bytes_max: usize, failing: Failing, notice: Notice) -> &'static Sink {
    STDOUT.get_or_init(|| {
        Sink::start(io::stdout(), bytes_max, failing, notice).expect("a thread can be started")
    })
}

static STDERR: OnceLock<Sink> = OnceLock::new();
static STDOUT: OnceLock<Sink> = OnceLock::new();

/// Waits, for a limited time, until the queue is written.
pub fn flush() {
    for sink in [&STDOUT, &STDERR].into_iter().filter_map(OnceLock::get) {
        sink.flush();
    }
}

impl Sink {
    fn start(
        to: impl writer::Target + Send + 'static,
        bytes_max: usize,
        failing: Failing,
        notice: Notice,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            bytes_max,
            failing,
            queue: Mutex::new(Queue {
                text: Vec::new(),
                accepted: 0,
                turned_away: 0,
                rate: None,
                beyond_rate: 0,
                busy_since: None,
                stopped: false,
                notice,
            }),
            work: Condvar::new(),
            idle: Condvar::new(),
            progress: watch::Sender::default(),
            dropped: AtomicU64::new(0),
        });
        let writer = writer::Writer::new(shared.clone(), to);
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// How it is told that text was dropped.
    pub fn tell_with(&self, notice: Notice) {
        self.shared.queue.lock().notice = notice;
    }

    /// From now on this many bytes are taken at once, and as many each second, of text that is offered. Further text is dropped.
    pub fn limit(&self, bytes_a_second: u64) {
        self.shared.queue.lock().rate = Some(Rate::new(bytes_a_second, Instant::now()));
    }

    /// Writes the text, which ends with a line break, when its turn comes; drops it where there is no room.
    pub fn offer(&self, text: &[u8]) {
        let mut queue = self.shared.queue.lock();
        let is_within = match &mut queue.rate {
            Some(rate) => rate.takes(text.len(), Instant::now()),
            None => true,
        };
        if !is_within {
            queue.beyond_rate += lines(text);
            self.shared
                .dropped
                .fetch_add(lines(text), Ordering::Relaxed);
            return;
        }
        if queue.beyond_rate > 0 {
            let notice = (queue.notice)(std::mem::take(&mut queue.beyond_rate));
            // In their place: before this line.
            self.shared.enter(&mut queue, notice.as_bytes());
        }
        if self.shared.enter(&mut queue, text).is_none() {
            let lines = lines(text);
            queue.turned_away += lines;
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
            self.shared.work.notify_one();
        }
    }

    /// Waits for room. Returns the number of the text's last line, to be compared with [`Self::written`].
    pub async fn put(&self, text: &[u8]) -> Result<u64, OutputError> {
        let mut progress = None;
        loop {
            if self.shared.failing == Failing::Ends {
                self.failure()?;
            }
            let entered = self.shared.enter(&mut self.shared.queue.lock(), text);
            if let Some(line) = entered {
                return Ok(line);
            }
            // Looked at once more before the first wait: room that was made in between must be seen.
            match &mut progress {
                None => progress = Some(self.shared.progress.subscribe()),
                Some(progress) => progress.changed().await.expect("the sender is in `shared`"),
            }
        }
    }

    /// The number of the last line taken in.
    pub fn accepted(&self) -> u64 {
        self.shared.queue.lock().accepted
    }

    /// Lines written in full; where a failure ends it all, every line up to this number.
    pub fn written(&self) -> u64 {
        self.shared.progress.borrow().written
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Returns when everything taken in so far is written or given up; an error if the last write failed.
    pub async fn settled(&self) -> Result<(), OutputError> {
        let accepted = self.accepted();
        let mut progress = self.shared.progress.subscribe();
        let settled = progress.wait_for(|progress| {
            let ended = self.shared.failing == Failing::Ends && progress.failure.is_some();
            ended || progress.written + progress.lost >= accepted
        });
        drop(settled.await.expect("the sender is in `shared`"));
        self.failure()
    }

    /// Returns when the reader has gone.
    pub async fn gone(&self) -> OutputError {
        let mut progress = self.shared.progress.subscribe();
        let failed = |progress: &Progress| progress.failure.clone().map(OutputError);
        let gone = progress
            .wait_for(|progress| failed(progress).is_some_and(|failure| failure.reader_has_gone()));
        let gone = gone.await.expect("the sender is in `shared`");
        failed(&gone).expect("it was waited for")
    }

    /// Nothing more is written, so that [`Self::written`] is the last word.
    pub fn stop(&self) {
        self.shared.queue.lock().stopped = true;
    }

    /// Waits until nothing is left to write, as long as that goes on, and not for long.
    pub fn flush(&self) {
        let asked = Instant::now();
        let mut queue = self.shared.queue.lock();
        queue.turned_away += std::mem::take(&mut queue.beyond_rate);
        self.shared.work.notify_one();
        while !queue.is_written() {
            let began = queue.busy_since.map_or(asked, |began| began.min(asked));
            let left = (began + FLUSH_MAX).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.shared.idle.wait_for(&mut queue, left);
        }
    }

    /// An error if the last write failed.
    pub fn failure(&self) -> Result<(), OutputError> {
        match &self.shared.progress.borrow().failure {
            Some(error) => Err(OutputError(error.clone())),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Takes the text in if there is room. A text larger than all of it may be alone.
    fn enter(&self, queue: &mut Queue, text: &[u8]) -> Option<u64> {
        if !queue.text.is_empty() && queue.text.len() + text.len() > self.bytes_max {
            return None;
        }
        queue.text.extend_from_slice(text);
        queue.accepted += lines(text);
        self.work.notify_one();
        Some(queue.accepted)
    }
}

impl Queue {
    fn is_written(&self) -> bool {
        self.stopped || (self.text.is_empty() && self.turned_away == 0 && self.busy_since.is_none())
    }
}

#[expect(
    clippy::naive_bytecount,
    reason = "lines are short, and this is not worth a crate"
)]
fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
