//! `longlived bench fanout --against`: the same load on longlived and on others, in one run, side by side.
//!
//! - [`programs`]: starts the others; says why one cannot be measured.
//! - [`mod@floor`]: the bare sender; [`grpc_go`]: builds the hub of grpc-go.
//! - [`comparison`]: medians, ratios, JSON; [`table`]: the same as text.
//!
//! Holds: all of them run on the same cores, one after the other, in turns (longlived, floor, redis, nats, grpc-go,
//! longlived, ...), so that other work of the machine falls on each of them. The same load generator paces, publishes and counts
//! for each; only the protocol differs.

mod comparison;
mod floor;
mod grpc_go;
mod programs;
mod table;

use std::process::ExitCode;

use anyhow::Context as _;
use longlived_console::{Output, print, print_line};

use self::comparison::{Column, Comparison, LOAD_WAITED, Run};
pub(super) use self::floor::serve as floor;
use self::programs::Programs;
use super::args::{FanoutArgs, Peer};
use super::measure::{Fanout, fanout_in_words, fanout_shape, measure_fanout};
use super::pin::Pinning;
use super::repeat::{exit_code, pinning_in_words};
use super::rig::Rig;
use super::security::Security;
use super::setting::Setting;
use super::stop::Stop;

pub(super) fn fanout(args: &FanoutArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let load = args.load();
    let cores = Pinning::of(&args.common)?;
    let security = Security::of(&args.security, &args.common)?;
    let programs = Programs::find(load, security);
    let mut peers = args.against.clone();
    peers.push(Peer::Longlived);
    peers.sort_unstable();
    peers.dedup();
    let mut columns: Vec<_> = peers
        .into_iter()
        .map(|peer| Column {
            peer,
            absent: programs.why_not(peer),
            runs: Vec::new(),
        })
        .collect();
    for _ in 0..args.common.runs {
        for column in &mut columns {
            if column.absent.is_some() {
                continue;
            }
            let run = run(&programs, column.peer, args, &cores, stop);
            // One that fails does not take the others' figures with it; an interruption ends all.
            stop.check()?;
            column.runs.push(match run {
                Err(error) if column.peer != Peer::Longlived => Run::failed(column.peer, &error),
                run => run?,
            });
        }
    }
    let comparison = Comparison {
        setting: Setting::new(
            format!(
                "fanout: {}{}",
                fanout_in_words(args),
                programs.security.in_words()
            ),
            pinning_in_words(&args.common, &cores),
        ),
        shape: load,
        columns,
    };
    if args.common.json {
        let json = comparison.json().context("writing the result as JSON")?;
        print_line(json)?;
    } else {
        let width = Output::stdout().width();
        print(&comparison.table(width))?;
    }
    Ok(exit_code(comparison.is_clean()))
}

fn run(
    programs: &Programs,
    peer: Peer,
    args: &FanoutArgs,
    cores: &Pinning,
    stop: &Stop,
) -> anyhow::Result<Run> {
    let shape = fanout_shape(args, programs.protocol(peer));
    let start = || programs.start(peer, &args.common, &cores.server);
    let mut rig = Rig::connect_to(start, &args.common, shape, cores, stop)?;
    let Fanout {
        mut figures,
        load_waited,
    } = measure_fanout(&mut rig, args, cores)?;
    figures.add(
        LOAD_WAITED,
        "load waited for its core (% of time)",
        load_waited * 100.0,
    );
    let load_cores = cores.load.count().unwrap_or(usize::MAX);
    Ok(Run {
        figures,
        // A load process is one thread.
        load_cores: rig.load_processes().min(load_cores),
    })
}
