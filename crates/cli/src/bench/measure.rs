//! One measurement from start to end: a server, the load, a window, the figures.
//!
//! Holds: the server's CPU time is read at both ends of the very window in which deliveries are counted; its
//! memory is read before the first connection and again when all subscribers hold their Welcome.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;

use super::args::{CommonArgs, FanoutArgs, FanoutLoad, IdleArgs, Topics};
use super::clock::monotonic_ns;
use super::figures::{Figures, Summary};
use super::load::control::{Command, Connected, Finished, Plan, PublishPlan, Published, Report};
use super::load_process::LoadProcess;
use super::pin::{self, Cores};
use super::proc::{self, CpuTime};
use super::run::Stop;
use super::server::Server;

/// After the last Welcome, until memory is read: what serves the burst should be over.
const SETTLE: Duration = Duration::from_secs(1);
/// Time for commands to arrive before what they announce begins.
const LEAD: Duration = Duration::from_millis(200);
/// Nothing received for so long, and what is missing is lost.
const QUIET: Duration = Duration::from_secs(2);
/// The longest wait for what was published to arrive.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How much later than its deadline a load process may answer.
const ANSWER_SLACK: Duration = Duration::from_secs(10);
/// Latencies taken in a second, about, when nothing was said about it.
const SAMPLES_PER_SECOND: u64 = 200_000;
/// Descriptors of a load process that are not connections.
const OTHER_FILES: u64 = 64;

pub(super) fn idle(args: &IdleArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let load = format!(
        "idle: {} connections x {} streams, {}, watched for {}",
        args.connections,
        args.streams,
        topics_in_words(args.topics),
        humantime::format_duration(args.duration),
    );
    let shape = Shape {
        connections: args.connections,
        streams: args.streams,
        topics: args.topics,
        sample_every: 1,
    };
    repeat(load, &args.common, |cores| {
        let mut bench = Bench::connect(&args.common, shape, cores, stop)?;
        let start = monotonic_ns() + nanoseconds(LEAD);
        let end = start + nanoseconds(args.duration);
        bench.tell_all(&Command::Window {
            start_ns: start,
            end_ns: end,
        })?;
        let window = bench.watch(start, end)?;
        let finished = bench.finish(&Published::default())?;
        Ok(bench.idle_figures(&window, &finished))
    })
}

pub(super) fn fanout(args: &FanoutArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let load = args.load();
    let rate = if load.rate == 0 {
        format!("as fast as {} in flight allow", args.in_flight)
    } else {
        format!("{} messages/s", load.rate)
    };
    let in_words = format!(
        "fanout: {} connections x {} streams, {}, {rate}, {}-byte payloads, {} after {} of warm-up",
        load.connections,
        load.streams,
        topics_in_words(args.topics),
        load.payload_bytes,
        humantime::format_duration(args.duration),
        humantime::format_duration(args.warmup),
    );
    let shape = Shape {
        connections: load.connections,
        streams: load.streams,
        topics: args.topics,
        sample_every: sample_every(args, load),
    };
    repeat(in_words, &args.common, |cores| {
        let mut bench = Bench::connect(&args.common, shape, cores, stop)?;
        let begin = monotonic_ns() + nanoseconds(LEAD);
        let start = begin + nanoseconds(args.warmup);
        let end = start + nanoseconds(args.duration);
        bench.tell_all(&Command::Window {
            start_ns: start,
            end_ns: end,
        })?;
        bench.loads[0].tell(&Command::Publish(PublishPlan {
            begin_ns: begin,
            end_ns: end,
            rate: load.rate,
            payload_bytes: load.payload_bytes,
            in_flight_max: args.in_flight,
        }))?;
        let window = bench.watch(start, end)?;
        let published = bench.published(end)?;
        let finished = bench.finish(&published)?;
        let publishing = Duration::from_nanos(end - begin);
        bench.fanout_figures(&window, publishing, &published, &finished)
    })
}

