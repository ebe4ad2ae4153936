//! `longlived bench publish`: the cost of a message without subscribers.
//!
//! Holds: the server's CPU time is read right before the first measured message and right after the last answer;
//! the server is silent then.
//! On disk it compares the answers with bare writes into the same file system, before and after.
//! Does not: see commits from outside. A server that was started here says at its end how many there were, the
//! warm-up included.

mod caller;
mod control;
mod event_loop;

use std::io::BufReader;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;

use self::control::{Done, Go, Plan};
use super::args::{CommonArgs, PublishArgs};
use super::bare::Bare;
use super::clock::{monotonic_ns, nanoseconds};
use super::figures::{Figures, mib};
use super::load_process::LoadProcess;
use super::pin::Pinning;
use super::proc::{self, CpuTime};
use super::repeat::repeat;
use super::server::Server;
use super::stop::Stop;

/// The longest that warm-up or measurement may take.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Bare writes before and after, to compare the answers of a server on disk with.
const BARE_WRITES: usize = 400;
/// Bytes of a record on disk beside the payload, about.
const RECORD_OVERHEAD_BYTES: usize = 112;
/// Times to the answer that are taken, about.
const SAMPLES: u64 = 500_000;

/// The load process: obeys standard input, reports on standard output, ends with the former.
pub(super) fn load() -> anyhow::Result<()> {
    let mut commands = BufReader::new(std::io::stdin());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut commands, &mut line).context("reading the plan")?;
    let plan: Plan =
        serde_json::from_str(&line).context("the first line of standard input is not a plan")?;
    event_loop::Load::connect(plan)?.run(&mut commands, std::io::stdout())
}

/// Publishes beside another measurement, to the topics that `bench publish` uses.
pub(super) struct Background(LoadProcess<Done>);

impl Background {
    /// Connects one stream.
    pub(super) fn start(
        server: &Server,
        common: &CommonArgs,
        topics: u32,
        payload_bytes: u32,
        cores: &Pinning,
    ) -> anyhow::Result<Self> {
        let plan = Plan {
            server: server.address,
            connections: 1,
            in_flight: 8192,
            unary: false,
            topics,
            payload_bytes,
            stream_window_bytes: common.stream_window,
            connection_window_bytes: common.connection_window,
            sample_every: u32::MAX,
            // Bounds the calls of unary publishing, of which there are none.
            messages_total: 0,
        };
        Ok(Self(LoadProcess::start(
            "publish-load",
            &plan,
            &cores.load,
        )?))
    }

    /// Begins to publish; does not wait.
    pub(super) fn begin(&mut self, messages: u64) -> anyhow::Result<()> {
        self.0.tell(&Go { messages })
    }

    /// Waits until all that was begun is answered.
    pub(super) fn finish(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let done = self.0.hear(monotonic_ns() + nanoseconds(TIMEOUT), stop)?;
        ensure!(done.trouble.is_none(), "{:?}", done.trouble);
        Ok(())
    }
}

pub(super) fn measure(args: &PublishArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let warmup = args.warmup.unwrap_or(args.messages / 5);
    let how = if args.unary {
        "Publish calls"
    } else {
        "messages of its PublishStream"
    };
    let load = format!(
        "publish: {} messages of {} bytes to {} topic(s) after {warmup} of warm-up; {} connection(s), {} {how} in flight on each; history {}",
        args.messages,
        args.payload_bytes,
        args.topics,
        args.connections,
        args.in_flight,
        args.data_dir.as_deref().unwrap_or("in memory"),
    );
    let mut common = args.common.clone();
    if let Some(dir) = &args.data_dir {
        common
            .server_args
            .extend(["--data-dir".to_owned(), dir.clone()]);
    }
    repeat(load, &args.common, |cores| {
        run(args, warmup, &common, cores, stop)
    })
}

