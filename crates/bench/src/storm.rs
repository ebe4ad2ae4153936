//! `longlived bench storm`: a server is killed under all its subscribers and started again on the same port.
//!
//! - [`run`]: one run: connect, publish, kill, start, wait for all, publish again.
//! - [`report`]: the figures, and whether they keep the limits.
//! - [`library`]: the load generator that is made of the client library; the other one is `load`.
//! - [`client`]: a client of the library for the server.
//! - [`port`]: where the server listens, twice.

mod client;
mod library;
mod port;
mod report;
mod run;

use std::process::ExitCode;

pub(super) use library::library_load;
use longlived_console::print_line;

use super::args::{StormArgs, StormLoad};
use super::load::REFUSED_PAUSE;
use super::repeat::repeat;
use super::security::Security;
use super::stop::Stop;

pub(super) fn storm(args: &StormArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let load = args.load()?;
    let security = Security::of(&args.security, &args.common)?;
    let mut verdicts = Vec::new();
    let ended = repeat(in_words(args, load, &security), &args.common, |cores| {
        let seen = run::run(args, load, &security, cores, stop)?;
        let (figures, verdict) = report::figures(load, &seen)?;
        verdicts.push(verdict);
        Ok(figures)
    })?;
    if !args.common.json {
        for (number, verdict) in (1..).zip(&verdicts) {
            match verdicts.as_slice() {
                [_] => print_line(format!("\n{verdict}"))?,
                _ => print_line(format!("\nrun {number}: {verdict}"))?,
            }
        }
    }
    Ok(ended)
}

fn in_words(args: &StormArgs, load: StormLoad, security: &Security) -> String {
    let StormLoad {
        connections,
        streams,
        down,
        ..
    } = load;
    let who = if args.library {
        "client library, which backs off with full jitter; back = current again".to_owned()
    } else {
        format!(
            "load generator, which reconnects at once and resumes (after a refused connect a process pauses {} ms, then \
             one tries); back = a Welcome",
            REFUSED_PAUSE.as_millis()
        )
    };
    format!(
        "storm: {connections} connections x {streams} streams of the {who}{}\nSIGKILL, and the same port again {}; times \
         count from when the restarted server listens, where nothing else is said; {} messages to each before and after",
        security.in_words(),
        if down.is_zero() {
            "at once".to_owned()
        } else {
            format!("after {}", humantime::format_duration(down))
        },
        args.messages,
    )
}
