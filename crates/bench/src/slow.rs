//! `longlived bench slow`: the cost of subscribers that stop reading, for those that go on and for the server.
//!
//! A run measures twice, each time with a fresh server: the readers alone, then the readers beside many that stop
//! reading as soon as all are connected. The stalled ones are processes and connections of their own, so that nothing
//! but the server is shared.
//!
//! Holds: both halves publish the same for as long, so that the difference of memory belongs to the stalled ones.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use longlived_console::CompressionFlag;

use super::args::{PayloadKind, SlowArgs, StallHow, Topics};
use super::clock::{monotonic_ns, nanoseconds};
use super::figures::{Figures, mib};
use super::load::control::{
    Command, Connected, Finished, Plan, Protocol, PublishPlan, Published, Report, Stall,
};
use super::load_process::LoadProcess;
use super::measure::SAMPLES_PER_SECOND;
use super::pin::Pinning;
use super::proc::{self, CpuTime};
use super::repeat::repeat;
use super::rig::{ANSWER_SLACK, DRAIN_MAX, LEAD, QUIET, SETTLE};
use super::server::Server;
use super::stop::Stop;

/// The bytes that one stalled stream may hold at a position of its own: one delivery.
const DELIVERY_BYTES: u64 = 64 << 10;

pub(super) fn slow(args: &SlowArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    ensure!(
        args.stalled.is_multiple_of(args.stalled_streams)
            && args.readers.is_multiple_of(args.reader_streams),
        "subscribers must fill their connections: --stalled and --readers are multiples of the streams of a connection"
    );
    let how = match args.stall {
        StallHow::Window => "send no WINDOW_UPDATE",
        StallHow::Socket => "read nothing from the socket",
    };
    let load = format!(
        "slow: {} subscribers that {how} ({} a connection, windows of {} bytes) beside {} that read ({} a connection), \
         {} messages/s, {}-byte payloads, {} after {} of warm-up; readers alone first",
        args.stalled,
        args.stalled_streams,
        args.stalled_window,
        args.readers,
        args.reader_streams,
        args.rate,
        args.payload,
        humantime::format_duration(args.duration),
        humantime::format_duration(args.warmup),
    );
    repeat(load, &args.common, |cores| {
        let alone = Half::measure(args, false, cores, stop)?;
        let beside = Half::measure(args, true, cores, stop)?;
        figures(args, &alone, &beside)
    })
}

/// One of the two measurements of a run.
struct Half {
    latencies: Histogram<u64>,
    published: Published,
    readers: Finished,
    stalled: Option<Finished>,
    memory: Option<Memory>,
    /// Of the window.
    server_cpu_ns: Option<u64>,
}

/// Resident memory of the server, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    before: u64,
    connected: u64,
    after: u64,
    peak: u64,
}

impl Half {
    fn measure(
        args: &SlowArgs,
        with_stalled: bool,
        cores: &Pinning,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let mut server = Server::for_run(&args.common, &cores.server)?;
        let resident = || server.pid.map(proc::resident_bytes).transpose();
        let before = resident()?;
        let mut stalled = if with_stalled {
            let plan = stalled_plan(args, &server);
            let mut group = Group::connect(&plan, args, cores, stop)?;
            group.process.tell(&Command::Stall(match args.stall {
                StallHow::Window => Stall::Window,
                StallHow::Socket => Stall::Socket,
            }))?;
            Some(group)
        } else {
            None
        };
        let mut readers = Group::connect(&readers_plan(args, &server), args, cores, stop)?;
        wait_until(monotonic_ns() + nanoseconds(SETTLE), stop)?;
        let connected = resident()?;

        let begin_ns = monotonic_ns() + nanoseconds(LEAD);
        let start_ns = begin_ns + nanoseconds(args.warmup);
        let end_ns = start_ns + nanoseconds(args.duration);
        let process = &mut readers.process;
        process.tell(&Command::Window { start_ns, end_ns })?;
        process.tell(&Command::Publish(PublishPlan {
            begin_ns,
            end_ns,
            rate: args.rate,
            payload_bytes: args.payload,
            interval_ns: 0,
            in_flight_max: args.in_flight,
        }))?;
        let server_cpu = || server.pid.map(CpuTime::of).transpose();
        wait_until(start_ns, stop)?;
        let cpu_before = server_cpu()?;
        wait_until(end_ns, stop)?;
        let cpu = cpu_before.zip(server_cpu()?);
        let after = resident()?;
        let published = match process.hear(end_ns + nanoseconds(ANSWER_SLACK), stop)? {
            Report::Published(published) => published,
            other => bail!("a load process answered Publish with {other:?}"),
        };
        let peak = server.pid.map(proc::peak_bytes).transpose()?;
        server.ensure_running()?;
        let seen = readers.finish(&published, stop)?;
        // Nobody waits for their deliveries.
        let stalled = stalled
            .as_mut()
            .map(|group| group.finish(&Published::default(), stop))
            .transpose()?;
        let mut latencies = Histogram::new(3).context("a histogram of latencies")?;
        for (nanoseconds, count) in &seen.latencies {
            latencies
                .record_n(*nanoseconds, *count)
                .context("adding latencies")?;
        }
        let memory = before.zip(connected).zip(after).zip(peak);
        Ok(Self {
            latencies,
            published,
            readers: seen,
            stalled,
            server_cpu_ns: cpu.map(|(before, after)| after.since(&before)),
            memory: memory.map(|(((before, connected), after), peak)| Memory {
                before,
                connected,
                after,
                peak,
            }),
        })
    }
}

