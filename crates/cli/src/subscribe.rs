//! `longlived subscribe`: the events of some topics, one a line.

mod begin;
mod position_file;
mod run;

use std::path::PathBuf;

use longlived_console::{ClientCompressionArgs, server_url::ServerArgs};

use self::begin::Begin;
pub(crate) use self::run::run;
use crate::values;

/// Print the events of some topics, one per line, and reconnect whenever the server is back.
///
/// Events go to standard output. News of the stream goes to standard error, and so do gaps (events that matched and can
/// no longer be had).
///
/// A slow reader of standard output delays the events, and none is left out. The command ends if that reader
/// has gone or nothing can be written. Lines that standard error does not take are dropped, and one line says
/// how many. SIGTERM, SIGINT and SIGHUP end the command in any case.
///
/// With --json each line of standard output is one object with a `type`. "event": epoch, sequence, topic, key,
/// payload (or payload_base64 where the bytes are not UTF-8), headers if there are any, deleted if so, time.
/// "gap": reason, after, through, and events if their number is known. There are no others.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topics to follow, up to 64: names such as orders.eu, or filters. In a filter `*` is one token, and `>` at
    /// the end is one or more.
    #[arg(required = true, num_args = 1.., value_name = "FILTER", value_parser = values::topic_filter)]
    filters: Vec<String>,

    /// The subscriber's id; one live stream per id. Random unless given.
    #[arg(long, value_parser = values::subscriber_id)]
    id: Option<String>,

    /// Where to begin: `earliest`, a time (2026-01-31T08:00:00Z), an age (10m), or after a position
    /// (EPOCH/SEQUENCE). The default is the next event.
    #[arg(long)]
    from: Option<Begin>,

    /// Continue after the position in this file, and store each new position in it after its event was written. If
    /// the file does not exist it is created. An empty file means a new subscription, with a warning; --from then
    /// says where it begins.
    #[arg(long, value_name = "FILE")]
    position_file: Option<PathBuf>,

    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    compression: ClientCompressionArgs,

    #[command(flatten)]
    server: ServerArgs,
}
