//! The measurements: the commands to server and load, and the figures that follow.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use longlived_console::{CompressionFlag, note, print_line};

use super::args::{FanoutArgs, FanoutLoad, IdleArgs, PayloadKind, Topics};
use super::clock::{monotonic_ns, nanoseconds};
use super::figures::{Figures, mib};
use super::health::HealthProbe;
use super::load::control::{Protocol, PublishPlan, Published};
use super::pin::Pinning;
use super::repeat::repeat;
use super::rig::{LEAD, Rig, Seen, Shape, Window};
use super::room::Room;
use super::security::Security;
use super::stop::Stop;

/// Latencies taken in a second, about, when nothing was said about it.
pub(super) const SAMPLES_PER_SECOND: u64 = 200_000;

pub(super) fn idle(args: &IdleArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let security = Security::of(&args.security, &args.common)?;
    let load = format!(
        "idle: {} connections x {} streams, {}, watched for {}{}",
        args.connections,
        args.streams,
        topics_in_words(args.topics),
        humantime::format_duration(args.duration),
        security.in_words(),
    );
    let shape = Shape {
        connections: args.connections,
        streams: args.streams,
        topics: args.topics,
        sample_every: 1,
        protocol: Protocol::Grpc,
        compression: CompressionFlag::None,
        payload_kind: PayloadKind::Dots,
    };
    let room = Room::of(&args.common, args.connections)?;
    // The result alone goes to standard output.
    room.ensure()?;
    note(room.to_string());
    repeat(load, &args.common, |cores| {
        let mut rig = Rig::connect(&args.common, &security, shape, cores, stop)?;
        let start = monotonic_ns() + nanoseconds(LEAD);
        let end = start + nanoseconds(args.duration);
        rig.open_window(start, end)?;
        let window = rig.watch(start, end)?;
        let finished = rig.finish(&Published::default())?;
        Ok(rig.idle_figures(&window, &finished))
    })
}

pub(super) fn fanout(args: &FanoutArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    let security = Security::of(&args.security, &args.common)?;
    let in_words = format!("fanout: {}{}", fanout_in_words(args), security.in_words());
    let ended = repeat(in_words, &args.common, |cores| {
        fanout_once(args, &security, cores, stop)
    })?;
    explain_latency(args)?;
    Ok(ended)
}

/// Below a table in which rows may be missing.
pub(super) fn explain_latency(args: &FanoutArgs) -> anyhow::Result<()> {
    if args.compression.encoding().is_some() && !args.common.json {
        print_line(
            "\ncompressed deliveries show no latency: when they were sent is not read out of them",
        )?;
    }
    Ok(())
}

pub(super) fn fanout_in_words(args: &FanoutArgs) -> String {
    let load = args.load();
    let rate = if load.rate == 0 {
        format!("as fast as {} in flight allow", args.in_flight)
    } else if load.publish_interval.is_zero() {
        format!("{} messages/s", load.rate)
    } else {
        let interval = humantime::format_duration(load.publish_interval);
        format!("{} messages/s, published every {interval}", load.rate)
    };
    let kind = match args.payload_kind {
        PayloadKind::Dots => "",
        PayloadKind::Json => " of JSON",
    };
    let encoding = args.compression.encoding();
    let encoding = encoding.map_or(String::new(), |name| format!(" as {name}"));
    let health = if args.probe_health {
        ", asked for health every 10 ms"
    } else {
        ""
    };
    format!(
        "{} connections x {} streams, {}, {rate}, {}-byte payloads{kind}{encoding}, {} after {} of warm-up{health}",
        load.connections,
        load.streams,
        topics_in_words(load.topics),
        load.payload_bytes,
        humantime::format_duration(args.duration),
        humantime::format_duration(args.warmup),
    )
}

/// One measurement, with a server of its own.
pub(super) fn fanout_once(
    args: &FanoutArgs,
    security: &Security,
    cores: &Pinning,
    stop: &Stop,
) -> anyhow::Result<Figures> {
    let shape = fanout_shape(args, Protocol::Grpc);
    let mut rig = Rig::connect(&args.common, security, shape, cores, stop)?;
    Ok(measure_fanout(&mut rig, args, cores)?.figures)
}

pub(super) fn fanout_shape(args: &FanoutArgs, protocol: Protocol) -> Shape {
    let load = args.load();
    Shape {
        connections: load.connections,
        streams: load.streams,
        topics: load.topics,
        sample_every: sample_every(args, load),
        protocol,
        compression: args.compression,
        payload_kind: args.payload_kind,
    }
}

/// The figures of one run.
pub(super) struct Fanout {
    pub(super) figures: Figures,
    /// See [`Window::load_waited`].
    pub(super) load_waited: f64,
}

/// One run of the load, on a server that has all its subscribers.
pub(super) fn measure_fanout(
    rig: &mut Rig<'_>,
    args: &FanoutArgs,
    cores: &Pinning,
) -> anyhow::Result<Fanout> {
    let load = args.load();
    let begin = monotonic_ns() + nanoseconds(LEAD);
    let start = begin + nanoseconds(args.warmup);
    let end = start + nanoseconds(args.duration);
    rig.open_window(start, end)?;
    let health = if args.probe_health {
        let server = rig.server();
        let (address, tls) = (server.address, server.tls.clone());
        Some(HealthProbe::start(address, tls, &cores.load, start, end)?)
    } else {
        None
    };
    rig.publish(PublishPlan {
        begin_ns: begin,
        end_ns: end,
        rate: load.rate,
        interval_ns: nanoseconds(load.publish_interval),
        payload_bytes: load.payload_bytes,
        in_flight_max: args.in_flight,
    })?;
    let window = rig.watch(start, end)?;
    let published = rig.published(end)?;
    let finished = rig.finish(&published)?;
    let publishing = Duration::from_nanos(end - begin);
    let mut figures = rig.fanout_figures(&window, publishing, &published, &finished)?;
    if let Some(health) = health {
        health.finish(&mut figures)?;
    }
    Ok(Fanout {
        figures,
        load_waited: window.load_waited,
    })
}

/// All deliveries where that is cheap; a fixed share of them where taking each would make the load slow.
fn sample_every(args: &FanoutArgs, load: FanoutLoad) -> u32 {
    if args.sample_every > 0 {
        return args.sample_every;
    }
    let receivers = match load.topics {
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

impl Rig<'_> {
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
        // A compressed message does not show its time of sending.
        if !seen.latencies.is_empty() {
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
        }
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
            self.connect.all_welcome_ns as f64 / 1e6,
        );
        if let Some(cpu_ns) = self.connect.server_cpu_ns {
            figures.add(
                "connect_cpu_us_per_subscriber",
                "server CPU per subscriber to connect (us)",
                cpu_ns as f64 / 1e3 / self.shape.subscribers() as f64,
            );
        }
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

fn trouble_in_words(published: &Published, seen: &Seen) -> String {
    let trouble = published.trouble.as_ref().or(seen.total.trouble.as_ref());
    trouble
        .map(|trouble| format!(": {trouble}"))
        .unwrap_or_default()
}
