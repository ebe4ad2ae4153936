//! `longlived demo`: the whole story in one command. A real server is killed in the middle of a text that ten
//! subscribers follow, and the end says what that cost them.
//!
//! ```text
//! run -> server   the child process that is killed
//!     -> stage    the fleet, the publisher and the server, watched in one loop until something holds
//!          -> board   what each client and each line has come to
//!          -> page    what is printed
//!     -> history  where the server keeps it, and what was promised with that
//!     -> text     the lines that are published, and their pace
//! ```

mod board;
mod history;
mod page;
mod run;
mod server;
mod stage;
mod text;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::run::run;
use self::text::Text;
use crate::values;

/// Watch ten subscribers survive the death of their server (about 12 s, at most 30 s).
///
/// Starts `longlived serve` on a free port with a data directory, ten subscribers, and a publisher that sends a text
/// line by line to a topic that all of them follow. Kills the server with SIGKILL in the middle, starts it again on
/// the same port, and ends with a verdict. Exit status 0 only if every client came back, got something before and
/// after, and nothing was lost or repeated; with a data directory moreover nobody may have been told of a gap, the
/// epoch must be the same, and everything that was acknowledged must have been delivered to everybody. The waits
/// between attempts are shorter than a client's usual ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Publish the lines of this file (empty ones are left out) instead of the text that is built in.
    #[arg(long, value_name = "FILE", value_parser = Text::read)]
    file: Option<Text>,

    /// Keep the server's history in this directory instead of a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data_dir: Option<PathBuf>,

    /// Keep the server's history in memory: it dies with the server, and everybody has to be told so by a gap.
    #[arg(long)]
    memory: bool,

    /// Give up when the story is not told by then; a slow machine needs longer.
    #[arg(long, default_value = "25s", value_parser = values::positive_duration)]
    give_up_after: Duration,
}
