//! A server with all its subscribers, ready to be measured.
//!
//! Holds: the server's CPU time is read at both ends of the very window in which deliveries are counted; its
//! memory is read before the first connection and again when all subscribers hold their Welcome.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use longlived_console::CompressionFlag;

use super::args::{CommonArgs, PayloadKind, Topics};
use super::clock::{monotonic_ns, nanoseconds};
use super::load::control::{
    Command, Connected, Finished, Plan, Protocol, PublishPlan, Published, Report,
};
use super::load_process::{LoadProcess, cpu_of, tell_all};
use super::pin::Pinning;
use super::proc::{self, CpuTime};
use super::room::{LocalAddresses, Room};
use super::security::Security;
use super::server::Server;
use super::stop::Stop;

/// After the last Welcome, until memory is read: the buffers of the burst should be free.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
/// Time for commands to arrive before their window begins.
pub(super) const LEAD: Duration = Duration::from_millis(200);
/// After this time without an event the missing ones are lost.
pub(super) const QUIET: Duration = Duration::from_secs(2);
/// The longest wait for published messages to arrive.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How much later than its deadline a load process may answer.
pub(super) const ANSWER_SLACK: Duration = Duration::from_secs(10);
/// The longest wait for a server to let go of its connections.
const REST_MAX: Duration = Duration::from_secs(30);
/// A server that uses less than this share of a core does nothing.
const BUSY_ONE_IN: u64 = 20;
/// The longest that the signature of a token takes, also on a busy machine.
const SIGNING_EACH: Duration = Duration::from_millis(1);
/// Descriptors of a load process that are not connections.
const OTHER_FILES: u64 = 64;

/// The subscribers and their filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) connections: u32,
    pub(super) streams: u32,
    pub(super) topics: Topics,
    pub(super) sample_every: u32,
    pub(super) protocol: Protocol,
    pub(super) compression: CompressionFlag,
    pub(super) payload_kind: PayloadKind,
}

impl Shape {
    pub(super) fn subscribers(self) -> u64 {
        u64::from(self.connections) * u64::from(self.streams)
    }
}

/// A server with all its subscribers.
pub(super) struct Rig<'a> {
    pub(super) shape: Shape,
    loads: Vec<LoadProcess>,
    server: Server,
    stop: &'a Stop,
    pub(super) began_ns: u64,
    pub(super) connect: Connect,
    pub(super) memory: Option<Memory>,
}

/// How connecting went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Connect {
    /// Until the last Welcome.
    pub(super) all_welcome_ns: u64,
    pub(super) server_cpu_ns: Option<u64>,
    /// Of all load processes.
    pub(super) load_cpu_ns: u64,
    /// Connections that resumed a TLS session.
    pub(super) sessions_resumed: u64,
}

/// Resident memory of the server, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) before: u64,
    pub(super) connected: u64,
}

/// The readings at both ends of the window.
pub(super) struct Window {
    pub(super) length: Duration,
    pub(super) server_cpu_ns: Option<u64>,
    pub(super) server_resident_bytes: Option<u64>,
    pub(super) load_cpu_ns: u64,
    /// Share of the window in which a load process was ready to run and something else had its core.
    pub(super) load_waited: f64,
}

impl<'a> Rig<'a> {
    /// Starts everything and waits until every subscriber holds its Welcome.
    pub(super) fn connect(
        args: &CommonArgs,
        security: &Security,
        shape: Shape,
        cores: &Pinning,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        Room::of(args, shape.connections)?.ensure()?;
        Self::connect_to(
            || Server::for_connections(args, security, shape.connections, &cores.server),
            args,
            shape,
            cores,
            stop,
        )
    }

    /// The same with any server that speaks the shape's protocol.
    pub(super) fn connect_to(
        server: impl FnOnce() -> anyhow::Result<Server>,
        args: &CommonArgs,
        shape: Shape,
        cores: &Pinning,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let began_ns = monotonic_ns();
        let server = server()?;
        let mut rig = Self {
            shape,
            loads: Vec::new(),
            server,
            stop,
            began_ns,
            connect: Connect::default(),
            memory: None,
        };
        for plan in plans(args, shape, &rig.server)? {
            rig.loads
                .push(LoadProcess::start("load", &plan, &cores.load)?);
        }
        let deadline = monotonic_ns() + nanoseconds(ready_after(shape));
        for load in &mut rig.loads {
            match load.hear(deadline, stop)? {
                Report::Ready => {}
                other => bail!("a load process began with {other:?}"),
            }
        }
        let memory_before = rig.resident_bytes()?;
        rig.connect_all(args.connect_timeout)?;
        rig.stop.wait_until(monotonic_ns() + nanoseconds(SETTLE))?;
        rig.memory = memory_before
            .zip(rig.resident_bytes()?)
            .map(|(before, connected)| Memory { before, connected });
        Ok(rig)
    }