/// All deliveries where that is cheap; a fixed share of them where taking each would make the load slow.
fn sample_every(args: &FanoutArgs, load: FanoutLoad) -> u32 {
    if args.sample_every > 0 {
        return args.sample_every;
    }
    let receivers = match args.topics {
        Topics::One => u64::from(load.connections) * u64::from(load.streams),
        Topics::Inbox => 1,
    };
    let rate = if load.rate == 0 {
        u64::from(u16::MAX)
    } else {
        load.rate
    };
    let deliveries = rate.saturating_mul(receivers);
    u32::try_from(deliveries.div_ceil(SAMPLES_PER_SECOND))
        .unwrap_or(u32::MAX)
        .max(1)
}

fn topics_in_words(topics: Topics) -> &'static str {
    match topics {
        Topics::One => "one topic",
        Topics::Inbox => "each its own inbox",
    }
}

/// Every run with a fresh server, then the result in the form asked for. The exit status says whether
/// everything published arrived and every stream stood.
fn repeat(
    load: String,
    args: &CommonArgs,
    mut run: impl FnMut(&Pinning) -> anyhow::Result<Figures>,
) -> anyhow::Result<ExitCode> {
    let (server, load_cores) =
        pin::split(args.server_cores.as_deref(), args.load_cores.as_deref())?;
    let pinning = Pinning {
        server,
        load: load_cores,
    };
    let pinning_in_words = if args.server.is_some() {
        format!("a server that ran already, load on {}", pinning.load)
    } else {
        format!("server on {}, load on {}", pinning.server, pinning.load)
    };
    let runs = (0..args.runs)
        .map(|_| run(&pinning))
        .collect::<anyhow::Result<_>>()?;
    let summary = Summary {
        load,
        machine: proc::machine(),
        pinning: pinning_in_words,
        runs,
    };
    if args.json {
        println!("{}", summary.json().context("writing the result as JSON")?);
    } else {
        print!("{}", summary.table());
    }
    Ok(if summary.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Pinning {
    server: Cores,
    load: Cores,
}

/// Who subscribes to what.
#[derive(Debug, Clone, Copy)]
struct Shape {
    connections: u32,
    streams: u32,
    topics: Topics,
    sample_every: u32,
}

impl Shape {
    fn subscribers(self) -> u64 {
        u64::from(self.connections) * u64::from(self.streams)
    }
}

/// A server with all its subscribers.
struct Bench<'a> {
    shape: Shape,
    loads: Vec<LoadProcess>,
    server: Server,
    stop: &'a Stop,
    began_ns: u64,
    connect_ns: u64,
    memory: Option<Memory>,
}

/// Resident memory of the server, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    before: u64,
    connected: u64,
}

/// What was read at both ends of the window.
struct Window {
    length: Duration,
    server_cpu_ns: Option<u64>,
    server_resident_bytes: Option<u64>,
    load_cpu_ns: u64,
}

impl<'a> Bench<'a> {
    /// Starts everything and waits until every subscriber holds its Welcome.
    fn connect(
        args: &CommonArgs,
        shape: Shape,
        cores: &Pinning,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let began_ns = monotonic_ns();
        let server = Server::for_run(args, &cores.server)?;
        let mut bench = Self {
            shape,
            loads: Vec::new(),
            server,
            stop,
            began_ns,
            connect_ns: 0,
            memory: None,
        };
        for plan in plans(args, shape, &bench.server)? {
            bench.loads.push(LoadProcess::start(&plan, &cores.load)?);
        }
        let deadline = monotonic_ns() + nanoseconds(ANSWER_SLACK);
        for load in &mut bench.loads {
            match load.hear(deadline, stop)? {
                Report::Ready => {}
                other => bail!("a load process began with {other:?}"),
            }
        }
        let before = bench.resident_bytes()?;
        let start = monotonic_ns();
        bench.tell_all(&Command::Connect {
            deadline_ns: start + nanoseconds(args.connect_timeout),
        })?;
        let connected =
            bench.hear_connected(start + nanoseconds(args.connect_timeout + ANSWER_SLACK))?;
        if connected.welcomed < shape.subscribers() {
            bail!(
                "{} of {} subscribers hold their Welcome, {} were refused or cut off{}{}",
                connected.welcomed,
                shape.subscribers(),
                connected.refused,
                connected
                    .trouble
                    .map(|trouble| format!(": {trouble}"))
                    .unwrap_or_default(),
                bench.server.last_words(),
            );
        }
        bench.connect_ns = connected.last_welcome_ns.saturating_sub(start);
        bench.wait_until(monotonic_ns() + nanoseconds(SETTLE))?;
        let connected = bench.resident_bytes()?;
        bench.memory = before
            .zip(connected)
            .map(|(before, connected)| Memory { before, connected });
        Ok(bench)
    }

