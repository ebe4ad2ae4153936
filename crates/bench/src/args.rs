//! The flags of `longlived bench`, and the loads that have a name.
//!
//! Holds: a flag beats its preset, a preset beats the default.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use longlived_console::server_url::{self, server_url};
use longlived_console::{CompressionFlag, values};
use serde::{Deserialize, Serialize};

use super::against_args::{FloorArgs, Peer};
use super::slow_args::SlowArgs;
use super::store_args::{CatchupArgs, CommitArgs, ReopenArgs};
use super::storm_args::StormArgs;

/// Cores that an affinity mask can name.
const CORES_MAX: usize = 1024;

/// How often a program with a timer that counts milliseconds publishes (tokio's does).
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// Measures a server from outside: CPU per delivery, memory per subscriber, latency, time to connect.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Many subscribers, nothing published: time until all are connected, memory, CPU while idle
    Idle(IdleArgs),
    /// Messages to many subscribers: CPU per delivery, deliveries per second, latency, memory
    Fanout(FanoutArgs),
    /// A load of `fanout` with the server on one core and on any, in turns: CPU per delivery of both, and their ratio
    Cores(FanoutArgs),
    /// Messages without subscribers: messages per second, CPU per message, messages per commit, time to the answer
    Publish(PublishArgs),
    /// Subscribers that stop reading beside some that go on: latency of those with and without them, memory
    Slow(SlowArgs),
    /// A server that is killed and started again: time until all its subscribers are back, memory, the waits of clients
    Storm(StormArgs),
    /// Commits of the store on disk beside bare writes of the same size into the same file system
    Commit(CommitArgs),
    /// A server that was killed: time until it listens again and until a subscriber has resumed
    Reopen(ReopenArgs),
    /// History from disk: events per second to one subscriber or many, and what they make the store read
    Catchup(CatchupArgs),
    /// The load generator; `idle` and `fanout` start it and talk to it on its standard input
    #[command(hide = true)]
    Load,
    /// The bare sender of `fanout --against floor`
    #[command(hide = true)]
    Floor(FloorArgs),
    /// The load generator of `publish`
    #[command(hide = true)]
    PublishLoad,
    /// The load generator of `storm --library`
    #[command(hide = true)]
    StormLibrary,
    /// The load generator of `catchup`
    #[command(hide = true)]
    ReadLoad,
}