fn run(
    args: &PublishArgs,
    warmup: u64,
    common: &CommonArgs,
    cores: &Pinning,
    stop: &Stop,
) -> anyhow::Result<Figures> {
    let mut server = Server::for_run(common, &cores.server)?;
    let plan = Plan {
        server: server.address,
        connections: args.connections,
        in_flight: args.in_flight,
        unary: args.unary,
        topics: args.topics,
        payload_bytes: args.payload_bytes,
        stream_window_bytes: common.stream_window,
        connection_window_bytes: common.connection_window,
        sample_every: u32::try_from(args.messages.div_ceil(SAMPLES)).unwrap_or(u32::MAX),
        messages_total: warmup + args.messages,
    };
    let mut load = LoadProcess::start("publish-load", &plan, &cores.load)?;
    let publish = |load: &mut LoadProcess<Done>, messages| {
        load.tell(&Go { messages })?;
        let done = load.hear(monotonic_ns() + nanoseconds(TIMEOUT), stop)?;
        let trouble = done.trouble.as_deref().unwrap_or("no reason known");
        ensure!(
            done.answered == messages,
            "{} of {messages} messages were answered: {trouble}{}",
            done.answered,
            server.last_words(),
        );
        Ok(done)
    };
    publish(&mut load, warmup)?;
    let mut bare = Histogram::new(3).context("a histogram of bare writes")?;
    write_bare(args, &mut bare)?;
    let cpu = |pid: Option<u32>| pid.map(CpuTime::of).transpose();
    let server_before = cpu(server.pid)?;
    let load_before = CpuTime::of(load.pid())?;
    let done = publish(&mut load, args.messages)?;
    let server_cpu_ns = server_before
        .zip(cpu(server.pid)?)
        .map(|(before, after)| after.since(&before));
    let load_cpu_ns = CpuTime::of(load.pid())?.since(&load_before);
    write_bare(args, &mut bare)?;
    let resident = server.pid.map(proc::resident_bytes).transpose()?;
    drop(load);
    let committed = server.drain()?;

    let mut figures = Figures::default();
    add_costs(&mut figures, &done, server_cpu_ns, load_cpu_ns);
    if let Some(committed) = committed {
        figures.add(
            "messages_per_commit",
            "messages per commit, warm-up included",
            committed.messages as f64 / committed.commits.max(1) as f64,
        );
        ensure!(
            committed.messages == warmup + args.messages,
            "the server committed {} messages, {} were published",
            committed.messages,
            warmup + args.messages,
        );
    }
    add_latencies(&mut figures, &histogram(&done)?, &bare);
    if let Some(bytes) = resident {
        figures.add("memory_mib", "server memory after it (MiB)", mib(bytes));
    }
    Ok(figures)
}

/// The rate, and its cost for server and load.
fn add_costs(figures: &mut Figures, done: &Done, server_cpu_ns: Option<u64>, load_cpu_ns: u64) {
    let messages = done.answered as f64;
    let percent = |cpu_ns: u64| cpu_ns as f64 / done.took_ns as f64 * 100.0;
    figures.add(
        "messages_per_s",
        "messages per second",
        messages / done.took_ns as f64 * 1e9,
    );
    if let Some(cpu_ns) = server_cpu_ns {
        figures.add(
            "cpu_us_per_message",
            "server CPU per message (us)",
            cpu_ns as f64 / 1e3 / messages,
        );
        figures.add(
            "server_cpu_percent",
            "server CPU (% of a core)",
            percent(cpu_ns),
        );
    }
    figures.add(
        "load_cpu_percent",
        "load CPU (% of a core)",
        percent(load_cpu_ns),
    );
}

/// How long answers took, beside a bare write where there were any.
fn add_latencies(figures: &mut Figures, latencies: &Histogram<u64>, bare: &Histogram<u64>) {
    let latency_us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    figures.add(
        "answer_p50_us",
        "time to the answer p50 (us)",
        latency_us(0.5),
    );
    figures.add(
        "answer_p99_us",
        "time to the answer p99 (us)",
        latency_us(0.99),
    );
    figures.add(
        "answer_max_us",
        "time to the answer max (us)",
        latency_us(1.0),
    );
    if !bare.is_empty() {
        let bare_us = |quantile| bare.value_at_quantile(quantile) as f64 / 1e3;
        figures.add("bare_p50_us", "bare write and sync p50 (us)", bare_us(0.5));
        figures.add("bare_p99_us", "bare write and sync p99 (us)", bare_us(0.99));
        figures.add(
            "answer_over_bare_us",
            "answer p50 beyond the bare write (us)",
            latency_us(0.5) - bare_us(0.5),
        );
    }
}

/// Writes and syncs as much as one message takes beside the data directory, while the server has nothing to do.
fn write_bare(args: &PublishArgs, times: &mut Histogram<u64>) -> anyhow::Result<()> {
    let Some(dir) = &args.data_dir else {
        return Ok(());
    };
    let path = format!("{}.bare", dir.trim_end_matches('/'));
    let mut bare = Bare::new(path.into()).context("beside the data directory")?;
    let bytes = args.payload_bytes as usize + RECORD_OVERHEAD_BYTES;
    for _ in 0..BARE_WRITES {
        bare.prepare(bytes.next_multiple_of(64))?;
        times
            .record(bare.write()?)
            .context("a histogram of bare writes")?;
    }
    Ok(())
}

fn histogram(done: &Done) -> anyhow::Result<Histogram<u64>> {
    let mut histogram = Histogram::new(3).context("a histogram of latencies")?;
    for (nanoseconds, count) in &done.latencies {
        histogram
            .record_n(*nanoseconds, *count)
            .context("adding latencies")?;
    }
    Ok(histogram)
}