    fn tell_all(&mut self, command: &Command) -> anyhow::Result<()> {
        self.loads
            .iter_mut()
            .try_for_each(|load| load.tell(command))
    }

    fn hear_connected(&mut self, deadline_ns: u64) -> anyhow::Result<Connected> {
        let mut all = Connected::default();
        for load in &mut self.loads {
            match load.hear(deadline_ns, self.stop)? {
                Report::Connected(one) => {
                    all.welcomed += one.welcomed;
                    all.refused += one.refused;
                    all.last_welcome_ns = all.last_welcome_ns.max(one.last_welcome_ns);
                    all.trouble = all.trouble.or(one.trouble);
                }
                other => bail!("a load process answered Connect with {other:?}"),
            }
        }
        Ok(all)
    }

    fn resident_bytes(&self) -> anyhow::Result<Option<u64>> {
        self.server.pid.map(proc::resident_bytes).transpose()
    }

    fn server_cpu(&self) -> anyhow::Result<Option<CpuTime>> {
        self.server.pid.map(CpuTime::of).transpose()
    }

    fn loads_cpu(&self) -> anyhow::Result<Vec<CpuTime>> {
        self.loads
            .iter()
            .map(|load| CpuTime::of(load.pid()))
            .collect()
    }

    /// Reads the clocks when the window begins and when it ends.
    fn watch(&self, start_ns: u64, end_ns: u64) -> anyhow::Result<Window> {
        self.wait_until(start_ns)?;
        let loads_before = self.loads_cpu()?;
        let server_before = self.server_cpu()?;
        let began = monotonic_ns();
        self.wait_until(end_ns)?;
        let server_after = self
            .server_cpu()
            .with_context(|| format!("the server is gone{}", self.server.last_words()))?;
        let length = Duration::from_nanos(monotonic_ns() - began);
        let loads_after = self.loads_cpu()?;
        // Waking up late stretches the CPU time that is seen, not the deliveries that are counted.
        let late = length.saturating_sub(Duration::from_nanos(end_ns - start_ns));
        ensure!(
            late < Duration::from_secs(1),
            "this process was not woken for {late:?}; the machine is too busy"
        );
        Ok(Window {
            length: Duration::from_nanos(end_ns - start_ns),
            server_cpu_ns: server_before
                .zip(server_after)
                .map(|(before, after)| after.since(&before)),
            server_resident_bytes: self.resident_bytes()?,
            load_cpu_ns: loads_before
                .iter()
                .zip(&loads_after)
                .map(|(before, after)| after.since(before))
                .sum(),
        })
    }

    fn published(&mut self, end_ns: u64) -> anyhow::Result<Published> {
        match self.loads[0].hear(end_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
            Report::Published(published) => Ok(published),
            other => bail!("a load process answered Publish with {other:?}"),
        }
    }

