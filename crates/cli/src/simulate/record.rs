//! `--record`: the requests and responses of the clients, as a file that `longlived check` judges.
//!
//! Holds: nothing is left out. The queue to the thread that writes is bounded, and while it is full the clients
//! wait; a failed write ends the run with an error.
//! Does not: judge, or know how a fault came about. The absence of a server shows in its streams.

mod entry;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use longlived_checker::history::{FaultRecord, FaultsOver, Head, Header, Record, Writer};
use longlived_client::Position;
use longlived_client::record::{Recorded, Recorder, Recording, StreamEnd, Told};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Records that may wait to be written; at the limit the clients wait.
const RECORDS_WAITING_MAX: usize = 16_384;

/// A history that is being written.
pub(super) struct History {
    shared: Arc<Shared>,
    writer: JoinHandle<std::io::Result<()>>,
    path: PathBuf,
}

/// Told by the clients.
struct Shared {
    began: Instant,
    /// `None` when the history is closed: later records of a client are not part of it.
    queue: Mutex<Option<SyncSender<Record>>>,
    weather: Mutex<Weather>,
    /// Cancelled when nothing more can be written.
    broken: CancellationToken,
    /// Something the format has no word for.
    beyond: Mutex<Option<String>>,
}

/// Whether the server is there, as far as the streams show it.
#[derive(Default)]
struct Weather {
    away: bool,
    /// The last stream that was opened.
    last_stream: u64,
    /// The last stream that was opened before the server was away.
    last_before: u64,
    /// The first stream since it came back.
    first_stream: u64,
    /// Every client has had a stream since this.
    over_at: Option<u64>,
}

impl History {
    /// Replaces the file and begins it. `foreign`: the topics on which others publish.
    pub(super) fn create(path: &Path, foreign: &[String]) -> anyhow::Result<Self> {
        let writer = Writer::create(path, &Header::new(foreign))
            .with_context(|| format!("the history {} cannot be written", path.display()))?;
        let (queue, records) = sync_channel(RECORDS_WAITING_MAX);
        let broken = CancellationToken::new();
        let on_error = broken.clone();
        let writer = std::thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || {
                let written = write(writer, &records);
                if written.is_err() {
                    on_error.cancel();
                }
                written
            })
            .context("the thread that writes the history")?;
        Ok(Self {
            shared: Arc::new(Shared {
                began: Instant::now(),
                queue: Mutex::new(Some(queue)),
                weather: Mutex::default(),
                broken,
                beyond: Mutex::default(),
            }),
            writer,
            path: path.to_owned(),
        })
    }

    /// For the clients.
    pub(super) fn recording(&self) -> Recording {
        Recording::new(Teller(self.shared.clone()))
    }

    /// Returns when nothing more can be written: the run is to end, and [`close`](Self::close) says why.
    pub(super) async fn broken(&self) {
        self.shared.broken.cancelled().await;
    }

    /// Every client has a stream at this moment.
    pub(super) fn everybody_is_connected(&self) {
        let at = self.shared.at();
        let mut weather = self.shared.weather.lock();
        if !weather.away {
            weather.over_at.get_or_insert(at);
        }
    }

    /// The end of the log, as the server tells it.
    pub(super) fn head(&self, head: Position) {
        self.shared.append(Record::Head(Head {
            at: self.shared.at(),
            epoch: head.epoch,
            sequence: head.sequence,
        }));
    }

    /// Finishes the file: everything told so far is in it.
    pub(super) fn close(self) -> anyhow::Result<()> {
        if let Some(at) = self.shared.weather.lock().over_at {
            self.shared.append(Record::FaultsOver(FaultsOver { at }));
        }
        drop(self.shared.queue.lock().take());
        let written = self.writer.join().expect("the writer does not panic");
        let path = self.path.display();
        written.with_context(|| format!("the history {path} cannot be written"))?;
        match self.shared.beyond.lock().take() {
            None => Ok(()),
            Some(what) => anyhow::bail!("the history {path} is incomplete: {what}"),
        }
    }
}

/// Writes until there are no more records. When the queue is empty the lines are handed to the system.
fn write(mut writer: Writer<File>, records: &Receiver<Record>) -> std::io::Result<()> {
    loop {
        let record = match records.try_recv() {
            Ok(record) => record,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                writer.flush()?;
                match records.recv() {
                    Ok(record) => record,
                    Err(_closed) => break,
                }
            }
        };
        writer.append(&record)?;
    }
    match writer.finish()?.sync_data() {
        // A pipe has no disk behind it.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

impl Shared {
    /// Nanoseconds since the recording began.
    fn at(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn append(&self, record: Record) {
        let queue = self.queue.lock();
        // A writer that has gone has cancelled `broken`.
        if let Some(queue) = queue.as_ref() {
            let _ = queue.send(record);
        }
    }

    fn fault(&self, at: u64, what: &str) {
        let what = what.to_owned();
        self.append(Record::Fault(FaultRecord { at, what }));
    }

    /// A stream shows that the server is there, or that it is not.
    fn look(&self, at: u64, happened: &Recorded<'_>) {
        let mut weather = self.weather.lock();
        match *happened {
            Recorded::StreamOpened { stream, .. } => weather.last_stream = stream,
            // One that was opened before may have been answered by the server that is gone.
            Recorded::Told {
                stream,
                told: Told::Welcome(_),
            } if weather.away && stream > weather.last_before => {
                weather.away = false;
                weather.first_stream = stream;
                self.fault(at, "server_back");
            }
            Recorded::StreamEnded {
                stream,
                end: StreamEnd::Lost(_),
                ..
            } => {
                weather.over_at = None;
                // An older stream repeats a known loss: it was read to its end first.
                if !weather.away && stream >= weather.first_stream {
                    weather.away = true;
                    weather.last_before = weather.last_stream;
                    self.fault(at, "server_away");
                }
            }
            _ => {}
        }
    }
}

struct Teller(Arc<Shared>);

impl Recorder for Teller {
    fn record(&self, happened: Recorded<'_>) {
        let at = self.0.at();
        match entry::of(at, &happened) {
            Ok(Some(record)) => self.0.append(record),
            Ok(None) => {}
            Err(beyond) => {
                self.0.beyond.lock().get_or_insert(beyond);
                self.0.broken.cancel();
            }
        }
        self.0.look(at, &happened);
    }
}
