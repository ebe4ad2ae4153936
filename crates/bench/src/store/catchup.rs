//! `longlived bench catchup`: history is read from disk by one subscriber, by many at once, or by many that each want
//! a little of it.
//!
//! Holds: every reading has a server of its own, whose cache is empty; the server tells at its end how much the store
//! has read. The operating system has the files in memory, since they were just written.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::history::{self, Filled};
use super::reader::{Done, Plan};
use super::scratch::Scratch;
use crate::args::{CatchupArgs, CommonArgs};
use crate::clock::{monotonic_ns, nanoseconds};
use crate::figures::{Figures, mib};
use crate::load_process::LoadProcess;
use crate::pin::Pinning;
use crate::proc::{self, CpuTime};
use crate::refuse::refuse;
use crate::repeat::repeat;
use crate::server::Server;
use crate::stop::Stop;

/// The longest that one reading may take.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Streams whose requests fit the first window of a connection.
const STREAMS_MAX: u32 = 200;

pub(crate) fn catchup(args: &CatchupArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    refuse(
        "catchup",
        &[
            ("--server", args.common.server.is_some()),
            ("--server-pid", args.common.server_pid.is_some()),
            ("--load-processes", args.common.load_processes > 0),
        ],
        "starts a server with a history of its own, and has one process of load",
    )?;
    ensure!(
        args.streams <= STREAMS_MAX,
        "at most {STREAMS_MAX} streams a connection"
    );
    let events = args.events.unwrap_or(args.history);
    ensure!(
        events <= args.history,
        "{events} events cannot be read from a history of {}",
        args.history
    );
    let scratch = Scratch::new(&args.dir)?;
    let history = history::Plan {
        events: args.history,
        payload_bytes: args.payload_bytes,
        topics: args.topics,
        own_topics: if args.own_topics { args.subscribers } else { 0 },
        own_events: events,
    };
    let filled = history::fill(scratch.path(), &history, stop)?;
    let mut common = args.common.clone();
    let flags = history::serve_flags(scratch.path())?;
    common.server_args.splice(..0, flags);

    let who = match (args.library, args.own_topics) {
        (true, _) => "the client library".to_owned(),
        (false, true) => format!(
            "{} subscribers, each a topic of its own, spread over all of it",
            args.subscribers
        ),
        (false, false) => format!("{} subscriber(s)", args.subscribers),
    };
    let load = format!(
        "catchup: {who}, {events} events each, from {} events of {} bytes in {} topics",
        args.history, args.payload_bytes, args.topics,
    );
    let reading = Reading {
        args,
        common: &common,
        filled,
        events,
        stop,
    };
    repeat(load, &args.common, |cores| reading.run(cores))
}

struct Reading<'a> {
    args: &'a CatchupArgs,
    common: &'a CommonArgs,
    filled: Filled,
    events: u64,
    stop: &'a Stop,
}

/// The figures of one server and its readers.
struct Outcome {
    done: Done,
    server_cpu_ns: u64,
    load_cpu_ns: u64,
    peak_bytes: u64,
    reads: u64,
    damaged: u64,
}

impl Reading<'_> {
    fn run(&self, cores: &Pinning) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let all = self.read(self.args.subscribers, cores)?;
        let seconds = (all.done.complete_ns - all.done.began_ns) as f64 / 1e9;
        figures.add("seconds", "from connecting to the last event (s)", seconds);
        figures.add(
            "events_per_s",
            "events per second, all together",
            all.done.events as f64 / seconds,
        );
        let ms = |then: u64| then.saturating_sub(all.done.began_ns) as f64 / 1e6;
        figures.add(
            "welcome_ms",
            "until all held their Welcome (ms)",
            ms(all.done.welcome_ns),
        );
        figures.add(
            "first_event_ms",
            "until the first event (ms)",
            ms(all.done.first_event_ns),
        );
        figures.add(
            "cpu_us_per_event",
            "server CPU per event (us)",
            all.server_cpu_ns as f64 / 1e3 / all.done.events as f64,
        );
        let percent = |cpu_ns: u64| cpu_ns as f64 / 1e7 / seconds;
        figures.add(
            "server_cpu_percent",
            "server CPU (% of a core)",
            percent(all.server_cpu_ns),
        );
        figures.add(
            "load_cpu_percent",
            "load CPU (% of a core)",
            percent(all.load_cpu_ns),
        );
        figures.add(
            "memory_peak_mib",
            "server memory at its peak (MiB)",
            mib(all.peak_bytes),
        );
        figures.add("reads", "blocks and batches read", all.reads as f64);
        if self.args.own_topics {
            let each = all.reads as f64 / f64::from(self.args.subscribers);
            figures.add(
                "reads_each",
                "blocks and batches read, each subscriber",
                each,
            );
        } else if self.args.subscribers > 1 {
            let one = self.read(1, cores)?;
            figures.add(
                "reads_of_one",
                "blocks and batches read for one",
                one.reads as f64,
            );
            figures.add(
                "reads_ratio",
                "reads for all / for one",
                all.reads as f64 / one.reads as f64,
            );
        }
        if all.damaged > 0 {
            let damaged = all.damaged;
            figures
                .troubles
                .push(format!("{damaged} blocks were damaged"));
        }
        Ok(figures)
    }

    fn read(&self, subscribers: u32, cores: &Pinning) -> anyhow::Result<Outcome> {
        let mut server = Server::for_run(self.common, &cores.server)?;
        let pid = server.pid.context("the server's process is not known")?;
        let resume_after = if self.args.own_topics {
            // Nothing of any own topic comes before its first event.
            (self.filled.epoch, 0)
        } else {
            (self.filled.epoch, self.filled.last - self.events)
        };
        let plan = Plan {
            server: server.address,
            subscribers,
            streams: self.args.streams,
            own_topics: self.args.own_topics,
            resume_after: Some(resume_after).filter(|(_, sequence)| *sequence > 0),
            events_each: self.events,
            stream_window_bytes: self.common.stream_window,
            connection_window_bytes: self.common.connection_window,
            library: self.args.library,
            deadline_ns: monotonic_ns() + nanoseconds(TIMEOUT),
        };
        let server_before = CpuTime::of(pid)?;
        let mut load: LoadProcess<Done> = LoadProcess::start("read-load", &plan, &cores.load)?;
        let load_before = CpuTime::of(load.pid())?;
        let slack = nanoseconds(Duration::from_secs(10));
        let done = load.hear(plan.deadline_ns + slack, self.stop)?;
        let server_cpu_ns = CpuTime::of(pid)?.since(&server_before);
        let load_cpu_ns = CpuTime::of(load.pid())?.since(&load_before);
        let peak_bytes = proc::peak_bytes(pid)?;
        drop(load);
        server.drain()?;
        ensure!(
            done.trouble.is_none() && done.complete == subscribers,
            "{} of {subscribers} subscribers read all, {} events in all: {}{}",
            done.complete,
            done.events,
            done.trouble.as_deref().unwrap_or("no reason known"),
            server.last_words(),
        );
        let counts = server
            .store_counts()
            .context("the server did not say how much its store has read")?;
        Ok(Outcome {
            done,
            server_cpu_ns,
            load_cpu_ns,
            peak_bytes,
            reads: counts.reads,
            damaged: counts.damaged,
        })
    }
}
