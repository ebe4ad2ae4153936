//! Runs of one measurement, and their output.

use std::process::ExitCode;

use anyhow::Context as _;
use longlived_console::{Output, print, print_line};

use super::args::CommonArgs;
use super::figures::{Figures, Summary};
use super::pin::Pinning;
use super::setting::Setting;

/// Every run with a fresh server, then the result in the form asked for. The exit status says whether
/// everything published arrived and every stream stood.
pub(super) fn repeat(
    load: String,
    args: &CommonArgs,
    mut run: impl FnMut(&Pinning) -> anyhow::Result<Figures>,
) -> anyhow::Result<ExitCode> {
    let pinning = Pinning::of(args)?;
    let runs = (0..args.runs)
        .map(|_| run(&pinning))
        .collect::<anyhow::Result<_>>()?;
    let summary = Summary {
        setting: Setting::new(load, pinning_in_words(args, &pinning)),
        runs,
    };
    if args.json {
        print_line(summary.json().context("writing the result as JSON")?)?;
    } else {
        let width = Output::stdout().width();
        print(&summary.table(width))?;
    }
    Ok(exit_code(summary.is_clean()))
}

pub(super) fn pinning_in_words(args: &CommonArgs, pinning: &Pinning) -> String {
    if args.server.is_some() {
        format!("a server that ran already, load on {}", pinning.load)
    } else {
        format!("server on {}, load on {}", pinning.server, pinning.load)
    }
}

pub(super) fn exit_code(clean: bool) -> ExitCode {
    if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