/// A load process whose subscribers all hold their Welcome.
struct Group {
    process: LoadProcess,
}

impl Group {
    fn connect(plan: &Plan, args: &SlowArgs, cores: &Pinning, stop: &Stop) -> anyhow::Result<Self> {
        let streams_max = plan.streams_max();
        ensure!(
            plan.streams <= streams_max,
            "at most {streams_max} streams a connection"
        );
        let mut process = LoadProcess::start("load", plan, &cores.load)?;
        let deadline = monotonic_ns() + nanoseconds(ANSWER_SLACK);
        match process.hear(deadline, stop)? {
            Report::Ready => {}
            other => bail!("a load process began with {other:?}"),
        }
        let deadline_ns = monotonic_ns() + nanoseconds(args.common.connect_timeout);
        process.tell(&Command::Connect { deadline_ns })?;
        let wanted = u64::from(plan.connections) * u64::from(plan.streams);
        match process.hear(deadline_ns + nanoseconds(ANSWER_SLACK), stop)? {
            Report::Connected(Connected { welcomed, .. }) if welcomed == wanted => {
                Ok(Self { process })
            }
            Report::Connected(connected) => bail!("not all connected: {connected:?}"),
            other => bail!("a load process answered Connect with {other:?}"),
        }
    }

    fn finish(&mut self, published: &Published, stop: &Stop) -> anyhow::Result<Finished> {
        let deadline_ns = monotonic_ns() + nanoseconds(DRAIN_MAX);
        self.process.tell(&Command::Finish {
            published: published.clone(),
            quiet_ns: nanoseconds(QUIET),
            deadline_ns,
        })?;
        match self
            .process
            .hear(deadline_ns + nanoseconds(ANSWER_SLACK), stop)?
        {
            Report::Finished(finished) => Ok(finished),
            other => bail!("a load process answered Finish with {other:?}"),
        }
    }
}

fn readers_plan(args: &SlowArgs, server: &Server) -> Plan {
    let deliveries = args.rate.saturating_mul(args.readers.into());
    let sample_every = deliveries.div_ceil(SAMPLES_PER_SECOND);
    Plan {
        server: server.address,
        connections: args.readers / args.reader_streams,
        streams: args.reader_streams,
        local_addresses: None,
        subscriber_first: 0,
        subscribers_total: args.readers.into(),
        topics: Topics::One,
        stream_window_bytes: args.common.stream_window,
        connection_window_bytes: args.common.connection_window,
        sample_every: u32::try_from(sample_every).unwrap_or(u32::MAX).max(1),
        protocol: Protocol::Grpc,
        compression: CompressionFlag::None,
        payload_kind: PayloadKind::Dots,
        tls: None,
        tokens: None,
    }
}

fn stalled_plan(args: &SlowArgs, server: &Server) -> Plan {
    Plan {
        connections: args.stalled / args.stalled_streams,
        streams: args.stalled_streams,
        subscriber_first: args.readers.into(),
        subscribers_total: u64::from(args.readers) + u64::from(args.stalled),
        stream_window_bytes: args.stalled_window,
        ..readers_plan(args, server)
    }
}

