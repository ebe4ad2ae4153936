//! The longlived binary: one node, and the clients to try it, watch it and measure it.

mod logging;
mod serve;

use std::process::ExitCode;

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
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ended = match cli.command {
        Command::Serve(args) => serve::run(*args),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("longlived: {error:#}");
        ExitCode::FAILURE
    })
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
