//! `longlived simulate`: many subscribers in one program, and a verdict about their events.

mod drawing;
mod publishing;
mod record;
mod run;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, ValueEnum, error::ErrorKind};
use longlived_client::fleet::{Contract, FleetConfig, Show};
use longlived_console::{ClientCompressionArgs, server_url::ServerArgs};

pub(crate) use self::run::run;
use crate::values;

/// Up to this many clients each event is printed; with more, only numbers can be read.
const PRINTED_CLIENTS_MAX: u32 = 10;
/// The wait between two starts where --stagger says nothing and the clients are few.
const STAGGER_MAX: Duration = Duration::from_millis(200);
/// Where --stagger says nothing, all clients have started within this, and ...
const RAMP_MAX: Duration = Duration::from_secs(10);
/// ... within this part of the run.
const RAMP_PART: u32 = 4;
/// Clients on one connection where --connections says nothing.
const CLIENTS_PER_CONNECTION: u32 = 100;

/// Run many subscribers that reconnect after every failure, and judge the events that they received.
///
/// Client N subscribes as `N` and follows its inbox, or the topics of --topic. With up to 10 clients each
/// event, lost stream, backoff and resubscription is printed; with more, a summary. The run ends after
/// --duration or on Ctrl-C: it unsubscribes every client and prints a verdict. Exit status 0 only if something
/// was delivered, every client was current at least once and stayed to the end, and nothing was lost or
/// repeated, by the sequences of the events; 1 otherwise.
///
/// With --json each line is one object with a `type`. With more than 10 clients there is a "summary" each
/// second. The last object is the "verdict".
///
/// The clients do not wait for a slow reader of this output. Lines that such a reader does not take are left out, and
/// one line says how many ("left_out": lines). The verdict waits for its reader, after a signal only for a few seconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of clients.
    #[arg(long, default_value_t = 10, value_parser = values::number(1_u32..=1_000_000))]
    clients: u32,

    /// Wait between the starts of two clients. The default is 200ms, or less, so that all have started within 10s
    /// and within the first quarter of --duration.
    #[arg(long, value_parser = values::duration)]
    stagger: Option<Duration>,

    /// Connections that the clients share, at most one per client. The default is one per 100 clients.
    #[arg(long, value_parser = values::number(1_u32..=1_000_000))]
    connections: Option<u32>,

    /// Topics that all clients follow, instead of each its own inbox. Several may be given.
    #[arg(long = "topic", value_name = "FILTER", num_args = 1.., value_parser = values::topic_filter)]
    topics: Vec<String>,

    /// The contract of the clients: longlived.v1, or the frozen protos.Longlived, which cannot tell whether events were
    /// lost.
    #[arg(long, value_enum, default_value = "v1")]
    contract: ContractFlag,

    /// Publish a message in each interval, in turn to each inbox or to a topic that each --topic selects. An
    /// acknowledged message that does not reach every client that follows it counts as lost.
    #[arg(long, value_name = "DURATION", value_parser = values::positive_duration)]
    publish_every: Option<Duration>,

    /// Record the requests and responses of every client, for `longlived check`. An existing file is replaced. If the
    /// disk is too slow the clients wait; if nothing more can be written the run ends with an error. A second signal,
    /// or SIGKILL, leaves the part that was written until then.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// With --record: topics to which others publish beside this command. The check then expects events there that
    /// nobody recorded. Always `$sys.>` and `inbox.>`; without --publish-every all topics that are followed.
    #[arg(long, value_name = "FILTER", num_args = 1..=64, requires = "record", value_parser = values::topic_filter)]
    foreign: Vec<String>,

    /// End after this time; without it on Ctrl-C.
    #[arg(long, value_parser = values::positive_duration)]
    duration: Option<Duration>,

    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    compression: ClientCompressionArgs,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ContractFlag {
    V1,
    Protos,
}

impl Args {
    /// Whether each happening is printed.
    fn prints_all(&self) -> bool {
        self.clients <= PRINTED_CLIENTS_MAX
    }

    fn connections(&self) -> u32 {
        self.connections
            .unwrap_or_else(|| self.clients.div_ceil(CLIENTS_PER_CONNECTION))
            .min(self.clients)
    }

    /// The topics that are published to.
    fn published(&self) -> Vec<String> {
        publishing::topics(&self.topics, self.clients)
    }

    /// The topics on which others publish, for the history.
    fn foreign(&self) -> Vec<String> {
        let mut foreign = vec!["$sys.>".to_owned(), "inbox.>".to_owned()];
        if self.publish_every.is_none() {
            foreign.extend(self.topics.iter().cloned());
        }
        foreign.extend(self.foreign.iter().cloned());
        foreign.sort();
        foreign.dedup();
        foreign
    }

