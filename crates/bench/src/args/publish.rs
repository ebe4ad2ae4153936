//! The flags of `longlived bench publish`.

use longlived_console::values;

use super::common::CommonArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// Messages measured, over all connections
    #[arg(long, default_value_t = 5_000_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) messages: u64,
    /// Messages before that, which are not counted [default: a fifth of --messages]
    #[arg(long, value_name = "MESSAGES", value_parser = values::number(0_u64..=u64::MAX))]
    pub(crate) warmup: Option<u64>,
    /// Bytes of payload in a message
    #[arg(long, default_value_t = 128, value_parser = values::number(8_u32..=16_000))]
    pub(crate) payload_bytes: u32,
    /// Connections, one `PublishStream` on each
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=10_000))]
    pub(crate) connections: u32,
    /// Messages that each connection may have unanswered
    #[arg(long, default_value_t = 8192, value_parser = values::number(1_u32..=1_000_000))]
    pub(crate) in_flight: u32,
    /// A `Publish` call for each message instead of a stream
    #[arg(long)]
    pub(crate) unary: bool,
    /// Topics, published to in turn
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=1_000_000))]
    pub(crate) topics: u32,
    /// The server keeps its log here: `serve --data-dir DIR`
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(crate) data_dir: Option<String>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}
