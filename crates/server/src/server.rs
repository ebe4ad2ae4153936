//! The life of a node, from listening to the end of the drain: its assembly, its tasks, and their supervision.

mod doors;
mod essential;
mod exposure;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use longlived_broker::{AppendError, Environment, Log, OpenError, Store, StoreStats};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tower::Layer as _;

pub use self::exposure::Exposed;
use self::{doors::Door, essential::Essential};
use crate::{
    callers::{self, Callers},
    config::Config,
    generator,
    layers::Layers,
    lifecycle::Drain,
    metrics::{self, LogDrops, NodeValues},
    node::Node,
    probes::{Probes, ProbesError},
    reload::ReloadHandle,
    rpc::Router,
    tasks::Tasks,
    transport::{
        acceptor::{AcceptContext, ConnectionCounts},
        bind::{self, BindError, Place},
        listener::{ListenAddress, Listener},
        open_files::OtherFiles,
        openings::{Handshakes, Openings},
        tls::{Tls, TlsConfig, TlsError},
    },
};

/// How long health says NOT_SERVING before connections are told to go, so that its watchers have the news.
const NEWS_TIME: Duration = Duration::from_millis(50);

/// A node that listens and has not begun to serve.
pub struct Server {
    // At least one.
    doors: Vec<Door>,
    // Theirs, in their order.
    addresses: Vec<ListenAddress>,
    // Of the connections of all doors.
    counts: ConnectionCounts,
    openings: Openings,
    tls: Option<Arc<Tls>>,
    // `None` until the auth file is read.
    callers: Option<Arc<Callers>>,
    metrics: Option<std::net::TcpListener>,
    config: Config,
    environment: Environment,
    // `None` until it is opened.
    store: Option<Arc<dyn Store>>,
    log_drops: Option<LogDrops>,
}

