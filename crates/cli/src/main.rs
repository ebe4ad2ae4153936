//! The longlived binary: one node, and the clients to try it, watch it and measure it.

mod bench;
mod logging;
mod serve;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Subscriptions that outlive connections: a gRPC publish/subscribe server and its clients.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ended = match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Bench(args) => block_on(bench::run(args)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("longlived: {error:#}");
        ExitCode::FAILURE
    })
}

/// Clients need one thread; what they drive is limited by the server.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    runtime.block_on(command)
}

/// Help goes to standard output; what is wrong with the arguments is one line on standard error.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        print!("{error}");
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let said = text.lines().take_while(|line| !line.trim().is_empty());
    let said: Vec<_> = said.map(str::trim).collect();
    let said = said.join(" ");
    eprintln!("longlived: {}", said.trim_start_matches("error: "));
    ExitCode::from(2)
}
