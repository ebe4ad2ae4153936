//! `longlived demo`: the whole story in one command. A real server is killed in the middle of a text that ten
//! subscribers follow, and the end says what that cost them.
//!
//! ```text
//! run -> server   the child process that is killed
//!     -> stage    the fleet, the publisher and the server, watched in one loop until something holds
//!          -> board   what each client and each line has come to
//!          -> page    what is printed
//!     -> text     the lines that are published, and their pace
//! ```

mod board;
mod page;
mod run;
mod server;
mod stage;
mod text;

pub(crate) use self::run::run;
use self::text::Text;

/// Watch ten subscribers survive the death of their server (about 12 s, at most 30 s).
///
/// Starts `longlived serve` on a free port, ten subscribers, and a publisher that sends a text line by line to
/// a topic that all of them follow. Kills the server with SIGKILL in the middle, starts it again on the same
/// port, and ends with a verdict. Exit status 0 only if every client came back, got something before and
/// after, and nothing was lost or repeated. The waits between attempts are shorter than a client's usual ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Publish the lines of this file (empty ones are left out) instead of the text that is built in.
    #[arg(long, value_name = "FILE", value_parser = Text::read)]
    file: Option<Text>,
}
