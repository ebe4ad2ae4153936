//! `longlived healthcheck`: asks a server whether it serves, for containers and scripts.

use std::process::ExitCode;
use std::time::Duration;

use longlived_client::{CallError, Health, Lost};
use longlived_console::server_url::ServerArgs;
use tokio::time::Instant;
use tonic::Code;

use crate::show::{self, Record, note};
use crate::usage;
use crate::values;

/// Ask a server whether it serves. Exit status 0 if it does, 1 if not, within a few seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ask about one gRPC service, such as longlived.v1.PublishService, instead of the whole server.
    #[arg(long, default_value = "", hide_default_value = true)]
    service: String,

    /// Give up after this time.
    #[arg(long, default_value = "3s", value_parser = values::positive_duration)]
    timeout: Duration,

    /// Print the answer as one JSON object: server, service, serving, and reason if not.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let server = args.server.server.as_str();
    let what = if args.service.is_empty() {
        server.to_owned()
    } else {
        format!("{} at {server}", args.service)
    };
    let answer = match tokio::time::timeout(args.timeout, ask(&args)).await {
        Ok(answer) => answer?,
        Err(_elapsed) => Answer::No(none_within(args.timeout)),
    };
    let reason = match &answer {
        Answer::Serving => None,
        Answer::No(why) => Some(why.as_str()),
    };
    match reason {
        _ if args.json => {
            let record = Record::Health {
                server,
                service: &args.service,
                serving: reason.is_none(),
                reason,
            };
            show::print_line(record.to_line())?;
        }
        None => show::print_line(format!("{what}: serving"))?,
        Some(why) => note(usage::with_origins(&format!("{what}: {why}"))),
    }
    Ok(ExitCode::from(u8::from(reason.is_some())))
}

enum Answer {
    Serving,
    No(String),
}

async fn ask(args: &Args) -> anyhow::Result<Answer> {
    let client = args.server.client()?.build()?;
    let began = Instant::now();
    let answer = client.health(&args.service, args.timeout).await;
    Ok(match answer {
        Ok(Health::Serving) => Answer::Serving,
        Ok(Health::NotServing) => Answer::No("not serving".to_owned()),
        Ok(Health::Unknown) => Answer::No("does not know whether it serves".to_owned()),
        Err(CallError::Refused(refusal)) if refusal.code == Code::NotFound => {
            Answer::No("has no such service".to_owned())
        }
        Err(CallError::Refused(refusal)) => Answer::No(format!("no answer: {}", refusal.message)),
        // Whichever of the timers was first.
        Err(_) if began.elapsed() >= args.timeout => Answer::No(none_within(args.timeout)),
        Err(CallError::NotSent(lost @ Lost::Connect(_))) => Answer::No(lost.to_string()),
        Err(error) => Answer::No(format!("no answer: {error}")),
    })
}

fn none_within(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}
