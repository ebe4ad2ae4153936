//! The flags of `longlived bench commit`, `reopen` and `catchup`.

use std::path::PathBuf;

use longlived_console::values;

use super::common::CommonArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct CommitArgs {
    /// An empty or new directory on the disk that is measured; the written files are removed again
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Commits of each size, and as many bare writes between them
    #[arg(long, default_value_t = 1_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) commits: u64,
    /// Commits with small segments and little history, so that segments end and retention works all the time
    #[arg(long, default_value_t = 4_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) boundary_commits: u64,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReopenArgs {
    /// An empty or new directory; the written files are removed again
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Bytes of history that stand there when the server is killed, about
    #[arg(long, default_value_t = 1 << 30, value_parser = values::number::<u64>(1 << 16..=u64::MAX))]
    pub(crate) bytes: u64,
    /// How many of them are published through the server, which is killed while it takes more
    #[arg(long, default_value_t = 160 << 20, value_parser = values::number::<u64>(1 << 16..=u64::MAX))]
    pub(crate) published_bytes: u64,
    /// Topics, published to in turn
    #[arg(long, default_value_t = 100, value_parser = values::number(1_u32..=1_000_000))]
    pub(crate) topics: u32,
    /// Bytes of payload in a message
    #[arg(long, default_value_t = 200, value_parser = values::number(8_u32..=16_000))]
    pub(crate) payload_bytes: u32,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CatchupArgs {
    /// An empty or new directory; the written files are removed again
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Events of history
    #[arg(long, default_value_t = 1_000_000, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) history: u64,
    /// Newest events that each subscriber reads [default: all]
    #[arg(long, value_parser = values::number(1_u64..=u64::MAX))]
    pub(crate) events: Option<u64>,
    /// Subscribers that read at once; more than one are compared with one
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=1_000_000))]
    pub(crate) subscribers: u32,
    /// How many of them share a connection
    #[arg(long, default_value_t = 100, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) streams: u32,
    /// Each subscriber follows a topic of its own, whose events are spread over the whole history
    #[arg(long, requires = "events")]
    pub(crate) own_topics: bool,
    /// Topics of all other events, in turn
    #[arg(long, default_value_t = 100, value_parser = values::number(1_u32..=1_000_000))]
    pub(crate) topics: u32,
    /// Bytes of payload in a message
    #[arg(long, default_value_t = 200, value_parser = values::number(8_u32..=16_000))]
    pub(crate) payload_bytes: u32,
    /// One subscriber of the client library reads, instead of the load generator
    #[arg(long, conflicts_with_all = ["subscribers", "own_topics"])]
    pub(crate) library: bool,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}
