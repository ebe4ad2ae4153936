//! The longlived binary: one node, and the clients to try it, watch it and measure it.

mod advice;
mod auth;
mod auth_args;
mod bench;
mod check;
mod compression_args;
mod demo;
mod disk_args;
mod healthcheck;
mod history_args;
mod listen_args;
mod log_args;
mod logging;
mod new_epoch;
mod opening_args;
mod publish;
mod serve;
mod show;
mod signals;
mod simulate;
mod subscribe;
mod tls_args;
mod token;
mod topics;
mod usage;
mod values;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use longlived_console::sink::{self, OutputError};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Subscriptions that outlive connections: a gRPC publish/subscribe server and its clients.
#[derive(Debug, Parser)]
#[command(name = "longlived", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Subscribe(subscribe::Args),
    Publish(publish::Args),
    Topics(topics::Args),
    Healthcheck(healthcheck::Args),
    Bench(bench::Args),
    Check(check::Args),
    NewEpoch(new_epoch::Args),
    Auth(auth::Args),
    Token(token::Args),
}

fn main() -> ExitCode {
    logging::tell_panics();
    let code = run();
    sink::flush();
    code
}

fn run() -> ExitCode {
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    // A bench quotes the end of its server's log.
    let quotes_lines = matches!(cli.command, Command::Bench(_));
    let ended = match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Simulate(args) => block_on(simulate::run(args)),
        Command::Subscribe(args) => block_on(subscribe::run(args)),
        Command::Publish(args) => block_on(publish::run(args)),
        Command::Topics(args) => block_on(topics::run(args)),
        Command::Healthcheck(args) => block_on(healthcheck::run(args)),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::Check(args) => check::run(&args),
        Command::NewEpoch(args) => new_epoch::run(&args),
        Command::Auth(args) => auth::run(&args),
        Command::Token(args) => token::run(&args),
    };
    ended.unwrap_or_else(|error| failed(&error, quotes_lines))
}

/// Clients need one thread; the server limits their load.
fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    let ended = runtime.block_on(command);
    // A read of standard input cannot be called off, and must not hold up the exit.
    runtime.shutdown_background();
    ended
}

fn failed(error: &anyhow::Error, quotes_lines: bool) -> ExitCode {
    if let Some(wrong) = error.downcast_ref::<clap::Error>() {
        return misused(wrong);
    }
    if show::reader_has_gone(error) {
        return signals::ended_by_sigpipe();
    }
    let text = format!("{error:#}{}", advice::on(error));
    let text = usage::with_origins(&text);
    if quotes_lines {
        let lines: Vec<_> = text.lines().map(show::one_line).collect();
        show::note(lines.join("\n"));
    } else {
        // One line, even if an error quotes names and texts with line breaks.
        show::note(show::one_line(&text));
    }
    ExitCode::FAILURE
}

/// Help goes to standard output; a mistake in the arguments is one line on standard error.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&OutputError::from(error).into(), false),
        };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // No command was given: the answer lists the commands.
        sink::stderr().offer(error.to_string().as_bytes());
        return ExitCode::from(2);
    }
    show::note(usage::explained(error, &usage::words(std::env::args_os())));
    ExitCode::from(2)
}