#[derive(Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// Connections, all opened together
    #[arg(long, default_value_t = 10_000, value_parser = values::number(1_u32..=u32::MAX))]
    pub(super) connections: u32,
    /// Subscribers on each connection
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=u32::MAX))]
    pub(super) streams: u32,
    /// What the subscribers follow: one topic together, or each its own inbox
    #[arg(long, value_enum, default_value_t = Topics::One)]
    pub(super) topics: Topics,
    /// How long to watch the idle server
    #[arg(long, default_value = "10s", value_parser = window)]
    pub(super) duration: Duration,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct FanoutArgs {
    /// A load with a name; the flags below change parts of it [default: streams]
    #[arg(long, value_enum)]
    pub(super) preset: Option<Preset>,
    /// Connections, all opened together
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(super) connections: Option<u32>,
    /// Subscribers on each connection
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(super) streams: Option<u32>,
    /// Messages published per second in all; 0 = as fast as they are acknowledged
    #[arg(long, value_parser = values::number(0_u64..=u64::MAX))]
    pub(super) rate: Option<u64>,
    /// How often the publisher writes: what has become due since the last time leaves together. 0s = each message when
    /// it is due, to the microsecond; with `--rate 0` it does not count [default: 0s; 1ms, a timer's usual grain, in the presets throughput and topics]
    #[arg(long, value_parser = length)]
    pub(super) publish_interval: Option<Duration>,
    /// Bytes of payload in a message
    #[arg(long, value_parser = values::number(8_u32..=900_000))]
    pub(super) payload: Option<u32>,
    /// What stands in it: dots, or JSON that is worth compressing
    #[arg(long, value_enum, default_value_t = PayloadKind::Dots, conflicts_with = "against")]
    pub(super) payload_kind: PayloadKind,
    /// What the subscribers ask the server to compress with. Compressed deliveries are counted, and their latency is
    /// not taken
    #[arg(long, value_enum, default_value_t = CompressionFlag::None, conflicts_with = "against")]
    pub(super) compression: CompressionFlag,
    /// `1`: all follow one topic; `inbox`: each its own inbox, published to in turn [default: 1]
    #[arg(long, value_enum)]
    pub(super) topics: Option<Topics>,
    /// Length of the measured window
    #[arg(long, default_value = "10s", value_parser = window)]
    pub(super) duration: Duration,
    /// Publishing before the window begins
    #[arg(long, default_value = "2s", value_parser = length)]
    pub(super) warmup: Duration,
    /// Published messages that may wait for their acknowledgement
    #[arg(long, default_value_t = 4096, value_parser = values::number(1_u64..=u64::MAX))]
    pub(super) in_flight: u64,
    /// Take the latency of one delivery in this many; 0 = of all, or of so many that the load stays cheap
    #[arg(long, default_value_t = 0, value_parser = values::number(0_u32..=u32::MAX))]
    pub(super) sample_every: u32,
    /// Measure these too, in turns with it, on the same cores under the same load (a list): `floor`, a bare send()
    /// of as many bytes; `redis`, `nats`: redis-server and nats-server, where they are installed
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "server")]
    pub(super) against: Vec<Peer>,
    /// Ask for the server's health every 10 ms during the window, from the load's cores, and show how long that took
    #[arg(long, conflicts_with = "against")]
    pub(super) probe_health: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PublishArgs {
    /// Messages measured, over all connections
    #[arg(long, default_value_t = 5_000_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(super) messages: u64,
    /// Messages before that, which are not counted [default: a fifth of --messages]
    #[arg(long, value_name = "MESSAGES", value_parser = values::number(0_u64..=u64::MAX))]
    pub(super) warmup: Option<u64>,
    /// Bytes of payload in a message
    #[arg(long, default_value_t = 128, value_parser = values::number(8_u32..=16_000))]
    pub(super) payload_bytes: u32,
    /// Connections, one `PublishStream` on each
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=10_000))]
    pub(super) connections: u32,
    /// Messages that each connection may have unanswered
    #[arg(long, default_value_t = 8192, value_parser = values::number(1_u32..=1_000_000))]
    pub(super) in_flight: u32,
    /// A `Publish` call for each message instead of a stream
    #[arg(long)]
    pub(super) unary: bool,
    /// Topics, published to in turn
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=1_000_000))]
    pub(super) topics: u32,
    /// The server keeps its log here: `serve --data-dir DIR`
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(super) data_dir: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CommonArgs {
    /// A server that runs already, instead of one started for each run
    #[arg(long, value_name = "URL", value_parser = authority)]
    pub(super) server: Option<String>,
    /// Its process, to read CPU time and memory from
    #[arg(
        long,
        value_name = "PID",
        requires = "server",
        value_parser = values::number(1_i32..=i32::MAX)
    )]
    pub(super) server_pid: Option<i32>,
    /// One more argument for the server that is started (repeatable)
    #[arg(
        long = "server-arg",
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "server"
    )]
    pub(super) server_args: Vec<String>,
    /// Cores for the server: a list such as 0 or 0,2-3, or `any` [default: the first]
    #[arg(long, value_name = "CORES")]
    pub(super) server_cores: Option<CoreList>,
    /// Cores for the load: the same [default: all but the first]
    #[arg(long, value_name = "CORES")]
    pub(super) load_cores: Option<CoreList>,
    /// Load processes; 0 = as few as the limit of open files allows
    #[arg(long, default_value_t = 0, value_parser = values::number(0_u32..=u32::MAX))]
    pub(super) load_processes: u32,
    /// Give up connecting after this
    #[arg(long, default_value = "60s", value_parser = length)]
    pub(super) connect_timeout: Duration,
    /// HTTP/2 window of each stream that the load announces, in bytes
    #[arg(long, default_value_t = 1 << 20, value_parser = values::number(65_535_u32..=(1 << 31) - 1))]
    pub(super) stream_window: u32,
    /// HTTP/2 window of each connection that the load announces, in bytes
    #[arg(long, default_value_t = 16 << 20, value_parser = values::number(65_535_u32..=(1 << 31) - 1))]
    pub(super) connection_window: u32,
    /// Repeat the whole measurement and show medians
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=u32::MAX))]
    pub(super) runs: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// Cores by number; `any` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CoreList(pub(super) Option<Vec<usize>>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(flag: &str) -> Result<Self, String> {
        if flag == "any" {
            return Ok(Self(None));
        }
        let mut cores = Vec::new();
        for part in flag.split(',') {
            let (first, end) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(end)) = (first.parse::<usize>(), end.parse()) else {
                return Err("cores are given as 0 or 0,2-3, or `any`".to_owned());
            };
            if first > end {
                return Err(format!("`{part}` ends before it begins"));
            }
            if end >= CORES_MAX {
                return Err(format!("core {end}: at most {CORES_MAX} can be named"));
            }
            cores.extend(first..=end);
        }
        Ok(Self(Some(cores)))
    }
}