    fn connect_all(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let cpu_before = self.server_cpu()?;
        let loads_before = cpu_of(&self.loads)?;
        let start = monotonic_ns();
        let deadline_ns = start + nanoseconds(timeout);
        tell_all(&mut self.loads, &Command::Connect { deadline_ns })?;
        let connected = self.hear_connected(deadline_ns + nanoseconds(ANSWER_SLACK))?;
        let subscribers = self.shape.subscribers();
        if connected.welcomed < subscribers {
            let trouble = connected.trouble.map(|trouble| format!(": {trouble}"));
            bail!(
                "{} of {subscribers} subscribers hold their Welcome, {} were refused or cut off{}{}",
                connected.welcomed,
                connected.refused,
                trouble.unwrap_or_default(),
                self.server.last_words(),
            );
        }
        let cpu = cpu_before.zip(self.server_cpu()?);
        let loads_after = cpu_of(&self.loads)?;
        let loads_cpu = loads_before.iter().zip(&loads_after);
        self.connect = Connect {
            all_welcome_ns: connected.last_welcome_ns.saturating_sub(start),
            server_cpu_ns: cpu.map(|(before, after)| after.since(&before)),
            load_cpu_ns: loads_cpu.map(|(before, after)| after.since(before)).sum(),
            sessions_resumed: connected.sessions_resumed,
        };
        Ok(())
    }

    /// Closes all connections and opens them once more, when the server has let go of them.
    pub(super) fn connect_again(&mut self, timeout: Duration) -> anyhow::Result<()> {
        tell_all(&mut self.loads, &Command::Close)?;
        let deadline = monotonic_ns() + nanoseconds(ANSWER_SLACK);
        for load in &mut self.loads {
            match load.hear(deadline, self.stop)? {
                Report::Ready => {}
                other => bail!("a load process answered Close with {other:?}"),
            }
        }
        self.rest()?;
        self.connect_all(timeout)
    }

