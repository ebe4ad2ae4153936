//! The flags of `longlived bench idle` and `fanout`, and the loads that have a name.
//!
//! Holds: a flag beats its preset, a preset beats the default.

use std::time::Duration;

use clap::ValueEnum;
use longlived_console::{CompressionFlag, values};

use super::against::Peer;
use super::common::{CommonArgs, PayloadKind, Topics, length, window};
use super::security::SecurityArgs;

/// How often a program with a timer that counts milliseconds publishes (tokio's does).
const TIMER_GRAIN: Duration = Duration::from_millis(1);

#[derive(Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// Connections, all opened together
    #[arg(long, default_value_t = 10_000, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) connections: u32,
    /// Subscribers on each connection
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) streams: u32,
    /// Filter of the subscribers: one topic together, or each its own inbox
    #[arg(long, value_enum, default_value_t = Topics::One)]
    pub(crate) topics: Topics,
    /// How long to watch the idle server
    #[arg(long, default_value = "10s", value_parser = window)]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FanoutArgs {
    /// A load with a name; the flags below change parts of it [default: streams]
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,
    /// Connections, all opened together
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) connections: Option<u32>,
    /// Subscribers on each connection
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) streams: Option<u32>,
    /// Messages published per second in all; 0 = as fast as they are acknowledged
    #[arg(long, value_parser = values::number(0_u64..=u64::MAX))]
    pub(crate) rate: Option<u64>,
    /// How often the publisher writes. Messages scheduled since the last write leave together; 0s = each at its own
    /// microsecond. Ignored with `--rate 0` [default: 0s; 1ms, a timer's usual grain, in the presets throughput and
    /// topics]
    #[arg(long, value_parser = length)]
    pub(crate) publish_interval: Option<Duration>,
    /// Bytes of payload in a message
    #[arg(long, value_parser = values::number(8_u32..=900_000))]
    pub(crate) payload: Option<u32>,
    /// Content of the payload: dots, or JSON that is worth compressing
    #[arg(long, value_enum, default_value_t = PayloadKind::Dots, conflicts_with = "against")]
    pub(crate) payload_kind: PayloadKind,
    /// Encoding that the subscribers ask for. Compressed deliveries are counted, and their latency is not taken
    #[arg(long, value_enum, default_value_t = CompressionFlag::None, conflicts_with = "against")]
    pub(crate) compression: CompressionFlag,
    /// `1`: all follow one topic; `inbox`: each its own inbox, published to in turn [default: 1]
    #[arg(long, value_enum)]
    pub(crate) topics: Option<Topics>,
    /// Length of the measured window
    #[arg(long, default_value = "10s", value_parser = window)]
    pub(crate) duration: Duration,
    /// Publishing before the window begins
    #[arg(long, default_value = "2s", value_parser = length)]
    pub(crate) warmup: Duration,
    /// Published messages that may wait for their acknowledgement
    #[arg(long, default_value_t = 4096, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) in_flight: u64,
    /// Take the latency of one delivery in this many; 0 = of all, or of a share that keeps the load cheap
    #[arg(long, default_value_t = 0, value_parser = values::number(0_u32..=u32::MAX))]
    pub(crate) sample_every: u32,
    /// Measure these too, in turns with it, on the same cores under the same load (a list): `floor`, a bare send()
    /// of as many bytes; `redis`, `nats`: redis-server and nats-server, where they are installed; `grpc-go`: a hub of
    /// grpc-go, which is built with the Go in the PATH. With --tls
    /// longlived, nats and grpc-go have it, with the same certificate; the others are left out
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with_all = ["server", "auth"])]
    pub(crate) against: Vec<Peer>,
    /// Ask for the server's health every 10 ms during the window, from the load's cores, and show how long that took
    #[arg(long, conflicts_with = "against")]
    pub(crate) probe_health: bool,
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
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
pub(crate) struct FanoutLoad {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) rate: u64,
    pub(crate) publish_interval: Duration,
    pub(crate) payload_bytes: u32,
    pub(crate) topics: Topics,
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
    pub(crate) fn load(&self) -> FanoutLoad {
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
        fanout: FanoutArgs,
    }

    fn fanout(flags: &[&str]) -> FanoutLoad {
        let words = ["fanout"].iter().chain(flags);
        Cli::try_parse_from(words).unwrap().fanout.load()
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
    fn a_length_of_time_beyond_its_limit_names_its_flag() {
        for flag in [
            "--duration",
            "--warmup",
            "--publish-interval",
            "--connect-timeout",
        ] {
            let given = ["fanout", flag, "1000000000000s"];
            let error = Cli::try_parse_from(given).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains("to 24h"), "{error}");
        }
    }

    #[test]
    fn a_payload_without_room_for_the_timestamp_is_refused() {
        let error = Cli::try_parse_from(["fanout", "--payload", "7"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ValueValidation);
    }
}