/// The longest that a measurement, or a part of one, may take.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// In less than this nothing is measured.
const WINDOW_MIN: Duration = Duration::from_millis(100);

/// A length of time, which may be none.
pub(super) fn length(text: &str) -> Result<Duration, String> {
    values::duration_within(text, Duration::ZERO..=LENGTH_MAX)
}

/// A length of time in which something can happen.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    values::duration_within(text, WINDOW_MIN..=LENGTH_MAX)
}

/// HOST:PORT of a URL; the load speaks no TLS.
fn authority(url: &str) -> Result<String, String> {
    let url = server_url(url)?;
    let authority = url.split_once("://").map(|(_, rest)| rest);
    let authority = authority.map(|rest| rest.trim_end_matches('/'));
    match authority.and_then(|authority| authority.rsplit_once(':')) {
        Some((host, port)) if port.parse::<u16>().is_ok() => Ok(format!("{host}:{port}")),
        _ => Err(format!("it has no port; {}", server_url::FORM)),
    }
}

/// What the payload of a message is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PayloadKind {
    Dots,
    Json,
}

/// What subscribers follow and where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Topics {
    /// One topic that all follow
    #[value(name = "1")]
    #[serde(rename = "1")]
    One,
    /// Each its own inbox
    Inbox,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// 1,000 connections x 1 stream, 100 messages/s: every delivery is a write of its own
    Paced,
    /// 100 connections x 1 stream, 50,000 messages/s, published every millisecond
    Throughput,
    /// 100 connections x 100 streams, 10 messages/s
    Streams,
    /// The same with 1,000-byte payloads
    #[value(name = "streams-1k")]
    Streams1k,
    /// 100 connections x 100 streams, each with a topic of its own; 100,000 messages/s in all, published every
    /// millisecond
    Topics,
}

/// A fan-out load with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FanoutLoad {
    pub(super) connections: u32,
    pub(super) streams: u32,
    pub(super) rate: u64,
    pub(super) publish_interval: Duration,
    pub(super) payload_bytes: u32,
    pub(super) topics: Topics,
}

