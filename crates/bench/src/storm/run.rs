//! One run of a storm, and its results.
//!
//! Holds: the processes of the load live through both lives of the server; messages are published when no server is
//! being killed, so a message that does not arrive is lost.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use longlived_client::Position;
use longlived_console::CompressionFlag;
use tokio::runtime::Handle;

use super::client::client_of;
use super::port;
use crate::args::{PayloadKind, StormArgs, StormLoad, Topics};
use crate::clock::{monotonic_ns, nanoseconds};
use crate::load::control::{
    Command, Connected, Finished, Protocol, Published, Report, Return, Returned, SHARED_TOPIC,
};
use crate::load_process::{LoadProcess, cpu_of, tell_all};
use crate::pin::Pinning;
use crate::proc::{self, CpuTime};
use crate::retries::Retries;
use crate::rig::{ANSWER_SLACK, DRAIN_MAX, LEAD, QUIET, SETTLE, Shape, plans, ready_after};
use crate::room::Room;
use crate::security::Security;
use crate::server::{Server, args_for};
use crate::stop::Stop;

/// Bytes of payload, of which the load wants eight.
const PAYLOAD: [u8; 64] = [b'.'; 64];

/// The results of one run.
pub(super) struct Seen {
    pub(super) subscribers: u64,
    /// From the kill until the restarted server listened.
    pub(super) listening_ns: u64,
    /// Until the killed one was gone.
    pub(super) gone_ns: u64,
    /// From the kill until each was back.
    pub(super) times: Histogram<u64>,
    /// Until the last was.
    pub(super) last_ns: u64,
    pub(super) returned: Returned,
    /// Of the restarted server and of the load, until the last was back.
    pub(super) server_cpu_ns: u64,
    pub(super) load_cpu_ns: u64,
    /// Resident bytes.
    pub(super) memory: Memory,
    pub(super) published: Published,
    pub(super) finished: Finished,
}

/// Resident memory in bytes.
pub(super) struct Memory {
    pub(super) before_kill: u64,
    pub(super) peak: u64,
    pub(super) rest: u64,
    /// Of all load processes together.
    pub(super) load_peak: u64,
}

/// Where its server listens twice, on a machine that has room for the load.
fn place(args: &StormArgs, load: StormLoad) -> anyhow::Result<SocketAddr> {
    let room = Room::of(&args.common, load.connections)?;
    // The client library leaves its local address to the kernel.
    let room = if args.library {
        room.with_one_address()
    } else {
        room
    };
    room.ensure()?;
    Ok(SocketAddr::from(([127, 0, 0, 1], port::choose()?)))
}

pub(super) fn run(
    args: &StormArgs,
    load: StormLoad,
    security: &Security,
    cores: &Pinning,
    stop: &Stop,
) -> anyhow::Result<Seen> {
    let listen = place(args, load)?;
    let server_args = args_for(&args.common.server_args, load.connections);
    let start = || Server::start(listen, security, &server_args, &cores.server);
    let mut server = start()?;
    let mut rig = Storm::start(args, load, &server, cores, stop)?;
    rig.connect(args.common.connect_timeout, &server)?;
    let before = rig.publish(&server, args.messages)?;
    rig.wait(SETTLE)?;
    server.ensure_running()?;
    let memory_before = proc::resident_bytes(pid(&server))?;

    let from_ns = monotonic_ns() + nanoseconds(LEAD);
    let deadline_ns = from_ns + nanoseconds(args.timeout);
    tell_all(
        &mut rig.loads,
        &Command::Return(Return {
            from_ns,
            deadline_ns,
            resume_after: before.map(|position| (position.epoch, position.sequence)),
        }),
    )?;
    // Else the streams that the kill ends could be taken for lost.
    rig.all_ready(ANSWER_SLACK)?;
    rig.stop.wait_until(from_ns)?;
    let load_cpu_before = cpu_of(&rig.loads)?;
    let killed_ns = monotonic_ns();
    // SIGKILL.
    drop(server);
    let gone_ns = monotonic_ns();
    rig.stop.wait_until(killed_ns + nanoseconds(load.down))?;
    let mut server = start().context("starting the server again")?;
    let cpu_before = CpuTime::of(pid(&server))?;
    let mut returned = rig.returned(deadline_ns)?;
    let cpu_after = CpuTime::of(pid(&server)).context("the server is gone")?;
    let load_cpu_after = cpu_of(&rig.loads)?;
    server.ensure_running()?;
    // The first subscriber that is back may tell it earlier than a line of the server's log that waits to be read.
    let first = returned.times.first_ns.map(|since| from_ns + since);
    let listening_ns = server.listening_ns.min(first.unwrap_or(u64::MAX));

    rig.publish(&server, args.messages)?;
    rig.wait(args.rest)?;
    let memory = Memory {
        before_kill: memory_before,
        peak: proc::peak_bytes(pid(&server))?,
        rest: proc::resident_bytes(pid(&server))?,
        load_peak: rig.load_peak()?,
    };
    let finished = rig.finish()?;
    // Lines after the command happened after the kill, but for those between the two.
    let late_ns = killed_ns - from_ns;
    let mut times = Histogram::new(3).context("a histogram of times")?;
    for (time_ns, count) in std::mem::take(&mut returned.times.counts) {
        times
            .record_n(time_ns.saturating_sub(late_ns), count)
            .context("adding times")?;
    }
    let last_ns = returned.times.last_ns.unwrap_or_default();
    let load_cpu = load_cpu_before.iter().zip(&load_cpu_after);
    Ok(Seen {
        subscribers: rig.shape.subscribers(),
        listening_ns: listening_ns - killed_ns,
        gone_ns: gone_ns - killed_ns,
        times,
        last_ns: last_ns.saturating_sub(late_ns),
        returned,
        server_cpu_ns: cpu_after.since(&cpu_before),
        load_cpu_ns: load_cpu.map(|(before, after)| after.since(before)).sum(),
        memory,
        published: rig.published,
        finished,
    })
}

