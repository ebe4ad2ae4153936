//! `longlived subscribe`: the events of some topics, one a line.

mod begin;
mod position_file;
mod run;

use std::path::PathBuf;

use self::begin::Begin;
pub(crate) use self::run::run;
use crate::compression_args::ClientCompressionArgs;
use crate::server_url::ServerArgs;
use crate::values;

/// Print the events of some topics, one a line, and come back whenever the server does.
///
/// Standard output carries the events; what happens to the stream is said on standard error. A gap (events
/// that matched and cannot be had any more) is said on standard error too.
///
/// A slow reader of standard output holds up the events, and none is left out; when it has gone, or nothing can be written,
/// the command ends. What standard error does not take is dropped, and one line says how much. SIGTERM, SIGINT and
/// SIGHUP end it in any case.
///
/// With --json each line of standard output is one object with a `type`. "event": epoch, sequence, topic,
/// key, payload (or payload_base64 where the bytes are not UTF-8), headers if there are any, deleted if so,
/// time. "gap": reason, after, through, and events if their number is known. There are no others.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topics to follow: names such as orders.eu, or with wildcards: `*` is one token, `>` one or more at
    /// the end. Up to 64.
    #[arg(required = true, num_args = 1.., value_name = "FILTER", value_parser = values::topic_filter)]
    filters: Vec<String>,

    /// The subscriber's id; one live stream per id. A random one unless given.
    #[arg(long, value_parser = values::subscriber_id)]
    id: Option<String>,

    /// Where to begin: `earliest`, a time (2026-01-31T08:00:00Z), an age (10m), or after a position
    /// (EPOCH/SEQUENCE). Without it with the next event.
    #[arg(long)]
    from: Option<Begin>,

    /// Continue after the position in this file, and keep it there. It is replaced after an event was
    /// written; one that does not exist yet is made, an empty one is a new subscription with a warning, and --from says
    /// where that begins.
    #[arg(long, value_name = "FILE")]
    position_file: Option<PathBuf>,

    /// One JSON object a line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    compression: ClientCompressionArgs,

    #[command(flatten)]
    server: ServerArgs,
}
