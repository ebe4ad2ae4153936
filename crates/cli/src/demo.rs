//! `longlived demo`: the whole story in one command. A real server is killed in the middle of a text that ten
//! subscribers follow, and the end says what that cost them.
//!
//! ```text
//! run -> server   the child process that is killed
//!     -> stage    the fleet, the publisher and the server, watched in one loop until something holds
//!          -> board   what each client and each line has come to
//!          -> page    what is printed
//!     -> door     how the server is reached: by anybody, or over TLS with a token
//!          -> credentials  certificate, auth file and tokens, made by the demo
//!          -> strangers    subscribers that must be refused
//!     -> history  where the server keeps it, and what was promised with that
//!     -> text     the lines that are published, and their pace
//! ```

mod board;
mod credentials;
mod door;
mod history;
mod page;
mod run;
mod server;
mod stage;
mod strangers;
mod text;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::run::run;
use self::text::Text;
use crate::values;

/// Watch ten subscribers survive the death of their server (about 12 s, at most 30 s).
///
/// Starts `longlived serve` on a free port with a data directory, ten subscribers, and a publisher. The
/// publisher sends a text, line by line, to a topic that all subscribers follow. In the middle the server is
/// killed with SIGKILL and started again on the same port. The demo ends with a verdict. The waits between
/// attempts are shorter than usual.
///
/// Exit status 0 only if every client came back, received something before and after the kill, and nothing was
/// lost or repeated. With a data directory there must also be no gap and the same epoch, and every acknowledged
/// line must have been delivered to every client.
///
/// With --tls everything goes over TLS, and the server lets in only callers with a token. Three subscribers with a wrong
/// token or none must be refused, and every client must renew its token, which lives 4 s, by a second stream before the
/// kill.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Publish the lines of this file instead of the built-in text. Empty lines are left out.
    #[arg(long, value_name = "FILE", value_parser = Text::read)]
    file: Option<Text>,

    /// Keep the server's history in this directory. Otherwise it is in a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data_dir: Option<PathBuf>,

    /// Keep the server's history in memory. It is lost with the server, and every client must be told so by a gap.
    #[arg(long)]
    memory: bool,

    /// Serve over TLS and with an auth file, which the demo makes in a temporary directory with a certificate. Strangers
    /// must be refused, and every client must renew its token.
    #[arg(long)]
    tls: bool,

    /// Give up if the demo has not ended by then. A slow machine needs longer.
    #[arg(long, default_value = "25s", value_parser = values::positive_duration)]
    give_up_after: Duration,
}
