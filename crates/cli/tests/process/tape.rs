//! Records the requests and responses of a test's clients, and has the checker judge them.
//!
//! Holds: everything is kept in memory, so that recording slows the clients as little as it can. A history that
//! breaks a rule is written to a file beside the build, where `longlived check` reads it.

// The responses to a client in the words of the history: the same code as `simulate --record` has.
#[path = "../../src/simulate/record/entry.rs"]
mod entry;

use std::path::PathBuf;
use std::sync::Arc;

use longlived_checker::history::{
    FaultRecord, FaultsOver, Header, Record, Trimmed, Writer, from_records,
};
use longlived_checker::{Limits, Report, check};
use longlived_client::record::{Recorded, Recorder, Recording};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::support::PATIENCE;

/// A history in the making.
pub(crate) struct Tape {
    shared: Arc<Shared>,
    recording: Recording,
}

struct Shared {
    began: Instant,
    /// `None` when it is closed: later records of a client are not part of it.
    records: Mutex<Option<Vec<Record>>>,
}

impl Tape {
    pub(crate) fn new() -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            records: Mutex::new(Some(Vec::new())),
        });
        Self {
            recording: Recording::new(Teller(shared.clone())),
            shared,
        }
    }

    /// For every client of the test: publishes and streams are numbered by it.
    pub(crate) fn recording(&self) -> Recording {
        self.recording.clone()
    }

    pub(crate) fn fault(&self, what: &str) {
        let what = what.to_owned();
        self.shared
            .append(|at| Some(Record::Fault(FaultRecord { at, what })));
    }

    pub(crate) fn faults_over(&self) {
        self.shared
            .append(|at| Some(Record::FaultsOver(FaultsOver { at })));
    }

    /// Nothing of a topic is kept up to here, and everything after it is.
    pub(crate) fn trimmed(&self, epoch: u64, topic: &str, through: u64) {
        let topic = topic.to_owned();
        let record = Record::Trimmed(Trimmed {
            epoch,
            topic,
            through,
        });
        self.shared.append(|_| Some(record));
    }

    /// Closes it, and panics unless every rule is kept. `name`: of the file where a broken one is kept.
    pub(crate) fn lawful(&self, name: &str) -> Report {
        let records = self
            .shared
            .records
            .lock()
            .take()
            .expect("it is closed once");
        // Nothing else is published here: the generator is off.
        let header = Header::new(["$sys.>"]);
        let history = from_records(header.clone(), records.iter().cloned());
        let history = history
            .unwrap_or_else(|error| panic!("{}: {error}", keep(name, &header, &records).display()));
        // Each test sets the time until every subscriber must be current, by the time of its machine.
        let limits = Limits {
            head_within: PATIENCE,
            ..Limits::default()
        };
        let report = check(&history, &limits);
        println!("{}", report.summary);
        if !report.is_lawful() {
            let kept = keep(name, &header, &records);
            let found: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
            panic!(
                "{:?}\n{}\nthe history: {}",
                report.totals,
                found.join("\n"),
                kept.display()
            );
        }
        report
    }
}

impl Shared {
    /// The time is taken under the lock, so that it rises with the records.
    fn append(&self, record: impl FnOnce(u64) -> Option<Record>) {
        let mut records = self.records.lock();
        if let Some(records) = records.as_mut() {
            records.extend(record(self.began.elapsed().as_nanos() as u64));
        }
    }
}

fn keep(name: &str, header: &Header, records: &[Record]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
    let mut writer = Writer::create(&path, header).unwrap();
    for record in records {
        writer.append(record).unwrap();
    }
    writer.finish().unwrap();
    path
}

struct Teller(Arc<Shared>);

impl Recorder for Teller {
    fn record(&self, happened: Recorded<'_>) {
        self.0.append(|at| {
            entry::of(at, &happened)
                .unwrap_or_else(|beyond| panic!("for this the history has no word: {beyond}"))
        });
    }
}
