//! `longlived healthcheck`: asks a server whether it serves, for containers and scripts.

use std::error::Error as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::server_url::ServerArgs;
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
        Err(_elapsed) => {
            let timeout = humantime::format_duration(args.timeout);
            Answer::No(format!("no answer within {timeout}"))
        }
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
    let endpoint = Endpoint::from_shared(args.server.server.clone()).context("the address")?;
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => {
            let error = anyhow::Error::from(error);
            return Ok(Answer::No(format!(
                "cannot connect: {}",
                error.root_cause()
            )));
        }
    };
    let request = HealthCheckRequest {
        service: args.service.clone(),
    };
    Ok(match HealthClient::new(channel).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Answer::Serving,
            ServingStatus::NotServing => Answer::No("not serving".to_owned()),
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                Answer::No("does not know whether it serves".to_owned())
            }
        },
        Err(status) if status.code() == Code::NotFound => {
            Answer::No("has no such service".to_owned())
        }
        // What has a cause was made here and not by the server.
        Err(status) if status.source().is_some() => {
            Answer::No("no answer: connection to the server lost".to_owned())
        }
        Err(status) => Answer::No(format!("no answer: {}", status.message())),
    })
}
