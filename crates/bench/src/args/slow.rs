//! The flags of `longlived bench slow`.

use std::time::Duration;

use longlived_console::values;

use super::common::{CommonArgs, length, window};

#[derive(Debug, clap::Args)]
pub(crate) struct SlowArgs {
    /// Subscribers that stop reading once all are connected
    #[arg(long, default_value_t = 5_000, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) stalled: u32,
    /// How many of them share a connection; none shares it with one that reads
    #[arg(long, default_value_t = 100, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) stalled_streams: u32,
    /// How they stop: `window` sends no WINDOW_UPDATE, `socket` reads nothing (closed by keepalive after a while)
    #[arg(long, value_enum, default_value_t = StallHow::Window)]
    pub(crate) stall: StallHow,
    /// HTTP/2 window of each stalled stream, in bytes
    #[arg(long, default_value_t = 65_535, value_parser = values::number(65_535_u32..=(1 << 31) - 1))]
    pub(crate) stalled_window: u32,
    /// Subscribers that go on reading
    #[arg(long, default_value_t = 100, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) readers: u32,
    /// How many of them share a connection
    #[arg(long, default_value_t = 10, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) reader_streams: u32,
    /// Messages published per second to the one topic that all follow
    #[arg(long, default_value_t = 20_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) rate: u64,
    /// Bytes of payload in a message
    #[arg(long, default_value_t = 128, value_parser = values::number(8_u32..=900_000))]
    pub(crate) payload: u32,
    /// Length of the measured window
    #[arg(long, default_value = "5s", value_parser = window)]
    pub(crate) duration: Duration,
    /// Publishing before the window begins, in which the others come to stand still
    #[arg(long, default_value = "3s", value_parser = length)]
    pub(crate) warmup: Duration,
    /// Published messages that may wait for their acknowledgement
    #[arg(long, default_value_t = 4096, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) in_flight: u64,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// How a subscriber stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum StallHow {
    Window,
    Socket,
}
