//! The flags of `longlived bench handshakes`, and of the bare acceptor that it starts.

use std::path::PathBuf;

use longlived_console::values;

use super::common::CommonArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct HandshakesArgs {
    /// Connections with one subscriber each, all opened together
    #[arg(long, default_value_t = 10_000, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// The parameters of the bare acceptor.
#[derive(Debug, clap::Args)]
pub(crate) struct AcceptorArgs {
    #[arg(long)]
    pub(crate) cert: PathBuf,
    #[arg(long)]
    pub(crate) key: PathBuf,
}
