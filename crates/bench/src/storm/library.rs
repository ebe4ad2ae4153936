//! The load generator of `storm --library`: subscribers of the client library, as a program would have them.
//!
//! Holds: all run on one thread with one client, whose connections they share; nothing of the client is changed but the
//! number of its connections. A subscriber is back when it is current again: when its new stream has brought all missed
//! events, or has announced that it cannot.

mod seen;

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use longlived_client::{Client, Item, Notice, Subscriber};
use longlived_console::open_files;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use self::seen::Seen;
use super::client::builder_of;
use crate::clock::monotonic_ns;
use crate::load::control::{Command, Plan, Published, Report, SHARED_TOPIC};
use crate::load::owed::Owed;
use crate::retries::Ceiling;

/// Subscribers that open their first stream at a time: the program's start is not measured.
const STARTING_MAX: usize = 2_000;
/// Commands on their way.
const COMMANDS_MAX: usize = 8;
/// How often it is looked whether something is to be said.
const TICK: Duration = Duration::from_millis(20);

/// `longlived bench storm-library`: obeys standard input, reports on standard output, ends with either.
pub(crate) fn library_load() -> anyhow::Result<()> {
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let plan = lines
        .next()
        .context("no plan")?
        .context("reading the plan")?;
    let plan: Plan = serde_json::from_str(&plan).context("this line is no plan")?;
    open_files::raise();
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    std::thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || {
            for line in lines.map_while(Result::ok) {
                let command = serde_json::from_str(&line).context("a line that is not a command");
                if sender.blocking_send(command).is_err() {
                    return;
                }
            }
        })
        .context("starting the thread that reads commands")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    runtime.block_on(Load::new(plan)?.run(commands))
}

struct Load {
    plan: Plan,
    client: Client,
    seen: Arc<Mutex<Seen>>,
    subscribers: JoinSet<()>,
    owed: Owed,
    returning_until_ns: Option<u64>,
}

impl Load {
    fn new(plan: Plan) -> anyhow::Result<Self> {
        let client = builder_of(plan.server, plan.tls.as_ref(), plan.tokens.as_ref())?
            .connections(plan.connections as usize)
            .build()
            .context("the server's address")?;
        Ok(Self {
            seen: Arc::new(Mutex::new(Seen::new(plan.subscribers()))),
            client,
            plan,
            subscribers: JoinSet::new(),
            owed: Owed::default(),
            returning_until_ns: None,
        })
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<anyhow::Result<Command>>,
    ) -> anyhow::Result<()> {
        report(&Report::Ready)?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command?)?,
                    None => return Ok(()),
                },
                _ = tick.tick() => {}
            }
            if self.answer()? {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Connect { deadline_ns } => {
                self.owed.owe_connected(deadline_ns);
                self.start()?;
            }
            Command::Await {
                published,
                deadline_ns,
            } => self.owed.owe_arrived(published, deadline_ns),
            Command::Return(asked) => {
                self.seen.lock().returning = Some(asked);
                self.returning_until_ns = Some(asked.deadline_ns);
                report(&Report::Ready)?;
            }
            Command::Finish {
                published,
                quiet_ns,
                deadline_ns,
            } => self.owed.owe_finished(published, quiet_ns, deadline_ns),
            Command::Close | Command::Stall(_) | Command::Window { .. } | Command::Publish(_) => {
                anyhow::bail!("the client library is not asked for that");
            }
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let starting = Arc::new(Semaphore::new(STARTING_MAX));
        for index in 0..self.plan.subscribers() {
            let number = self.plan.subscriber_first + index as u64;
            let subscriber = self
                .client
                .subscriber(format!("bench-{number}"))
                .filter(SHARED_TOPIC)
                .build()?;
            let (starting, seen) = (starting.clone(), self.seen.clone());
            self.subscribers
                .spawn(follow(subscriber, index, starting, seen));
        }
        Ok(())
    }

    /// True when that was the last word.
    fn answer(&mut self) -> anyhow::Result<bool> {
        let now = monotonic_ns();
        let seen = self.seen.lock();
        let all = self.plan.subscribers() as u64;
        let all_decided = || seen.welcomed + seen.failed >= all;
        if self.owed.connected_is_due(now, all_decided) {
            report(&Report::Connected(seen.connected()))?;
        }
        let is_complete = |published: &Published| seen.delivered >= published.acknowledged * all;
        if self.owed.arrived_is_due(now, is_complete) {
            let delivered = seen.delivered;
            report(&Report::Arrived { delivered })?;
        }
        if let Some(deadline) = self.returning_until_ns
            && (seen.back >= all || now >= deadline)
        {
            self.returning_until_ns = None;
            report(&Report::Returned(seen.returned()))?;
        }
        let due = self
            .owed
            .finished_is_due(now, seen.last_event_ns, is_complete);
        let Some(published) = due else {
            return Ok(false);
        };
        report(&Report::Finished(seen.finished(published)))?;
        Ok(true)
    }
}

impl Plan {
    fn subscribers(&self) -> usize {
        self.connections as usize * self.streams as usize
    }
}

fn report(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report).context("writing a report")?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).context("writing a report")?;
    out.flush().context("writing a report")
}

/// Reads one subscriber for as long as this process lives.
async fn follow(
    mut subscriber: Subscriber,
    index: usize,
    starting: Arc<Semaphore>,
    seen: Arc<Mutex<Seen>>,
) {
    let mut turn = Some(starting.acquire_owned().await);
    let mut ceiling = Ceiling::new();
    // The end of the wait before the attempt that is under way.
    let mut waited_until_ns = None;
    while let Some(item) = subscriber.next().await {
        let now = monotonic_ns();
        let mut seen = seen.lock();
        match item {
            Ok(Item::Event(_)) => seen.event(index, now),
            Ok(Item::Gap(_)) => seen.gaps += 1,
            Ok(Item::Violation(violation)) => {
                seen.violations += 1;
                seen.note(violation.to_string());
            }
            Ok(Item::Notice(Notice::Connected { outcome, .. })) => {
                turn = None;
                ceiling.welcomed(now);
                seen.attempted(waited_until_ns.take(), now);
                seen.welcome(index, outcome, now);
            }
            Ok(Item::Notice(Notice::Current { .. })) => seen.current(index, now),
            Ok(Item::Notice(Notice::Disconnected { reason, retry_in })) => {
                seen.attempted(waited_until_ns.take(), now);
                let wait_ns = u64::try_from(retry_in.as_nanos()).unwrap_or(u64::MAX);
                waited_until_ns = Some(now.saturating_add(wait_ns));
                seen.lost(index, &reason, now, retry_in, &mut ceiling);
            }
            Ok(Item::Notice(_)) => {}
            Err(error) => {
                seen.failed += 1;
                seen.note(error.to_string());
            }
        }
    }
    drop(turn);
}
