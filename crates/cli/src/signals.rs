//! SIGTERM, SIGINT and SIGHUP, caught from the moment a value is made.

use std::process::ExitCode;

use anyhow::Context as _;
use longlived_server::ReloadHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};

const HANG_UP: &str = "SIGHUP";

/// The signals that ask a command to end.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// The terminal of the process has closed. `None` if the process was started with the signal ignored, as `nohup`
    /// does.
    hang_up: Option<Signal>,
}

impl StopSignals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?,
            hang_up: (!hang_up_is_ignored())
                .then(|| signal(SignalKind::hangup()))
                .transpose()
                .context("SIGHUP cannot be caught")?,
        })
    }

    /// The next one that is to end a server. SIGHUP makes one that has files to read again do that, and ends another.
    pub(crate) async fn next_stop(&mut self, reload: Option<&ReloadHandle>) -> (&'static str, u8) {
        loop {
            match (self.next().await, reload) {
                ((HANG_UP, _), Some(reload)) => reload.reload(),
                (other, _) => return other,
            }
        }
    }

    /// The next signal's name and number. Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 15),
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = hang_up(self.hang_up.as_mut()) => (HANG_UP, 1),
        }
    }
}

/// Never, where it is ignored.
async fn hang_up(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether this process was started with SIGHUP ignored. To be asked before it is caught. Where the system does not say,
/// it is taken not to be.
fn hang_up_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, 1))
}

/// Whether a signal is in the mask of ignored ones, as Linux tells it.
fn ignores(status: &str, signal: u32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The reader of standard output has gone, which is the same for all commands: no word, and the status of a program
/// that SIGPIPE ended. Not 0, which of many commands would say that all is well.
pub(crate) fn ended_by_sigpipe() -> ExitCode {
    ended_by(13)
}

/// The exit code that a shell reports of a command that a signal ended.
pub(crate) fn ended_by(number: u8) -> ExitCode {
    ExitCode::from(128 + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_read_from_the_mask() {
        let status = "Name:\tlonglived\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\n";
        assert!(ignores(status, 1));
        assert!(!ignores(status, 2));
        assert!(ignores(status, 13));
        assert!(!ignores("", 1));
    }
}
