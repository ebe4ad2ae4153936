//! One run: everything is started, broken as the plan says, mended, and waited for; then the trace is judged.

use std::time::Duration;

use longlived_client::{BackoffOptions, Client};
use longlived_topic::TopicFilter;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::history;
use crate::judge;
use crate::network::{Host, Network, Weather};
use crate::node::Node;
use crate::plan::{Fault, OTHERS, PUBLISHERS, Plan};
use crate::publisher::PublisherApp;
use crate::subscriber::Desk;
use crate::trace::{self, Record, Trace};

/// From the end of the last fault until everybody has everything. It follows from the settings below. A dead connection
/// is noticed within 4 s (a promise of 2 s and its margin, or a ping of 2 s and 1 s for its answer). One wait of the
/// backoff takes up to 1 s. A dial or an opening that met the last fault takes up to 1 s each. Publishers have as long,
/// and their last messages are delivered after that.
pub(crate) const SETTLES_IN: Duration = Duration::from_secs(10);

/// How long a connection that carries nothing may pass for one that does; see the keepalive below and of the node.
const NOTICED_IN: Duration = Duration::from_secs(4);

/// A drain that no peer holds up: every stream is told, and every connection closed, a few times to and fro.
const DRAINS_IN: Duration = Duration::from_secs(1);

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) records: Vec<(Duration, Record)>,
    pub(crate) digest: u64,
    /// The violations.
    pub(crate) failures: Vec<String>,
}

/// Runs a seed on a runtime of its own, whose clock moves only when nothing else does.
pub(crate) fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing");
    let plan = Plan::of(seed);
    let mut failures = Vec::new();
    let records = runtime.block_on(async {
        let mut world = World::new(seed, plan);
        world.run(&mut failures).await;
        world.trace.take()
    });
    let left = runtime.metrics().num_alive_tasks();
    if left > 0 {
        failures.push(format!("{left} tasks are left over"));
    }
    let plan = Plan::of(seed);
    failures.extend(judge::judge(&records, &plan));
    failures.extend(history::check(&records));
    Outcome {
        seed,
        digest: trace::digest(&records),
        records,
        failures,
    }
}

struct World {
    plan: Plan,
    rng: StdRng,
    trace: Trace,
    network: Network,
    node: Node,
    /// The program of each host, by host.
    programs: Vec<Client>,
    desks: Vec<Desk>,
    incarnations: usize,
    instances: u64,
    tasks: TaskTracker,
}

impl World {
    fn new(seed: u64, mut plan: Plan) -> Self {
        let trace = Trace::new();
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let network = Network::new(rng.random(), plan.weather);
        let node = Node::new(rng.random(), &plan, network.clone(), trace.clone());
        let subscribers = std::mem::take(&mut plan.subscribers);
        let desks = (0..).zip(subscribers);
        let desks: Vec<_> = desks
            .map(|(number, plan)| Desk::new(number, plan, trace.clone()))
            .collect();
        let mut world = Self {
            plan,
            rng,
            trace,
            network,
            node,
            programs: Vec::new(),
            desks,
            incarnations: 0,
            instances: 0,
            tasks: TaskTracker::new(),
        };
        let hosts = world.desks.iter().map(Desk::host).max().unwrap_or(0);
        world.programs = (0..=hosts).map(|host| world.program(host)).collect();
        world
    }

    /// A client of a program that has just started on `host`.
    fn program(&mut self, host: Host) -> Client {
        self.instances += 1;
        let network = self.network.clone();
        Client::builder("http://10.0.0.0:7070")
            .connector(move |_| {
                let network = network.clone();
                async move { network.connect(host).await }
            })
            .seed(self.rng.random())
            .instance(self.instances)
            .connect_timeout(Duration::from_secs(1))
            .open_timeout(Duration::from_secs(1))
            .keepalive(Duration::from_secs(2), Duration::from_secs(1))
            .backoff(BackoffOptions {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(1),
                ..BackoffOptions::default()
            })
            .build()
            .expect("the address is one")
    }

