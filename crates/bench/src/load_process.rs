//! The load processes, seen from the one that conducts.
//!
//! Holds: they end with these values; a process that ends by itself is an error with its own words.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clock::monotonic_ns;
use super::load::control::Report;
use super::pin::Cores;
use super::proc::CpuTime;
use super::stop::Stop;

/// How often a wait looks whether it should end.
const POLL: Duration = Duration::from_millis(50);
/// Reports on their way; a process sends four in its life.
const REPORTS_MAX: usize = 8;

/// One that says `R`.
#[derive(Debug)]
pub(super) struct LoadProcess<R = Report> {
    child: Child,
    commands: ChildStdin,
    reports: Receiver<anyhow::Result<R>>,
}

impl<R: DeserializeOwned + Send + 'static> LoadProcess<R> {
    /// Starts `longlived bench <command>` and tells it its plan.
    pub(super) fn start(
        command: &str,
        plan: &impl Serialize,
        cores: &Cores,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this executable")?;
        let mut program = Program::new(program);
        program
            .args(["bench", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = cores
            .spawn(&mut program)
            .context("starting a load process")?;
        let commands = child.stdin.take().expect("it was piped");
        let stdout = child.stdout.take().expect("it was piped");
        let (sender, reports) = sync_channel(REPORTS_MAX);
        let mut process = Self {
            child,
            commands,
            reports,
        };
        std::thread::Builder::new()
            .name("load-reports".to_owned())
            .spawn(move || read_reports(stdout, &sender))
            .context("starting the thread that reads reports")?;
        process.tell(plan)?;
        Ok(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One line on its standard input.
    pub(super) fn tell(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec(line).context("writing to a load process")?;
        bytes.push(b'\n');
        self.commands
            .write_all(&bytes)
            .context("a load process has ended")
    }

    /// Its next report, by that time.
    pub(super) fn hear(&mut self, deadline_ns: u64, stop: &Stop) -> anyhow::Result<R> {
        loop {
            stop.check()?;
            match self.reports.recv_timeout(POLL) {
                Ok(report) => return report,
                Err(RecvTimeoutError::Timeout) if monotonic_ns() < deadline_ns => {}
                Err(RecvTimeoutError::Timeout) => bail!("a load process does not answer"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("waiting for a load process")?;
                    bail!("a load process ended early, {status}");
                }
            }
        }
    }
}

/// The same line to each.
pub(super) fn tell_all<R: DeserializeOwned + Send + 'static>(
    loads: &mut [LoadProcess<R>],
    line: &impl Serialize,
) -> anyhow::Result<()> {
    loads.iter_mut().try_for_each(|load| load.tell(line))
}

/// The processor time of each so far.
pub(super) fn cpu_of<R: DeserializeOwned + Send + 'static>(
    loads: &[LoadProcess<R>],
) -> anyhow::Result<Vec<CpuTime>> {
    let each = loads.iter();
    each.map(|load| CpuTime::of(load.pid())).collect()
}

impl<R> Drop for LoadProcess<R> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_reports<R: DeserializeOwned>(stdout: impl Read, sender: &SyncSender<anyhow::Result<R>>) {
    for line in BufReader::new(stdout).lines() {
        let report = line.map_err(anyhow::Error::from).and_then(|line| {
            serde_json::from_str(&line).context("a load process wrote something else")
        });
        if sender.send(report).is_err() {
            return;
        }
    }
}