fn figures(args: &SlowArgs, alone: &Half, beside: &Half) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for half in [alone, beside] {
        ensure!(
            !half.latencies.is_empty(),
            "nothing was delivered in the window: {:?}",
            half.published
                .trouble
                .as_ref()
                .or(half.readers.trouble.as_ref())
        );
    }
    add_latencies(&mut figures, alone, beside);
    let seconds = (args.warmup + args.duration).as_secs_f64();
    for (name, label, half) in [
        (
            "published_alone_per_s",
            "published per second, alone",
            alone,
        ),
        (
            "published_beside_per_s",
            "published per second, beside stalled",
            beside,
        ),
    ] {
        figures.add(name, label, half.published.acknowledged as f64 / seconds);
    }
    for (name, label, half) in [
        (
            "server_cpu_alone_percent",
            "server CPU, readers alone (% of a core)",
            alone,
        ),
        (
            "server_cpu_beside_percent",
            "server CPU, beside stalled (% of a core)",
            beside,
        ),
    ] {
        if let Some(cpu_ns) = half.server_cpu_ns {
            let window = args.duration.as_nanos() as f64;
            figures.add(name, label, cpu_ns as f64 / window * 100.0);
        }
    }
    if let (Some(alone), Some(beside)) = (alone.memory, beside.memory) {
        add_memory(&mut figures, args, alone, beside);
    }
    add_end(&mut figures, args, alone, beside);
    Ok(figures)
}

fn add_latencies(figures: &mut Figures, alone: &Half, beside: &Half) {
    let us = |half: &Half, quantile| half.latencies.value_at_quantile(quantile) as f64 / 1e3;
    figures.add(
        "p50_alone_us",
        "latency p50, readers alone (us)",
        us(alone, 0.5),
    );
    figures.add(
        "p50_beside_us",
        "latency p50, beside stalled (us)",
        us(beside, 0.5),
    );
    figures.add(
        "p50_ratio",
        "p50 beside / alone",
        us(beside, 0.5) / us(alone, 0.5),
    );
    figures.add(
        "p99_alone_us",
        "latency p99, readers alone (us)",
        us(alone, 0.99),
    );
    figures.add(
        "p99_beside_us",
        "latency p99, beside stalled (us)",
        us(beside, 0.99),
    );
    figures.add(
        "p99_ratio",
        "p99 beside / alone",
        us(beside, 0.99) / us(alone, 0.99),
    );
}

fn add_end(figures: &mut Figures, args: &SlowArgs, alone: &Half, beside: &Half) {
    if let Some(stalled) = &beside.stalled {
        let each = stalled.delivered as f64 / f64::from(args.stalled);
        figures.add("stalled_received", "events each stalled one received", each);
        if stalled.ended > 0 {
            let why = stalled.trouble.clone().unwrap_or_default();
            let ended = stalled.ended;
            figures.troubles.push(format!(
                "{ended} stalled streams ended during the run: {why}"
            ));
        }
    }
    for half in [alone, beside] {
        figures.troubles.extend(half.published.trouble.clone());
        let Finished {
            lost,
            repeated,
            ended,
            ..
        } = half.readers;
        if lost + repeated + ended > 0 {
            figures.troubles.push(format!(
                "readers: {lost} deliveries lost, {repeated} repeated, {ended} streams ended"
            ));
        }
    }
}

fn add_memory(figures: &mut Figures, args: &SlowArgs, alone: Memory, beside: Memory) {
    for (name, label, bytes) in [
        (
            "memory_before_mib",
            "server memory before connections (MiB)",
            beside.before,
        ),
        (
            "memory_connected_mib",
            "server memory with all connected (MiB)",
            beside.connected,
        ),
        (
            "memory_after_mib",
            "server memory after the window (MiB)",
            beside.after,
        ),
        (
            "memory_peak_mib",
            "server memory at its peak (MiB)",
            beside.peak,
        ),
    ] {
        figures.add(name, label, mib(bytes));
    }
    let grown = |memory: Memory| memory.peak.saturating_sub(memory.connected);
    let allowed = beside.connected + grown(alone) + u64::from(args.stalled) * DELIVERY_BYTES;
    figures.add(
        "memory_allowed_mib",
        "all connected + what is kept + 64 KiB a stalled one (MiB)",
        mib(allowed),
    );
    let held = grown(beside) as f64 - grown(alone) as f64;
    figures.add(
        "held_kib_per_stalled",
        "held by a stalled stream beyond being connected (KiB)",
        held / 1024.0 / f64::from(args.stalled),
    );
    if beside.peak > allowed {
        figures
            .troubles
            .push("the server took more memory than the formula allows".to_owned());
    }
}

fn wait_until(then_ns: u64, stop: &Stop) -> anyhow::Result<()> {
    loop {
        stop.check()?;
        let left = then_ns.saturating_sub(monotonic_ns());
        if left == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_nanos(left.min(50_000_000)));
    }
}
