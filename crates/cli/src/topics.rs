//! `longlived topics`: a look at a server's topics, without subscribing.

mod check;
mod history;
mod list;

use std::process::ExitCode;

use clap::error::ErrorKind;
use longlived_client::Position;
use longlived_console::server_url::ServerArgs;

use crate::values;

/// List topics, the kept events of each and its number of subscribers. --history prints the kept events. --check says
/// whether a position can be resumed.
///
/// Nothing is subscribed. Exit status 0; with --check 3 if a subscriber that resumed there would miss events; 1 if
/// there is no answer.
///
/// With --json each line is one object with a `type`. A list: "topic": topic, first, last, events, bytes,
/// subscribers; then "topics": epoch, head, topics, events, bytes, and more if there are more. History: "event"
/// and "gap" as `subscribe` prints them; then "next": epoch, sequence, end. A check: "check": state
/// (`resumable`, `missing`, `epoch_changed`, `future`), gap if there is one, earliest, checked, head.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topics: names such as orders.eu, or filters. In a filter `*` is one token, and `>` at the end is one or
    /// more. The default is all topics but inboxes and the server's own. --history and --check take up to 64.
    #[arg(num_args = 0.., value_name = "FILTER", value_parser = values::topic_filter)]
    filters: Vec<String>,

    /// Print the kept events, oldest first, and the gaps between them.
    #[arg(long, conflicts_with = "check")]
    history: bool,

    /// Begin the history after this position (EPOCH/SEQUENCE).
    #[arg(
        long,
        value_name = "POSITION",
        requires = "history",
        conflicts_with = "check"
    )]
    after: Option<Position>,

    /// Say whether a subscriber could resume after this position (EPOCH/SEQUENCE), and which events it would miss.
    #[arg(long, value_name = "POSITION")]
    check: Option<Position>,

    /// Show at most this many topics, or lines of history.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = values::number(1_u64..=u64::MAX),
        conflicts_with = "check"
    )]
    limit: u64,

    /// Ask as this subscriber, whose inbox may be among the topics.
    #[arg(long, value_parser = values::subscriber_id)]
    id: Option<String>,

    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// The totals of all topics.
const EVERYTHING: &str = ">";

pub(crate) async fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    values::few_filters(&args.filters)?;
    let client = args.server.client()?.build()?;
    if args.filters.is_empty() {
        args.filters.push(EVERYTHING.to_owned());
    }
    if let Some(position) = args.check {
        return check::run(&client, args, position).await;
    }
    if args.history {
        return history::run(&client, args).await;
    }
    if args.filters.len() > 1 {
        let text = "a list takes one FILTER; --history and --check take several\n";
        return Err(clap::Error::raw(ErrorKind::TooManyValues, text).into());
    }
    list::run(&client, args).await
}

impl Args {
    fn subscriber_id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }
}