impl Preset {
    const fn load(self) -> FanoutLoad {
        let streams = FanoutLoad {
            connections: 100,
            streams: 100,
            rate: 10,
            publish_interval: Duration::ZERO,
            payload_bytes: 128,
            topics: Topics::One,
        };
        match self {
            Self::Paced => FanoutLoad {
                connections: 1_000,
                streams: 1,
                rate: 100,
                ..streams
            },
            Self::Throughput => FanoutLoad {
                streams: 1,
                rate: 50_000,
                publish_interval: TIMER_GRAIN,
                ..streams
            },
            Self::Streams => streams,
            Self::Streams1k => FanoutLoad {
                payload_bytes: 1_000,
                ..streams
            },
            Self::Topics => FanoutLoad {
                rate: 100_000,
                publish_interval: TIMER_GRAIN,
                topics: Topics::Inbox,
                ..streams
            },
        }
    }
}

impl FanoutArgs {
    pub(super) fn load(&self) -> FanoutLoad {
        let preset = self.preset.unwrap_or(Preset::Streams).load();
        FanoutLoad {
            connections: self.connections.unwrap_or(preset.connections),
            streams: self.streams.unwrap_or(preset.streams),
            rate: self.rate.unwrap_or(preset.rate),
            publish_interval: self.publish_interval.unwrap_or(preset.publish_interval),
            payload_bytes: self.payload.unwrap_or(preset.payload_bytes),
            topics: self.topics.unwrap_or(preset.topics),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Args,
    }

    fn fanout(flags: &[&str]) -> FanoutLoad {
        let words = ["bench", "fanout"].iter().chain(flags);
        match Cli::try_parse_from(words).unwrap().bench.command {
            Command::Fanout(args) => args.load(),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn a_flag_beats_its_preset() {
        assert_eq!(
            fanout(&["--preset", "paced", "--rate", "7"]),
            FanoutLoad {
                connections: 1_000,
                streams: 1,
                rate: 7,
                publish_interval: Duration::ZERO,
                payload_bytes: 128,
                topics: Topics::One,
            }
        );
    }

    #[test]
    fn without_a_preset_the_load_is_that_of_streams() {
        assert_eq!(fanout(&[]), Preset::Streams.load());
    }

    #[test]
    fn lengths_of_time_have_a_limit() {
        assert_eq!(length("24h"), Ok(LENGTH_MAX));
        assert_eq!(length("0s"), Ok(Duration::ZERO));
        let error = length("1000000000000s").unwrap_err();
        assert!(error.contains("from 0s to 24h"), "{error}");
        let error = window("99ms").unwrap_err();
        assert!(error.contains("from 100ms to 24h"), "{error}");
        for flag in [
            "--duration",
            "--warmup",
            "--publish-interval",
            "--connect-timeout",
        ] {
            let given = ["bench", "fanout", flag, "1000000000000s"];
            let error = Cli::try_parse_from(given).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("to 24h"), "{error}");
        }
    }

    #[test]
    fn lists_and_ranges_name_cores() {
        assert_eq!("0,2-3".parse(), Ok(CoreList(Some(vec![0, 2, 3]))));
        assert_eq!("any".parse(), Ok(CoreList(None)));
        for wrong in ["", "x", "3-1", "0,", "-1", "99999999"] {
            assert!(wrong.parse::<CoreList>().is_err(), "`{wrong}`");
        }
    }

    #[test]
    fn a_server_is_a_plain_url_with_a_port() {
        assert_eq!(
            authority("http://127.0.0.1:7070/"),
            Ok("127.0.0.1:7070".to_owned())
        );
        assert_eq!(authority("http://[::1]:7070"), Ok("[::1]:7070".to_owned()));
        assert_eq!(authority("localhost:7070"), Ok("localhost:7070".to_owned()));
        for wrong in [
            "127.0.0.1",
            "https://a:1",
            "http://a",
            "http://:1",
            "http://a:b",
            "http://[::1]",
            "http://a:1/b",
            "http://a?b:1",
            "http://b:c@a:1",
        ] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_payload_without_room_for_the_timestamp_is_refused() {
        let error = Cli::try_parse_from(["bench", "fanout", "--payload", "7"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
    }
}