/// Why a node cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An address that others reach, without what guards it.
    #[error(transparent)]
    Exposed(#[from] Exposed),
    /// The auth file cannot be used.
    #[error("{0}")]
    Auth(String),
    /// There is nowhere to listen.
    #[error("there is no place to listen at")]
    NoListener,
    /// A listener speaks TLS, and there is no certificate.
    #[error("a listener speaks TLS and there is no certificate for it")]
    NoCertificate,
    /// A listener asks for certificates of clients, and nothing says who may have signed them.
    #[error(
        "a listener asks clients for certificates and there are no authorities to judge them by"
    )]
    NoClientAuthorities,
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address for metrics cannot be listened on.
    #[error("metrics: {0}")]
    Metrics(#[source] BindError),
    /// The listener cannot be used.
    #[error("the listener: {0}")]
    Listener(#[from] std::io::Error),
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be trusted any more.
    #[error("{0}; nothing more is acknowledged, and a restart reads back the durable events")]
    Store(AppendError),
    /// A task without which the node cannot serve has ended, most likely in a panic.
    #[error("the task `{0}` ended before it was told to; see the log")]
    TaskEnded(&'static str),
    /// The probes cannot be built.
    #[error(transparent)]
    Probes(#[from] ProbesError),
}

impl Server {
    /// Opens the store and listens on the configured addresses; clients may connect from here on and are served by
    /// [`Self::run`].
    pub async fn bind(mut config: Config, environment: Environment) -> Result<Self, ServeError> {
        // A start that cannot have the address leaves no directory behind; one that cannot have the data lets nobody
        // connect.
        if config.listen.is_empty() {
            return Err(ServeError::NoListener);
        }
        exposure::check(&config)?;
        let callers = callers_of(&config, &environment).await?;
        let places = bind::reserve_all(&config.listen)?;
        let openings = Openings::new(&config.acceptor);
        let tls = match config.tls.clone() {
            Some(files) => Some(load_certificate(files, openings.handshakes.clone()).await?),
            None if places.iter().any(Place::is_tls) => return Err(ServeError::NoCertificate),
            None => None,
        };
        let judges = tls.as_ref().is_some_and(|tls| tls.knows_clients());
        if !judges && places.iter().any(Place::asks_clients) {
            return Err(ServeError::NoClientAuthorities);
        }
        let began = Instant::now();
        let store = config.open_store(&environment).await?;
        let took = began.elapsed();
        let counts = ConnectionCounts::default();
        let mut doors = Vec::new();
        for place in places {
            doors.push(Door::at(place, tls.as_ref(), &counts, &openings).await?);
        }
        let metrics = config.metrics_listen.map(bind::bind).transpose();
        if let Some(stats) = store.stats() {
            say_contents(&*store, stats, took);
        }
        config.acceptor.open_files.set_others(files_of(&store));
        Ok(Self {
            addresses: doors.iter().map(|door| door.address.clone()).collect(),
            doors,
            counts,
            openings,
            tls,
            callers: Some(callers),
            metrics: metrics.map_err(ServeError::Metrics)?,
            config,
            environment,
            store: Some(store),
            log_drops: None,
        })
    }

    /// A node whose connections come from `listener`, as in a simulation; `address` is the one that
    /// [`Self::local_addr`] returns; the address of the configuration is not used.
    pub fn with_listener(
        listener: impl Listener,
        address: impl Into<ListenAddress>,
        config: Config,
        environment: Environment,
    ) -> Self {
        let address = address.into();
        Self {
            doors: vec![Door::of(listener, address.clone())],
            addresses: vec![address],
            counts: ConnectionCounts::default(),
            openings: Openings::new(&config.acceptor),
            tls: None,
            callers: None,
            metrics: None,
            config,
            environment,
            store: None,
            log_drops: None,
        }
    }

    /// Takes connections from `listener` as well; `address` is its name in the log and in [`Self::local_addrs`].
    pub fn and_listener(
        mut self,
        listener: impl Listener,
        address: impl Into<ListenAddress>,
    ) -> Self {
        let address = address.into();
        self.doors.push(Door::of(listener, address.clone()));
        self.addresses.push(address);
        self
    }

    /// Keeps the log in `store` and not in one that the configuration describes. The store may outlive the
    /// node; only one node at a time may write to it.
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Tells in the metrics how many lines of the log were dropped since the start. Only the writer of the log knows.
    pub fn with_log_drops(mut self, dropped: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.log_drops = Some(Box::new(dropped));
        self
    }

    /// The first address it listens on, with the port that was free when 0 was asked for.
    pub fn local_addr(&self) -> &ListenAddress {
        &self.addresses[0]
    }

    /// All addresses it listens on, [`Self::local_addr`] first.
    pub fn local_addrs(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Makes it read its auth file and the files of its certificate again, if it has any of them.
    pub fn reload_handle(&self) -> Option<ReloadHandle> {
        let certificate = self.tls.as_ref().map(|tls| tls.reload_asked());
        let callers = self.callers.as_ref();
        let auth_file = callers.and_then(|callers| callers.reload_asked());
        ReloadHandle::of(certificate.into_iter().chain(auth_file))
    }

    /// How many connections may be open at a time, by the present facts: fewer than configured where not all fit into
    /// the open files of the process.
    pub fn connections_max(&self) -> usize {
        self.config.acceptor.connections_max()
    }

    /// The address where it tells metrics, if it does.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until `stop`, then drains: refuses new calls, sends every live stream away with its turn to come
    /// back, flushes the log, and ends within the drain timeout with any behaviour of the peers.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self {
            doors,
            counts,
            openings,
            tls,
            callers,
            metrics,
            mut config,
            environment,
            store,
            log_drops,
            ..
        } = self;
        let callers = match callers {
            Some(callers) => callers,
            None => callers_of(&config, &environment).await?,
        };
        let store = opened(store, &config, &environment).await?;
        config.acceptor.open_files.set_others(files_of(&store));
        let (log, sequencer) = Log::new(store, config.log.clone());
        let drain = Drain::new();
        let node = Node::new(config, environment, log, callers, drain.clone());

        // The log outlives the connections: their messages are stored and answered.
        let background = Tasks::new();
        let log_tasks = Tasks::new();
        let _abort = (background.abort_on_drop(), log_tasks.abort_on_drop());
        let essential = Essential::default();
        let store_failure = Arc::new(OnceLock::new());
        let sequencer = sequencer.run(log_tasks.cancel_token());
        let sequencer = keep_failure(sequencer, store_failure.clone());
        log_tasks.spawn("sequencer", essential.task("sequencer", sequencer));
        background.spawn("sums", node.sums.clone().run(background.cancel_token()));
        let maintenance = node.maintenance.clone();
        let maintenance = maintenance.run(background.cancel_token());
        background.spawn("maintenance", essential.task("maintenance", maintenance));
        if let Some(generator) = node.config.generator.clone() {
            let run = generator::run(node.clone(), generator, background.cancel_token());
            background.spawn("generator", essential.task("generator", run));
        }

        let request_timeout = node.config.acceptor.connection.request_timeout;
        let probes = Probes::new(drain.clone(), request_timeout).await?;
        // Ends before the drain begins, whose word on health is the last.
        let health = Tasks::new();
        let _abort_health = health.abort_on_drop();
        let watch = probes
            .clone()
            .watch_writable(node.log.writable(), health.cancel_token());
        health.spawn("health", essential.task("health", watch));
        let connections = Tasks::new();
        let _abort_connections = connections.abort_on_drop();
        let watchers = Tasks::new();
        let _abort_watchers = watchers.abort_on_drop();
        let watch = node.callers.clone().watch(background.cancel_token());
        background.spawn("auth file", watch);
        if let Some(tls) = tls.clone() {
            background.spawn("certificate", tls.watch(background.cancel_token()));
        }
        if let Some(listener) = metrics {
            let values = NodeValues::new(node.clone(), counts.clone(), tls, log_drops);
            tell_metrics(listener, values, &watchers)?;
        }
        let service = layers(&node).layer(Router::new(node.clone(), probes.clone()));
        let shared = AcceptContext::new(
            service,
            node.config.acceptor.clone(),
            counts,
            drain.clone(),
            connections.clone(),
        )
        .with_openings(openings);
        let open = |door: Door| door.open(shared.clone());
        let accepting: Vec<_> = doors.into_iter().map(open).collect::<Result<_, _>>()?;
        for accept in accepting {
            connections.spawn("acceptor", essential.task("acceptor", accept));
        }

        let failed = tokio::select! {
            biased;
            () = stop => None,
            name = essential.ended() => Some(name),
        };
        let deadline = Instant::now() + node.config.drain_timeout;
        health.stop();
        health.close_and_wait().await;
        drain_node(&node, &probes, &connections, deadline).await;
        end(&background, &log_tasks, &watchers, deadline).await;
        if let Some(stats) = node.log.store_stats() {
            say_counts(stats);
        }
        match (store_failure.get(), failed) {
            (Some(error), _) => Err(ServeError::Store(error.clone())),
            (None, Some(name)) => Err(ServeError::TaskEnded(name)),
            (None, None) => Ok(()),
        }
    }
}

/// By the auth file, if there is one.
async fn callers_of(
    config: &Config,
    environment: &Environment,
) -> Result<Arc<Callers>, ServeError> {
    let Some(path) = &config.auth else {
        return Ok(Callers::unchecked());
    };
    let rules = callers::read_settled(path)
        .await
        .map_err(ServeError::Auth)?;
    Ok(Callers::checked(path, rules, environment.clone()))
}

/// Files wait for a disk.
async fn load_certificate(
    files: TlsConfig,
    handshakes: Handshakes,
) -> Result<Arc<Tls>, ServeError> {
    let load = tokio::task::spawn_blocking(move || Tls::load(files, handshakes));
    let loaded = load.await.map_err(std::io::Error::other)?;
    Ok(Arc::new(loaded?))
}

/// The store of the configuration, unless it is open already or is another one.
async fn opened(
    store: Option<Arc<dyn Store>>,
    config: &Config,
    environment: &Environment,
) -> Result<Arc<dyn Store>, OpenError> {
    match store {
        Some(store) => Ok(store),
        None => config.open_store(environment).await,
    }
}

/// Files that the store keeps open, more of them as history grows.
fn files_of(store: &Arc<dyn Store>) -> OtherFiles {
    let store = store.clone();
    Arc::new(move || store.stats().map_or(0, |stats| stats.files))
}

fn layers(node: &Arc<Node>) -> Layers {
    let ids = node.environment.clone();
    let turns = node.clone();
    Layers::new(
        move || ids.random(),
        node.drain.clone(),
        move || turns.spread_turn(),
    )
    .with_callers(node.callers.clone())
    .with_sums(node.sums.clone())
}

/// The sequencer's run, which leaves behind why it failed.
async fn keep_failure(
    run: impl Future<Output = Result<(), AppendError>>,
    failure: Arc<OnceLock<AppendError>>,
) {
    if let Err(error) = run.await {
        failure.set(error).ok();
    }
}

/// Not essential: a node that cannot be watched serves on, and its watchers see that they get no answer.
fn tell_metrics(
    listener: std::net::TcpListener,
    values: NodeValues,
    tasks: &Tasks,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let serve = metrics::serve(listener, values, tasks.clone());
    tasks.spawn("metrics", serve);
    Ok(())
}

/// Ends the tasks beside the connections, the log after its writers; watchers are answered until then.
async fn end(background: &Tasks, log_tasks: &Tasks, watchers: &Tasks, deadline: Instant) {
    background.stop();
    log_tasks.stop();
    let stopped = async {
        background.close_and_wait().await;
        log_tasks.close_and_wait().await;
        watchers.stop();
        watchers.close_and_wait().await;
    };
    if timeout_at(deadline + Duration::from_millis(500), stopped)
        .await
        .is_err()
    {
        tracing::error!("tasks did not end in time and were dropped");
    }
}

fn say_contents(store: &dyn Store, stats: StoreStats, took: Duration) {
    tracing::info!(
        epoch = store.epoch().get(),
        last_sequence = store.last_sequence(),
        events = stats.events,
        topics = stats.topics,
        sealed_files = stats.files,
        took = ?took,
        "store opened"
    );
}

fn say_counts(stats: StoreStats) {
    // Reads beside events tell how well readers share their reads.
    tracing::info!(
        commits = stats.commits,
        events = stats.committed_events,
        reads = stats.reads,
        damaged = stats.damaged,
        "store closed"
    );
}

async fn drain_node(node: &Arc<Node>, probes: &Probes, connections: &Tasks, deadline: Instant) {
    let live = node.registry.live();
    tracing::info!(live, timeout = ?node.config.drain_timeout, "draining");
    node.drain.begin();
    probes.not_serving().await;
    let overlap = node.config.drain_overlap;
    if !overlap.is_zero() {
        let ends = deadline.min(Instant::now() + overlap);
        node.registry.move_all(ends, || node.move_reason(overlap));
        let moved = timeout_at(ends, node.registry.emptied()).await;
        let left = node.registry.live();
        tracing::info!(
            left,
            moved = moved.is_ok(),
            "streams had their time to move"
        );
    }
    node.registry.close_all(|| node.drain_reason());
    let gone = async {
        node.registry.emptied().await;
        tokio::time::sleep(NEWS_TIME).await;
        node.drain.go_away();
        connections.close_and_wait().await;
    };
    if timeout_at(deadline, gone).await.is_ok() {
        tracing::info!("drained");
        return;
    }
    let stuck = node.registry.live();
    tracing::warn!(
        streams = stuck,
        connections = connections.len(),
        "drain timeout: the rest is dropped"
    );
    node.drain.kill();
    connections.abort_all();
    // Dropping the remaining tasks needs no peer, only a turn of each task.
    let dropped = connections.close_and_wait();
    timeout_at(deadline + Duration::from_millis(300), dropped)
        .await
        .ok();
}
