//! Runs `longlived bench`: every run, or as far as Ctrl-C lets it.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Args, Command};
use super::stop::Stop;
use super::{acceptor, against, cores, handshakes, load, measure, publish, slow, store, storm};

/// Runs the measurement that was asked for, or as far as SIGINT and SIGTERM let it. The load and the server are processes
/// of this executable, which must therefore be `longlived`.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    // All of it waits on children, clocks and files: one thread of its own, which also keeps its pinning.
    let conduct = {
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || match args.command {
            Command::Idle(args) => measure::idle(&args, &stop),
            Command::Fanout(args) if args.against.is_empty() => measure::fanout(&args, &stop),
            Command::Fanout(args) => against::fanout(&args, &stop),
            Command::Cores(args) => cores::cores(&args, &stop),
            Command::Handshakes(args) => handshakes::handshakes(&args, &stop),
            Command::Publish(args) => publish::measure(&args, &stop),
            Command::Slow(args) => slow::slow(&args, &stop),
            Command::Storm(args) => storm::storm(&args, &stop),
            Command::Commit(args) => store::commit(&args, &stop),
            Command::Reopen(args) => store::reopen(&args, &stop),
            Command::Catchup(args) => store::catchup(&args, &stop),
            // It ends with its standard input, so the signals of a terminal need no answer here.
            Command::Load => load::run().map(|()| ExitCode::SUCCESS),
            Command::Floor(args) => against::floor(&args).map(|()| ExitCode::SUCCESS),
            Command::Acceptor(args) => acceptor::serve(&args).map(|()| ExitCode::SUCCESS),
            Command::PublishLoad => publish::load().map(|()| ExitCode::SUCCESS),
            Command::StormLibrary => storm::library_load().map(|()| ExitCode::SUCCESS),
            Command::ReadLoad => store::read_load().map(|()| ExitCode::SUCCESS),
        })
    };
    tokio::pin!(conduct);
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        done = &mut conduct => return done.context("the measurement panicked")?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    stop.set();
    conduct.await.context("the measurement panicked")?
}
