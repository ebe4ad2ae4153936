//! The longlived binary.

mod bench;

use clap::Parser as _;

/// A gRPC subscription server for interest that outlives connections.
#[derive(Debug, clap::Parser)]
#[command(name = "longlived", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Bench(bench::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(args).await,
    }
}