    async fn run(&mut self, failures: &mut Vec<String>) {
        let begin = Instant::now();
        self.node.start().await;
        let stop = CancellationToken::new();
        let publishing = TaskTracker::new();
        for number in 0..self.plan.publishers {
            let client = self.program(PUBLISHERS + number as Host);
            let seed = self.rng.random();
            let (pause_max, trace) = (self.plan.pause_max, self.trace.clone());
            let app = PublisherApp::new(number, seed, client, pause_max, trace);
            publishing.spawn(app.run(stop.clone()));
        }
        for number in 0..self.desks.len() {
            self.begin(number);
        }
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            sleep_until(begin + at).await;
            self.node.watch();
            self.trace.add(Record::Fault(format!("{fault:?}")));
            self.begin_where_deserted();
            self.apply(fault).await;
        }
        sleep_until(begin + self.plan.calm).await;
        self.calm().await;
        stop.cancel();
        publishing.close();
        let settled = Instant::now() + SETTLES_IN;
        if timeout_at(settled, publishing.wait()).await.is_err() {
            failures.push("a publisher did not come to an end".to_owned());
        } else if timeout_at(settled, self.settled()).await.is_err() {
            failures.push(self.behind());
        } else {
            self.trace.add(Record::Settled);
        }
        self.end(failures).await;
    }

    fn begin(&mut self, number: usize) {
        self.incarnations += 1;
        let desk = &mut self.desks[number];
        let client = &self.programs[usize::from(desk.host())];
        desk.begin(self.incarnations, client, &self.tasks);
    }

    /// Subscribers that have left, or could not continue, come again.
    fn begin_where_deserted(&mut self) {
        for number in 0..self.desks.len() {
            if self.desks[number].is_deserted() {
                self.begin(number);
            }
        }
    }

    async fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Kill => self.node.kill(),
            Fault::CutPower => self.node.cut_power(),
            Fault::Drain => self.node.drain(),
            Fault::StartServer => self.node.start().await,
            Fault::FillDisk(bytes) => self.node.fill_disk(bytes),
            Fault::FailSyncs => self.node.fail_syncs(),
            Fault::MendDisk => self.node.mend_disk(),
            Fault::Hold(from, to) => self.network.hold(from, to),
            Fault::Heal(from, to) => self.network.heal(from, to),
            Fault::Lose(host) => self.network.lose_connections(host),
            Fault::Storm => self.network.set_weather(Weather {
                latency_min: 100,
                latency_max: 800,
                buffer_bytes: 4_096,
            }),
            Fault::Fair => self.network.set_weather(self.plan.weather),
            Fault::Slow(number, lasts) => self.desks[number].slow_until(Instant::now() + lasts),
            Fault::Restart(number) => {
                self.desks[number].kill();
                self.begin(number);
            }
            Fault::RestartHost(host) => self.restart_host(host),
            Fault::Refilter(number, filters) => {
                self.desks[number].kill();
                self.desks[number].filters = filters;
                self.begin(number);
            }
            Fault::Unsubscribe(number) => self.desks[number].unsubscribe(&self.tasks),
            Fault::Takeover(number) => {
                let client = self.program(OTHERS + number as Host);
                self.incarnations += 1;
                self.desks[number].begin(self.incarnations, &client, &self.tasks);
            }
        }
    }

    fn restart_host(&mut self, host: Host) {
        if usize::from(host) >= self.programs.len() {
            return;
        }
        self.network.kill(host);
        let client = self.program(host);
        self.programs[usize::from(host)] = client;
        for number in 0..self.desks.len() {
            if self.desks[number].host() == host {
                self.desks[number].kill();
                self.begin(number);
            }
        }
    }

    /// Everything is mended.
    async fn calm(&mut self) {
        self.network.heal_all();
        self.network.set_weather(self.plan.weather);
        for desk in &self.desks {
            desk.slow_until(Instant::now());
        }
        self.node.watch();
        self.node.mend_disk();
        self.node.start().await;
        self.trace.add(Record::Calm);
    }

    /// The position that each subscriber must reach: the last event that matches its present filters.
    fn targets(&self) -> Vec<u64> {
        let epoch = self.node.store().map(|store| store.epoch().get());
        let stored = self.trace.stored(epoch.unwrap_or(0));
        let last = |desk: &Desk| {
            let filters: Vec<_> = desk
                .filters
                .iter()
                .map(|filter| TopicFilter::parse(filter).expect("a filter of our own"))
                .collect();
            let due = stored.iter().rev();
            due.clone()
                .find(|(topic, _)| filters.iter().any(|filter| filter.matches(topic)))
                .map_or(0, |(_, sequence)| *sequence)
        };
        self.desks.iter().map(last).collect()
    }

    async fn settled(&mut self) {
        let targets = self.targets();
        let all = |world: &Self| {
            let mut desks = world.desks.iter().zip(&targets);
            desks.all(|(desk, target)| world.is_at(desk, *target))
        };
        while !all(self) {
            self.begin_where_deserted();
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_at(&self, desk: &Desk, target: u64) -> bool {
        let epoch = self.node.store().map(|store| store.epoch().get());
        let standing = desk.standing();
        let there = |at: &Option<longlived_client::Position>| {
            at.is_some_and(|at| Some(at.epoch) == epoch && at.sequence >= target)
        };
        standing.len() == 1 && standing.iter().all(there)
    }

    fn behind(&self) -> String {
        let targets = self.targets();
        let behind = self.desks.iter().zip(targets);
        let behind = behind.filter(|(desk, target)| !self.is_at(desk, *target));
        let behind: Vec<_> = behind
            .map(|(desk, target)| format!("{} at {:?}, not {target}", desk.id, desk.standing()))
            .collect();
        format!("not settled within {SETTLES_IN:?}: {}", behind.join("; "))
    }

    /// Everybody goes, and nothing may be left.
    async fn end(&mut self, failures: &mut Vec<String>) {
        // Connections that were lost without a word are known to be by now.
        sleep(NOTICED_IN).await;
        self.node.watch();
        self.node.drain();
        let drained = Instant::now() + DRAINS_IN;
        self.node.drained().await;
        if self.node.failures.is_empty() && Instant::now() > drained {
            failures.push(format!(
                "with everybody well it did not drain within {DRAINS_IN:?}"
            ));
        }
        failures.append(&mut self.node.failures);
        for desk in &mut self.desks {
            desk.kill();
        }
        self.programs.clear();
        self.tasks.close();
        if timeout(Duration::from_secs(1), self.tasks.wait())
            .await
            .is_err()
        {
            failures.push("a subscriber does not end".to_owned());
        }
        // The connections' own tasks see that nobody is left.
        sleep(Duration::from_secs(5)).await;
        let traffic = self.network.traffic();
        self.trace
            .add(Record::Fault(format!("traffic {traffic:?}")));
    }
}