    /// Waits for what is still on its way and adds up what all load processes saw.
    fn finish(&mut self, published: &Published) -> anyhow::Result<Seen> {
        let deadline_ns = monotonic_ns() + nanoseconds(DRAIN_MAX);
        let quiet_ns = nanoseconds(QUIET);
        self.tell_all(&Command::Finish {
            published: published.clone(),
            quiet_ns,
            deadline_ns,
        })?;
        let mut seen = Seen::new()?;
        for load in &mut self.loads {
            match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Finished(finished) => seen.add(&finished)?,
                other => bail!("a load process answered Finish with {other:?}"),
            }
        }
        Ok(seen)
    }

    fn wait_until(&self, then_ns: u64) -> anyhow::Result<()> {
        loop {
            self.stop.check()?;
            let left = then_ns.saturating_sub(monotonic_ns());
            if left == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_nanos(left.min(50_000_000)));
        }
    }

    fn idle_figures(&self, window: &Window, seen: &Seen) -> Figures {
        let mut figures = Figures::default();
        self.add_connecting(&mut figures);
        if let Some(cpu_ns) = window.server_cpu_ns {
            let minutes = window.length.as_secs_f64() / 60.0;
            let stream_minutes = self.shape.subscribers() as f64 * minutes;
            figures.add(
                "idle_cpu_us_per_stream_minute",
                "server CPU per stream and idle minute (us)",
                cpu_ns as f64 / 1e3 / stream_minutes,
            );
            figures.add(
                "idle_cpu_percent",
                "server CPU while idle (% of a core)",
                cpu_ns as f64 / window.length.as_nanos() as f64 * 100.0,
            );
        }
        self.add_end(&mut figures, seen, None);
        figures
    }

    fn fanout_figures(
        &self,
        window: &Window,
        publishing: Duration,
        published: &Published,
        seen: &Seen,
    ) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let seconds = window.length.as_secs_f64();
        let deliveries = seen.total.delivered_in_window as f64;
        ensure!(
            deliveries > 0.0,
            "nothing was delivered in the window{}",
            trouble_in_words(published, seen)
        );
        if let Some(cpu_ns) = window.server_cpu_ns {
            figures.add(
                "cpu_us_per_delivery",
                "server CPU per delivery (us)",
                cpu_ns as f64 / 1e3 / deliveries,
            );
            figures.add(
                "server_cpu_percent",
                "server CPU (% of a core)",
                cpu_ns as f64 / 1e7 / seconds,
            );
        }
        figures.add(
            "load_cpu_percent",
            "load CPU (% of a core)",
            window.load_cpu_ns as f64 / 1e7 / seconds,
        );
        figures.add(
            "deliveries_per_s",
            "deliveries per second",
            deliveries / seconds,
        );
        figures.add(
            "published_per_s",
            "published per second",
            published.acknowledged as f64 / publishing.as_secs_f64(),
        );
        let latency_us = |quantile| seen.latencies.value_at_quantile(quantile) as f64 / 1e3;
        figures.add("latency_p50_us", "latency p50 (us)", latency_us(0.5));
        figures.add("latency_p99_us", "latency p99 (us)", latency_us(0.99));
        figures.add(
            "latency_max_us",
            "latency max (us)",
            seen.latencies.max() as f64 / 1e3,
        );
        figures.add(
            "latency_samples",
            "latencies taken",
            seen.latencies.len() as f64,
        );
        self.add_connecting(&mut figures);
        if let Some(bytes) = window.server_resident_bytes {
            figures.add(
                "memory_after_window_mib",
                "server memory after the window (MiB)",
                mib(bytes),
            );
        }
        self.add_end(&mut figures, seen, Some(published));
        Ok(figures)
    }

    fn add_connecting(&self, figures: &mut Figures) {
        figures.add(
            "connect_all_ms",
            "all hold their Welcome after (ms)",
            self.connect_ns as f64 / 1e6,
        );
        if let Some(memory) = self.memory {
            let grown = memory.connected as f64 - memory.before as f64;
            figures.add(
                "memory_kib_per_subscriber",
                "server memory per subscriber (KiB)",
                grown / 1024.0 / self.shape.subscribers() as f64,
            );
            figures.add(
                "memory_before_mib",
                "server memory before connections (MiB)",
                mib(memory.before),
            );
            figures.add(
                "memory_connected_mib",
                "server memory with all connected (MiB)",
                mib(memory.connected),
            );
        }
    }

    fn add_end(&self, figures: &mut Figures, seen: &Seen, published: Option<&Published>) {
        let total = &seen.total;
        if published.is_some() {
            figures.add("lost", "lost", total.lost as f64);
            figures.add("repeated", "repeated", total.repeated as f64);
            figures.add("gaps", "gaps announced", total.gaps as f64);
        }
        let wall = Duration::from_nanos(monotonic_ns() - self.began_ns);
        figures.add("wall_s", "wall time (s)", wall.as_secs_f64());
        figures
            .troubles
            .extend(published.and_then(|published| published.trouble.clone()));
        if let Some(published) = published
            && published.sent > published.acknowledged
        {
            let missing = published.sent - published.acknowledged;
            figures.troubles.push(format!(
                "{missing} published messages were not acknowledged"
            ));
        }
        if total.ended > 0 {
            let why = total.trouble.clone().unwrap_or_default();
            figures.troubles.push(format!(
                "{} streams ended during the run: {why}",
                total.ended
            ));
        }
        if total.lost + total.repeated > 0 {
            figures.troubles.push(format!(
                "{} deliveries lost, {} repeated",
                total.lost, total.repeated
            ));
        }
    }
}