    fn stagger(&self) -> Duration {
        self.stagger.unwrap_or_else(|| {
            let part = self.duration.map_or(RAMP_MAX, |end| end / RAMP_PART);
            STAGGER_MAX.min(RAMP_MAX.min(part) / self.clients)
        })
    }

    /// When the last client starts.
    fn last_start(&self) -> Duration {
        self.stagger().saturating_mul(self.clients - 1)
    }

    fn config(&self) -> Result<FleetConfig, clap::Error> {
        let contract = match self.contract {
            ContractFlag::V1 => Contract::V1,
            ContractFlag::Protos => Contract::Protos,
        };
        if contract == Contract::Protos && !self.topics.is_empty() {
            return Err(crate::Cli::command().error(
                ErrorKind::ArgumentConflict,
                "--topic cannot be used with --contract protos: there the server decides \
                 (serve --legacy-topics)",
            ));
        }
        if contract == Contract::Protos && (self.record.is_some() || self.publish_every.is_some()) {
            return Err(crate::Cli::command().error(
                ErrorKind::ArgumentConflict,
                "--record and --publish-every cannot be used with --contract protos: its responses \
                 have no positions to judge",
            ));
        }
        Ok(FleetConfig {
            clients: self.clients,
            stagger: self.stagger(),
            topics: self.topics.clone(),
            audit: match self.publish_every {
                Some(_) => self.published(),
                None => Vec::new(),
            },
            contract,
            show: if self.prints_all() {
                Show::Everything
            } else {
                Show::Nothing
            },
            ..FleetConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        simulate: Args,
    }

    fn args(flags: &[&str]) -> Args {
        Alone::try_parse_from(["simulate"].iter().chain(flags))
            .unwrap()
            .simulate
    }

    #[test]
    fn one_connection_carries_a_hundred_clients() {
        assert_eq!(args(&[]).connections(), 1);
        assert_eq!(args(&["--clients", "100"]).connections(), 1);
        assert_eq!(args(&["--clients", "101"]).connections(), 2);
        assert_eq!(
            args(&["--clients", "3", "--connections", "7"]).connections(),
            3
        );
        assert_eq!(
            args(&["--clients", "101", "--connections", "7"]).connections(),
            7
        );
    }

    #[test]
    fn all_clients_start_in_time_unless_told_otherwise() {
        assert_eq!(args(&[]).stagger(), Duration::from_millis(200));
        let many = args(&["--clients", "300", "--duration", "3s"]);
        assert_eq!(many.stagger(), Duration::from_micros(2_500));
        assert!(many.last_start() < Duration::from_millis(750));
        let endless = args(&["--clients", "1000"]);
        assert_eq!(endless.stagger(), Duration::from_millis(10));
        let told = args(&["--clients", "300", "--stagger", "200ms"]);
        assert_eq!(told.last_start(), Duration::from_millis(59_800));
    }

    #[test]
    fn topics_may_be_given_together_or_one_by_one() {
        let together = args(&["--topic", "a.>", "b"]).topics;
        let one_by_one = args(&["--topic", "a.>", "--topic", "b"]).topics;
        assert_eq!(together, ["a.>", "b"]);
        assert_eq!(together, one_by_one);
    }

    #[test]
    fn the_frozen_contract_knows_no_topics() {
        let error = args(&["--contract", "protos", "--topic", "a"])
            .config()
            .unwrap_err();
        assert!(error.to_string().contains("--legacy-topics"), "{error}");
    }

    #[test]
    fn topics_of_unrecorded_publishers_are_foreign() {
        let alone = args(&["--record", "f", "--topic", "a.>"]);
        assert_eq!(alone.foreign(), ["$sys.>", "a.>", "inbox.>"]);
        let publishing = args(&[
            "--record",
            "f",
            "--topic",
            "a.>",
            "--publish-every",
            "1s",
            "--foreign",
            "b",
        ]);
        assert_eq!(publishing.foreign(), ["$sys.>", "b", "inbox.>"]);
        assert_eq!(publishing.config().unwrap().audit, ["a.simulate"]);
        let frozen = args(&["--contract", "protos", "--record", "f"]);
        let error = frozen.config().unwrap_err().to_string();
        assert!(error.contains("--record"), "{error}");
    }

    #[test]
    fn events_are_printed_of_ten_clients_and_no_more() {
        assert_eq!(args(&[]).config().unwrap().show, Show::Everything);
        let eleven = args(&["--clients", "11"]).config().unwrap();
        assert_eq!(eleven.show, Show::Nothing);
    }
}
