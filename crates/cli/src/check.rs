//! `longlived check`: holds a recorded run against the rules of the contract. Needs no server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use longlived_checker::{HistoryError, Limits, Report, check, read};

use crate::show::{note, print_line};
use crate::values;

/// Check a recorded run against the rules of the contract. Exit status 0: all rules are kept; 1: some are
/// broken; 2: the file is no history.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recorded run: JSON Lines, as docs/TESTING.md describes.
    #[arg(value_name = "HISTORY.jsonl")]
    history: PathBuf,

    /// Time after the last fault within which every subscriber must be at the last event.
    #[arg(long, default_value = "10s", value_parser = values::positive_duration)]
    head_within: Duration,

    /// How long the server remembered message ids. Beyond it a second position of an id is lawful.
    #[arg(long, default_value = "120s", value_parser = values::positive_duration)]
    message_id_window: Duration,

    /// Number of message ids that the server remembered.
    #[arg(long, default_value_t = 100_000, value_parser = values::number(0_u64..=u64::MAX))]
    message_ids: u64,

    /// Number of violations to show of each rule; all are counted.
    #[arg(long, default_value_t = 10, value_parser = values::number(0_usize..=usize::MAX))]
    shown: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let history = match read(&args.history) {
        Ok(history) => history,
        Err(error) => {
            note(match &error {
                // It names the file itself.
                HistoryError::Open { .. } => error.to_string(),
                error => format!("{}: {error}", args.history.display()),
            });
            return Ok(ExitCode::from(2));
        }
    };
    let limits = Limits {
        head_within: args.head_within,
        message_id_window: args.message_id_window,
        message_ids: args.message_ids,
        shown: args.shown,
    };
    let report = check(&history, &limits);
    tell(&report)?;
    Ok(ExitCode::from(u8::from(!report.is_lawful())))
}

fn tell(report: &Report) -> anyhow::Result<()> {
    for violation in &report.violations {
        print_line(violation.to_string())?;
    }
    print_line(report.summary.to_string())?;
    if report.is_lawful() {
        print_line("lawful: every rule is kept")?;
        return Ok(());
    }
    let broken = report
        .totals
        .iter()
        .map(|(rule, total)| format!("{rule} {total}"));
    let broken: Vec<_> = broken.collect();
    print_line(format!("broken: {}", broken.join(", ")))?;
    Ok(())
}
