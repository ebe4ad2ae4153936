//! The load generator of `storm --library`: subscribers of the client library, as a program would have them.
//!
//! Holds: all run on one thread with one client, whose connections they share; nothing of the client is changed but the
//! number of its connections. A subscriber is back when it is current again: when its new stream has brought all that
//! was due, or has said that it cannot.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use longlived_client::{Client, Item, Lost, Notice, Outcome, Subscriber};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use super::retries::{Ceiling, Retries};
use crate::bench::clock::monotonic_ns;
use crate::bench::load::control::{
    Command, Connected, Finished, Plan, Published, Report, Return, Returned, SHARED_TOPIC, Times,
};
use crate::bench::load::owed::Owed;
use crate::bench::load::raise_open_files;

/// Subscribers that open their first stream at a time: the program's start is not what is measured.
const STARTING_MAX: usize = 2_000;
/// Commands on their way.
const COMMANDS_MAX: usize = 8;
/// How often it is looked whether something is to be said.
const TICK: Duration = Duration::from_millis(20);

/// `longlived bench storm-library`: obeys standard input, reports on standard output, ends with either.
pub(in crate::bench) fn library_load() -> anyhow::Result<()> {
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let plan = lines
        .next()
        .context("no plan")?
        .context("reading the plan")?;
    let plan: Plan = serde_json::from_str(&plan).context("this line is no plan")?;
    raise_open_files();
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
        let client = Client::builder(format!("http://{}", plan.server))
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
            if self.say_what_is_due()? {
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
            Command::Stall(_) | Command::Window { .. } | Command::Publish(_) => {
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
    fn say_what_is_due(&mut self) -> anyhow::Result<bool> {
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
                ceiling.reset();
                seen.attempted(waited_until_ns.take(), now);
                seen.welcome(index, outcome, now);
            }
            Ok(Item::Notice(Notice::Current { .. })) => seen.current(index, now),
            Ok(Item::Notice(Notice::Disconnected { reason, retry_in })) => {
                seen.attempted(waited_until_ns.take(), now);
                let wait_ns = u64::try_from(retry_in.as_nanos()).unwrap_or(u64::MAX);
                waited_until_ns = Some(now.saturating_add(wait_ns));
                seen.lost(index, &reason, retry_in, &mut ceiling);
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

/// What is kept of one subscriber.
#[derive(Debug, Clone, Copy, Default)]
struct One {
    received: u32,
    /// Streams it has had.
    streams: u32,
    /// It has one.
    connected: bool,
    /// When it was current again; 0 = it is not.
    back_ns: u64,
}

/// What all subscribers saw.
#[derive(Debug)]
struct Seen {
    each: Vec<One>,
    welcomed: u64,
    last_welcome_ns: u64,
    failed: u64,
    delivered: u64,
    last_event_ns: u64,
    gaps: u64,
    violations: u64,
    returning: Option<Return>,
    back: u64,
    resumed: u64,
    resets: u64,
    refused_dials: u64,
    lost_again: u64,
    retries: Retries,
    attempts: Vec<u64>,
    trouble: Option<String>,
}

impl Seen {
    fn new(subscribers: usize) -> Self {
        Self {
            each: vec![One::default(); subscribers],
            welcomed: 0,
            last_welcome_ns: 0,
            failed: 0,
            delivered: 0,
            last_event_ns: 0,
            gaps: 0,
            violations: 0,
            returning: None,
            back: 0,
            resumed: 0,
            resets: 0,
            refused_dials: 0,
            lost_again: 0,
            retries: Retries::default(),
            attempts: Vec::new(),
            trouble: None,
        }
    }

    fn note(&mut self, trouble: String) {
        self.trouble.get_or_insert(trouble);
    }

    fn event(&mut self, index: usize, now_ns: u64) {
        self.each[index].received += 1;
        self.delivered += 1;
        self.last_event_ns = now_ns;
    }

    fn welcome(&mut self, index: usize, outcome: Outcome, now_ns: u64) {
        let one = &mut self.each[index];
        one.connected = true;
        one.streams += 1;
        if one.streams == 1 {
            self.welcomed += 1;
            self.last_welcome_ns = now_ns;
        }
        match outcome {
            // It begins with what is published next: nothing is due.
            Outcome::New => self.current(index, now_ns),
            Outcome::Resumed => self.resumed += 1,
            Outcome::Reset => self.resets += 1,
        }
    }

    fn current(&mut self, index: usize, now_ns: u64) {
        let one = &mut self.each[index];
        if self.returning.is_some() && one.back_ns == 0 {
            one.back_ns = now_ns;
            self.back += 1;
        }
    }

    /// A stream, or the attempt to open one, came to an end.
    fn lost(&mut self, index: usize, reason: &Lost, wait: Duration, ceiling: &mut Ceiling) {
        let one = &mut self.each[index];
        let had_stream = std::mem::take(&mut one.connected);
        if one.back_ns > 0 {
            one.back_ns = 0;
            self.back -= 1;
        }
        if self.returning.is_none() {
            self.note(format!("before the kill: {reason}"));
            return;
        }
        // The kill ends the first stream of each; what ends after that was lost again.
        if (had_stream && one.streams > 1) || (!had_stream && !matches!(reason, Lost::Connect(_))) {
            self.lost_again += 1;
            self.note(reason.to_string());
        }
        match reason {
            // The server may have named the wait.
            Lost::GoAway(_) | Lost::Status(_) => self.retries.named += 1,
            Lost::Connect(_) => {
                self.refused_dials += 1;
                self.retries.drawn(wait, ceiling.next());
            }
            _ => self.retries.drawn(wait, ceiling.next()),
        }
    }

    /// An attempt has an outcome, so long after its wait was over.
    fn attempted(&mut self, due_ns: Option<u64>, now_ns: u64) {
        if let Some(due_ns) = due_ns {
            self.attempts.push(now_ns.saturating_sub(due_ns));
        }
    }

    fn connected(&self) -> Connected {
        Connected {
            welcomed: self.welcomed,
            refused: self.failed,
            last_welcome_ns: self.last_welcome_ns,
            trouble: self.trouble.clone(),
        }
    }

    fn returned(&self) -> Returned {
        let from_ns = self.returning.map_or(0, |asked| asked.from_ns);
        let back = self.each.iter().map(|one| one.back_ns);
        let since = |then_ns: u64| then_ns.saturating_sub(from_ns);
        let times = Times::of(back.filter(|back_ns| *back_ns > 0).map(since));
        let mut retries = self.retries.clone();
        retries.attempts = Times::of(self.attempts.iter().copied()).counts;
        Returned {
            back: self.back,
            times,
            resumed: self.resumed,
            resets: self.resets,
            refused_dials: self.refused_dials,
            lost_again: self.lost_again,
            trouble: self.trouble.clone(),
            retries: Some(retries),
        }
    }

    fn finished(&self, published: &Published) -> Finished {
        let mut finished = Finished {
            delivered: self.delivered,
            gaps: self.gaps,
            ended: self.failed,
            trouble: self.trouble.clone(),
            ..Finished::default()
        };
        for one in &self.each {
            let received = u64::from(one.received);
            finished.lost += published.acknowledged.saturating_sub(received);
            finished.repeated += received.saturating_sub(published.sent);
        }
        // Where the client has caught the server out, something is missing or came twice.
        finished.lost += self.violations;
        finished
    }
}
