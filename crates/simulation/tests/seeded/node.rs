//! The server's machine: starts the real server, kills it, drains it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use longlived_broker::Store;
use longlived_broker::testkit::{Faults, MemoryFiles};
use longlived_server::{Config, Environment, LogConfig, Server};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::network::Network;
use crate::plan::Plan;
use crate::storage::{Death, Forgetful, OnDisk, Storage, TOPICS_MAX};
use crate::store::Witness;
use crate::trace::{Record, Trace};

/// From the order to drain to the end of the process.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// The time that the drain of a server may take beyond its timeout: its tasks are dropped in it.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// The server's machine.
pub(crate) struct Node {
    network: Network,
    trace: Trace,
    config: Config,
    rng: StdRng,
    storage: Box<dyn Storage>,
    slowness: u64,
    fails_one_in: u64,
    lives: u32,
    running: Option<Running>,
    tasks: TaskTracker,
    /// The mistakes of a server.
    pub(crate) failures: Vec<String>,
}

struct Running {
    life: u32,
    task: JoinHandle<()>,
    stop: CancellationToken,
    /// When it was told to.
    stopped: Option<Instant>,
    dead: Arc<AtomicBool>,
    store: Arc<dyn Store>,
    /// Its disk could not sync for a while: it may end by itself.
    syncs_failed: bool,
}

impl Node {
    /// A machine without a server.
    pub(crate) fn new(seed: u64, plan: &Plan, network: Network, trace: Trace) -> Self {
        let mut config = Config {
            history: plan.classes(),
            topics_max: TOPICS_MAX,
            drain_timeout: DRAIN_TIMEOUT,
            max_silence: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(1),
            log: LogConfig {
                tail_bytes_max: plan.tail_bytes_max,
                live_tail_linger: Duration::from_secs(2),
                ..LogConfig::default()
            },
            ..Config::default()
        };
        let connection = Arc::make_mut(&mut config.acceptor.connection);
        connection.keepalive_interval = Duration::from_secs(2);
        connection.keepalive_timeout = Duration::from_secs(1);
        let mut rng = StdRng::seed_from_u64(seed);
        let history = plan.classes();
        let storage: Box<dyn Storage> = if plan.durable {
            Box::new(OnDisk {
                files: MemoryFiles::new(),
                history,
                damages: plan.damages,
                reserve_bytes: plan.reserve_bytes,
                rng: StdRng::seed_from_u64(rng.random()),
            })
        } else {
            Box::new(Forgetful { history })
        };
        Self {
            network,
            trace,
            config,
            rng,
            storage,
            slowness: plan.slowness,
            fails_one_in: plan.fails_one_in,
            lives: 0,
            running: None,
            tasks: TaskTracker::new(),
            failures: Vec::new(),
        }
    }

    /// Starts a server unless one runs; one that drains is waited for, as a process manager does.
    pub(crate) async fn start(&mut self) {
        match &self.running {
            Some(running) if running.stop.is_cancelled() => self.drained().await,
            Some(_) => return,
            None => {}
        }
        self.lives += 1;
        let life = self.lives;
        let environment = environment(&mut self.rng);
        let dead = Arc::new(AtomicBool::new(false));
        let store: Arc<dyn Store> = Arc::new(Witness {
            inner: self.storage.open(&environment),
            life,
            trace: self.trace.clone(),
            chance: environment.clone(),
            slowness: self.slowness,
            fails_one_in: self.fails_one_in,
            dead: dead.clone(),
        });
        let server = Server::with_listener(
            self.network.listen(),
            SocketAddr::from(([10, 0, 0, 0], 7070)),
            self.config.clone(),
            environment,
        )
        .with_store(store.clone());
        let stop = CancellationToken::new();
        let trace = self.trace.clone();
        self.trace
            .add(Record::Server(format!("life {life} begins")));
        let run = server.run(stop.clone().cancelled_owned());
        let task = self.tasks.spawn(async move {
            let end = match run.await {
                Ok(()) => "ends".to_owned(),
                Err(error) => format!("failed: {error}"),
            };
            trace.add(Record::Server(format!("life {life} {end}")));
        });
        self.running = Some(Running {
            life,
            task,
            stop,
            stopped: None,
            dead,
            store,
            syncs_failed: false,
        });
    }

    /// The process is gone at once.
    pub(crate) fn kill(&mut self) {
        self.die(Death::Killed);
    }

    /// The machine is gone at once.
    pub(crate) fn cut_power(&mut self) {
        self.die(Death::PowerCut);
    }

    fn die(&mut self, death: Death) {
        let Some(running) = self.running.take() else {
            return;
        };
        // First the wires and the store: the work of its tasks until they are dropped reaches nobody.
        match death {
            Death::PowerCut => self.network.cut_power(),
            Death::Killed | Death::Drained => self.network.cut_server(),
        }
        running.dead.store(true, Ordering::Relaxed);
        running.task.abort();
        let life = running.life;
        self.trace
            .add(Record::Server(format!("life {life} is killed")));
        self.storage_ended(death);
    }

    fn storage_ended(&mut self, death: Death) {
        if let Some(what) = self.storage.ended(death) {
            self.trace.add(Record::Fault(what));
        }
    }

    /// The disk takes `bytes` more bytes.
    pub(crate) fn fill_disk(&mut self, bytes: u64) {
        if self.running.is_some() {
            self.storage.set_faults(Faults {
                bytes_left: Some(bytes),
                ..Faults::default()
            });
        }
    }

    /// No sync of the server that runs succeeds any more.
    pub(crate) fn fail_syncs(&mut self) {
        if let Some(running) = &mut self.running {
            running.syncs_failed = true;
            self.storage.set_faults(Faults {
                sync: true,
                ..Faults::default()
            });
        }
    }

    /// The disk is well again. A server that could not sync does not go on.
    pub(crate) fn mend_disk(&mut self) {
        self.storage.set_faults(Faults::default());
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.syncs_failed)
        {
            self.kill();
        }
    }

    /// The server is told to end.
    pub(crate) fn drain(&mut self) {
        if let Some(running) = &mut self.running
            && !running.stop.is_cancelled()
        {
            running.stop.cancel();
            running.stopped = Some(Instant::now());
        }
    }

    /// The server that was told to end has.
    pub(crate) async fn drained(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let life = running.life;
        let limit = running.stopped.unwrap_or_else(Instant::now) + DRAIN_TIMEOUT + DRAIN_GRACE;
        if !timeout_at(limit, running.task)
            .await
            .is_ok_and(|joined| joined.is_ok())
        {
            self.failures
                .push(format!("life {life} did not drain in time"));
        }
        running.dead.store(true, Ordering::Relaxed);
        self.storage_ended(Death::Drained);
        // Its machine closes its open connections.
        self.network.cut_server();
    }

    /// The store of the server that runs.
    pub(crate) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.running.as_ref().map(|running| &running.store)
    }

    /// Notes a server that has ended by itself.
    pub(crate) fn watch(&mut self) {
        if let Some(running) = &self.running
            && running.task.is_finished()
            && !running.stop.is_cancelled()
        {
            let life = running.life;
            if running.syncs_failed {
                // It must end, and its end is like a kill.
                self.kill();
                return;
            }
            self.failures.push(format!("life {life} ended by itself"));
            self.running = None;
        }
    }
}

/// The environment of a life: its own random numbers, and a clock that is up to a minute wrong.
fn environment(rng: &mut StdRng) -> Environment {
    let wrong = Duration::from_millis(rng.random_range(0..60_000));
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    Environment::seeded(rng.random(), start + wrong)
}