    /// Waits until the server does nothing any more.
    fn rest(&self) -> anyhow::Result<()> {
        let deadline = monotonic_ns() + nanoseconds(REST_MAX);
        loop {
            let before = self.server_cpu()?;
            self.stop.wait_until(monotonic_ns() + nanoseconds(SETTLE))?;
            let used_ns = before
                .zip(self.server_cpu()?)
                .map_or(0, |(before, after)| after.since(&before));
            if used_ns < nanoseconds(SETTLE) / BUSY_ONE_IN {
                return Ok(());
            }
            ensure!(
                monotonic_ns() < deadline,
                "the server is still busy {REST_MAX:?} after its connections were closed"
            );
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Deliveries count from here to there.
    pub(super) fn open_window(&mut self, start_ns: u64, end_ns: u64) -> anyhow::Result<()> {
        tell_all(&mut self.loads, &Command::Window { start_ns, end_ns })
    }

    /// One of the load processes publishes; see [`Rig::published`].
    pub(super) fn publish(&mut self, plan: PublishPlan) -> anyhow::Result<()> {
        self.loads[0].tell(&Command::Publish(plan))
    }

    fn hear_connected(&mut self, deadline_ns: u64) -> anyhow::Result<Connected> {
        let mut all = Connected::default();
        for load in &mut self.loads {
            match load.hear(deadline_ns, self.stop)? {
                Report::Connected(one) => {
                    all.welcomed += one.welcomed;
                    all.refused += one.refused;
                    all.sessions_resumed += one.sessions_resumed;
                    all.last_welcome_ns = all.last_welcome_ns.max(one.last_welcome_ns);
                    all.trouble = all.trouble.or(one.trouble);
                }
                other => bail!("a load process answered Connect with {other:?}"),
            }
        }
        Ok(all)
    }

    pub(super) fn load_processes(&self) -> usize {
        self.loads.len()
    }

    fn resident_bytes(&self) -> anyhow::Result<Option<u64>> {
        self.server.pid.map(proc::resident_bytes).transpose()
    }

    fn server_cpu(&self) -> anyhow::Result<Option<CpuTime>> {
        self.server.pid.map(CpuTime::of).transpose()
    }

    /// Reads the clocks when the window begins and when it ends.
    pub(super) fn watch(&mut self, start_ns: u64, end_ns: u64) -> anyhow::Result<Window> {
        self.stop.wait_until(start_ns)?;
        let loads_before = cpu_of(&self.loads)?;
        let server_before = self.server_cpu()?;
        let began = monotonic_ns();
        self.stop.wait_until(end_ns)?;
        let server_after = self.server_cpu().context("the server is gone")?;
        let watched_ns = monotonic_ns() - began;
        let loads_after = cpu_of(&self.loads)?;
        self.server.ensure_running()?;
        let length_ns = end_ns - start_ns;
        let late = Duration::from_nanos(watched_ns.saturating_sub(length_ns));
        ensure!(
            late < Duration::from_secs(1),
            "this process was not woken for {late:?}; the machine is too busy"
        );
        // Waking up late stretches the CPU time that is seen, not the deliveries that are counted.
        let of_window = |cpu_ns: u64| {
            let scaled = u128::from(cpu_ns) * u128::from(length_ns) / u128::from(watched_ns.max(1));
            u64::try_from(scaled).expect("it is about as much as before")
        };
        let server_cpu = server_before.zip(server_after);
        let loads_cpu = loads_before.iter().zip(&loads_after);
        let waited = loads_cpu
            .clone()
            .map(|(before, after)| after.waited_since(before));
        let load_waited = waited.sum::<u64>() as f64 / loads_after.len() as f64;
        Ok(Window {
            length: Duration::from_nanos(length_ns),
            server_cpu_ns: server_cpu.map(|(before, after)| of_window(after.since(&before))),
            server_resident_bytes: self.resident_bytes()?,
            load_cpu_ns: of_window(loads_cpu.map(|(before, after)| after.since(before)).sum()),
            load_waited: load_waited / watched_ns.max(1) as f64,
        })
    }

    /// The publisher's counts when its time is over.
    pub(super) fn published(&mut self, end_ns: u64) -> anyhow::Result<Published> {
        match self.loads[0].hear(end_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
            Report::Published(published) => Ok(published),
            other => bail!("a load process answered Publish with {other:?}"),
        }
    }

    /// Waits for messages on their way and adds up the counts of all load processes.
    pub(super) fn finish(&mut self, published: &Published) -> anyhow::Result<Seen> {
        let deadline_ns = monotonic_ns() + nanoseconds(DRAIN_MAX);
        let quiet_ns = nanoseconds(QUIET);
        tell_all(
            &mut self.loads,
            &Command::Finish {
                published: published.clone(),
                quiet_ns,
                deadline_ns,
            },
        )?;
        let mut seen = Seen::new()?;
        for load in &mut self.loads {
            match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Finished(finished) => seen.add(&finished)?,
                other => bail!("a load process answered Finish with {other:?}"),
            }
        }
        Ok(seen)
    }
}

/// How long a load process may take to be ready, with a token signed for each subscriber.
pub(super) fn ready_after(shape: Shape) -> Duration {
    let subscribers = u32::try_from(shape.subscribers()).unwrap_or(u32::MAX);
    ANSWER_SLACK + SIGNING_EACH * subscribers
}

/// The counts of all load processes together.
pub(super) struct Seen {
    pub(super) total: Finished,
    pub(super) latencies: Histogram<u64>,
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

/// The connections shared out over load processes, each within its limit of open files.
pub(super) fn plans(args: &CommonArgs, shape: Shape, server: &Server) -> anyhow::Result<Vec<Plan>> {
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
    let local_addresses = LocalAddresses::of(server.address.ip(), shape.connections);
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
            local_addresses,
            subscriber_first,
            subscribers_total: shape.subscribers(),
            topics: shape.topics,
            stream_window_bytes: args.stream_window,
            connection_window_bytes: args.connection_window,
            sample_every: shape.sample_every,
            protocol: shape.protocol,
            compression: shape.compression,
            payload_kind: shape.payload_kind,
            tls: server.tls.clone(),
            tokens: server.tokens.clone(),
        });
        subscriber_first += u64::from(connections) * u64::from(shape.streams);
    }
    if shape.protocol == Protocol::Grpc
        && let Some(streams_max) = plans.first().map(Plan::streams_max)
    {
        ensure!(
            shape.streams <= streams_max,
            "at most {streams_max} streams a connection"
        );
    }
    Ok(plans)
}