/// What all load processes saw together.
struct Seen {
    total: Finished,
    latencies: Histogram<u64>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        let latencies = Histogram::new(3).context("a histogram of latencies")?;
        Ok(Self {
            total: Finished::default(),
            latencies,
        })
    }

    fn add(&mut self, one: &Finished) -> anyhow::Result<()> {
        let total = &mut self.total;
        total.delivered_in_window += one.delivered_in_window;
        total.delivered += one.delivered;
        total.lost += one.lost;
        total.repeated += one.repeated;
        total.gaps += one.gaps;
        total.ended += one.ended;
        total.trouble = total.trouble.take().or_else(|| one.trouble.clone());
        for (nanoseconds, count) in &one.latencies {
            self.latencies
                .record_n(*nanoseconds, *count)
                .context("adding latencies")?;
        }
        Ok(())
    }
}

fn trouble_in_words(published: &Published, seen: &Seen) -> String {
    let trouble = published.trouble.as_ref().or(seen.total.trouble.as_ref());
    trouble
        .map(|trouble| format!(": {trouble}"))
        .unwrap_or_default()
}

/// The connections shared out over load processes, each within its limit of open files.
fn plans(args: &CommonArgs, shape: Shape, server: &Server) -> anyhow::Result<Vec<Plan>> {
    let files_max = rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .maximum
        .unwrap_or(u64::MAX);
    let connections_max = u32::try_from(files_max.saturating_sub(OTHER_FILES))
        .unwrap_or(u32::MAX)
        .max(1);
    let processes = match args.load_processes {
        0 => shape.connections.div_ceil(connections_max),
        processes => processes.min(shape.connections),
    };
    let mut plans = Vec::new();
    let mut subscriber_first = 0;
    for index in 0..processes {
        // The first ones take one more each where it does not divide evenly.
        let connections =
            shape.connections / processes + u32::from(index < shape.connections % processes);
        ensure!(
            connections <= connections_max,
            "{connections} connections in one load process, but it may open {files_max} files: use more --load-processes"
        );
        plans.push(Plan {
            server: server.address,
            connections,
            streams: shape.streams,
            subscriber_first,
            subscribers_total: shape.subscribers(),
            topics: shape.topics,
            stream_window_bytes: args.stream_window,
            connection_window_bytes: args.connection_window,
            sample_every: shape.sample_every,
        });
        subscriber_first += u64::from(connections) * u64::from(shape.streams);
    }
    if let Some(streams_max) = plans.first().map(Plan::streams_max) {
        ensure!(
            shape.streams <= streams_max,
            "at most {streams_max} streams a connection"
        );
    }
    Ok(plans)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a run is shorter than centuries")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
