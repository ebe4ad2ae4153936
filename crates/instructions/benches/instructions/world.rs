//! A server and its clients on one thread, which take turns. The server's turn can be counted; the clients' turn never
//! is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longlived_broker::storage::{MemoryStore, RetentionConfig};
use longlived_broker::{Environment, Log, LogConfig, Message, PublishOptions, Store};
use longlived_server::{Config, Server};
use longlived_topic::TopicName;
use tokio::runtime::Runtime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::PAYLOAD_BYTES;
use crate::client::Client;
use crate::counted::counted;
use crate::network::{Network, Socket};

/// The seed of every run.
const SEED: u64 = 4;
/// Messages that are stored at a time before a scenario begins.
const BATCH: usize = 1_000;
/// Turns after which there must be nothing more to do.
const TURNS_MAX: usize = 100_000;
/// The token of callers where they are checked.
pub(crate) const TOKEN: &str = "llt_bench_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// Sixteen rules, of which the last allows.
const RULES: &str = r#"
[tokens.bench]
sha256 = "573ff0c8cec0bff8f65043cf67eff4a675c5d9362e3597f7665be9f39419338c"
publish = { allow = ["orders.>"] }
[tokens.bench.subscribe]
allow = ["a.>", "b.*.c", "c.d.e", "orders.us.>", "orders.*.paid", "d.>", "e.*", "orders.>"]
deny = ["a.secret", "orders.*.secret", "f.>", "orders.eu.secret.>", "g.*", "h.i", "j.k.l", "m.*.n"]
"#;
/// The topic of all messages.
pub(crate) const TOPIC: &str = "orders.eu.created";

/// The server, its clients, and the network between them.
pub(crate) struct World {
    server: Runtime,
    clients: Runtime,
    network: Network,
    // Runs the tasks of both sides.
    tasks: TaskTracker,
}

impl World {
    /// A server over a store, and nobody connected.
    pub(crate) fn new(store: impl FnOnce(&Environment) -> Arc<dyn Store>) -> Self {
        Self::with(Config::default(), store)
    }

    /// The same of a server that checks its callers: each brings [`TOKEN`], which is granted what a fleet's would be.
    pub(crate) fn checked(store: impl FnOnce(&Environment) -> Arc<dyn Store>) -> Self {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(RULES.as_bytes()).expect("a disk with room");
        let config = Config {
            auth: Some(file.path().to_owned()),
            ..Config::default()
        };
        let world = Self::with(config, store);
        // Two looks at it must agree. It is read again when five seconds have passed, which they do not here.
        let looked = Duration::from_secs(1);
        world.server.block_on(async { sleep(looked).await });
        drop(file);
        world
    }

    fn with(config: Config, store: impl FnOnce(&Environment) -> Arc<dyn Store>) -> Self {
        let server = runtime();
        let (network, door) = Network::new();
        let tasks = TaskTracker::new();
        let environment = environment(&server);
        let store = store(&environment);
        let address = SocketAddr::from(([127, 0, 0, 1], 7070));
        let node = Server::with_listener(door, address, config, environment);
        let run = node.with_store(store).run(std::future::pending());
        tasks.spawn_on(
            async move {
                let end = run.await;
                unreachable!("nobody stops the server: {end:?}");
            },
            server.handle(),
        );
        let mut world = Self {
            server,
            clients: runtime(),
            network,
            tasks,
        };
        settle(&world.server);
        world.settle();
        world
    }

    /// Lets clients do something, to its end as far as it needs no answer.
    pub(crate) fn client<T>(&self, act: impl Future<Output = T>) -> T {
        self.clients.block_on(act)
    }

    /// A client with a connection of its own.
    pub(crate) fn connect(&self) -> Client {
        let (socket, tasks) = (self.network.connect(), self.tasks.clone());
        self.client(Client::new(socket, &tasks))
    }

    /// A connection on which the scenario speaks for itself.
    pub(crate) fn open(&self) -> Socket {
        self.network.connect()
    }

    /// Turns until nobody has anything more to do; the server's are not counted.
    pub(crate) fn settle(&mut self) {
        self.take_turns(settle);
    }

    /// The same, and the work of the server is counted.
    pub(crate) fn settle_counted(&mut self) {
        self.take_turns(|server| counted(&mut || settle(server)));
    }

    fn take_turns(&mut self, serve: impl Fn(&Runtime)) {
        for _ in 0..TURNS_MAX {
            settle(&self.clients);
            if !self.network.deliver_to_server() {
                return;
            }
            serve(&self.server);
            self.network.deliver_to_clients();
        }
        unreachable!("server and clients always have something more to say");
    }
}

/// One thread, and a clock that moves only when nothing else can happen.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing")
}

/// Runs until nothing more can happen: only then does the clock move, and only to the next timer.
fn settle(runtime: &Runtime) {
    runtime.block_on(async { sleep(Duration::from_millis(1)).await });
}

/// The same chances and the same times in every run.
pub(crate) fn environment(runtime: &Runtime) -> Environment {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let _entered = runtime.enter();
    Environment::seeded(SEED, start)
}

/// A store in memory with this number of events.
pub(crate) fn store_with(events: usize, environment: &Environment) -> Arc<dyn Store> {
    let retention = RetentionConfig::new(Vec::new());
    let store = Arc::new(MemoryStore::new(environment.clone(), retention, 1_000_000));
    let (log, sequencer) = Log::new(store.clone(), LogConfig::default());
    let stop = CancellationToken::new();
    let publish = async {
        let mut left = events;
        while left > 0 {
            let batch = left.min(BATCH);
            let messages = (0..batch).map(|_| message()).collect();
            let answer = log.submit(messages, PublishOptions::default()).await;
            let reply = answer.expect("the queue has room").await;
            let stored = reply.expect("the sequencer answers").published.len();
            assert_eq!(stored, batch);
            left -= batch;
        }
        stop.cancel();
    };
    // On a runtime of its own: the measured scenario begins with fresh tasks and timers.
    let (ended, ()) =
        runtime().block_on(async { tokio::join!(sequencer.run(stop.clone()), publish) });
    ended.expect("memory does not fail");
    store
}

/// One message, as all are.
pub(crate) fn message() -> Message {
    let topic = TopicName::parse(TOPIC).expect("a name of our own");
    Message::new(topic, vec![b'x'; PAYLOAD_BYTES])
}
