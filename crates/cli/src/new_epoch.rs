//! `longlived new-epoch`: to be run once on a copy of a data directory.
//!
//! A command and not a flag of `serve`: a flag would stay in the unit file and begin a new epoch at every start.

use std::path::PathBuf;
use std::process::ExitCode;

use longlived_server::{
    Environment,
    storage::{DiskStore, NewEpochError},
};

use crate::disk_args::{self, may_be_a_directory};
use crate::show;

/// Give a data directory a new epoch. Run it once on a restored backup, before the backup is served.
///
/// A backup lacks the messages that were published after it was made. The same sequences would be given out again, and
/// a subscriber would take the new events for events that it has. With a new epoch each subscriber is told of a gap
/// (EPOCH_CHANGED), and then receives all kept events once more. The kept events do not change. No server may run on
/// the directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, as for `serve`.
    #[arg(long, env = "LONGLIVED_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = &args.data_dir;
    may_be_a_directory(dir)?;
    let change = DiskStore::new_epoch(dir, &Environment::system());
    let change = change.map_err(|error| match error {
        NewEpochError::Open(error) => disk_args::refused(&error),
        NewEpochError::Empty { .. } => anyhow::anyhow!("--data-dir: {error}"),
    })?;
    show::print_line(format!("{}: {change}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