fn pid(server: &Server) -> u32 {
    server.pid.expect("it was started here")
}

/// The load processes of a run.
struct Storm<'a> {
    shape: Shape,
    loads: Vec<LoadProcess>,
    stop: &'a Stop,
    /// In both lives of the server.
    published: Published,
}

impl<'a> Storm<'a> {
    fn start(
        args: &StormArgs,
        load: StormLoad,
        server: &Server,
        cores: &Pinning,
        stop: &'a Stop,
    ) -> anyhow::Result<Self> {
        let shape = Shape {
            connections: load.connections,
            streams: load.streams,
            topics: Topics::One,
            protocol: Protocol::Grpc,
            payload_kind: PayloadKind::Dots,
            compression: CompressionFlag::None,
            sample_every: u32::MAX,
        };
        let command = if args.library {
            "storm-library"
        } else {
            "load"
        };
        let mut storm = Self {
            shape,
            loads: Vec::new(),
            stop,
            published: Published::default(),
        };
        for plan in plans(&args.common, shape, server)? {
            let load = LoadProcess::start(command, &plan, &cores.load)?;
            storm.loads.push(load);
        }
        storm.all_ready(ready_after(shape))?;
        Ok(storm)
    }

    fn all_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let deadline = monotonic_ns() + nanoseconds(within);
        for load in &mut self.loads {
            match load.hear(deadline, self.stop)? {
                Report::Ready => {}
                other => bail!("a load process should be ready and says {other:?}"),
            }
        }
        Ok(())
    }

    fn connect(&mut self, timeout: Duration, server: &Server) -> anyhow::Result<()> {
        let deadline_ns = monotonic_ns() + nanoseconds(timeout);
        tell_all(&mut self.loads, &Command::Connect { deadline_ns })?;
        let mut all = Connected::default();
        for load in &mut self.loads {
            match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Connected(one) => {
                    all.welcomed += one.welcomed;
                    all.trouble = all.trouble.or(one.trouble);
                }
                other => bail!("a load process answered Connect with {other:?}"),
            }
        }
        let subscribers = self.shape.subscribers();
        if all.welcomed < subscribers {
            bail!(
                "before the kill, {} of {subscribers} subscribers hold their Welcome: {}{}",
                all.welcomed,
                all.trouble.as_deref().unwrap_or("the time was up"),
                server.last_words(),
            );
        }
        Ok(())
    }

    /// Publishes to all and waits until all have it. Returns the position of the last.
    fn publish(&mut self, server: &Server, messages: u32) -> anyhow::Result<Option<Position>> {
        let client = client_of(server)?;
        let mut last = None;
        for _ in 0..messages {
            self.stop.check()?;
            let publisher = client.publisher();
            let answer = Handle::current()
                .block_on(publisher.publish((SHARED_TOPIC, PAYLOAD.as_slice())))
                .context("publishing")?;
            self.published.sent += 1;
            self.published.acknowledged += 1;
            last = Some(answer.position);
        }
        let deadline_ns = monotonic_ns() + nanoseconds(DRAIN_MAX);
        let published = self.published.clone();
        tell_all(
            &mut self.loads,
            &Command::Await {
                published,
                deadline_ns,
            },
        )?;
        for load in &mut self.loads {
            match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Arrived { .. } => {}
                other => bail!("a load process answered Await with {other:?}"),
            }
        }
        Ok(last)
    }

    fn returned(&mut self, deadline_ns: u64) -> anyhow::Result<Returned> {
        let mut all = Returned::default();
        for load in &mut self.loads {
            let one = match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Returned(one) => one,
                other => bail!("a load process answered Return with {other:?}"),
            };
            all.back += one.back;
            all.times.add(one.times);
            all.resumed += one.resumed;
            all.resets += one.resets;
            all.refused_dials += one.refused_dials;
            all.lost_again += one.lost_again;
            all.trouble = all.trouble.or(one.trouble);
            if let Some(retries) = one.retries {
                all.retries
                    .get_or_insert_with(Retries::default)
                    .add(&retries);
            }
        }
        Ok(all)
    }

    fn finish(&mut self) -> anyhow::Result<Finished> {
        let deadline_ns = monotonic_ns() + nanoseconds(DRAIN_MAX);
        let published = self.published.clone();
        tell_all(
            &mut self.loads,
            &Command::Finish {
                published,
                quiet_ns: nanoseconds(QUIET),
                deadline_ns,
            },
        )?;
        let mut all = Finished::default();
        for load in &mut self.loads {
            match load.hear(deadline_ns + nanoseconds(ANSWER_SLACK), self.stop)? {
                Report::Finished(one) => {
                    all.lost += one.lost;
                    all.repeated += one.repeated;
                    all.gaps += one.gaps;
                    all.ended += one.ended;
                    all.trouble = all.trouble.or(one.trouble);
                }
                other => bail!("a load process answered Finish with {other:?}"),
            }
        }
        Ok(all)
    }

    fn load_peak(&self) -> anyhow::Result<u64> {
        let each = self.loads.iter();
        each.map(|load| proc::peak_bytes(load.pid())).sum()
    }

    fn wait(&self, time: Duration) -> anyhow::Result<()> {
        self.stop.wait_until(monotonic_ns() + nanoseconds(time))
    }
}
