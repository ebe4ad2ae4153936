//! `longlived serve`: one node, until it is told to stop.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, error::ErrorKind};
use longlived_console::{open_files, sink};
use longlived_server::{
    Config, DedupeConfig, Environment, GeneratorConfig, HistoryClass, OpenFiles, SERVICES,
    ServeError, Server, StoreConfig, legacy_topic,
};
use longlived_topic::{TopicFilter, TopicName};

use crate::auth_args::AuthArgs;
use crate::compression_args::ServeCompressionArgs;
use crate::disk_args::{self, DiskArgs};
use crate::history_args;
use crate::listen_args::{self, ListenList};
use crate::log_args::LogArgs;
use crate::logging;
use crate::opening_args::OpeningArgs;
use crate::signals::{self, StopSignals};
use crate::tls_args::{self, TlsArgs};
use crate::values;

/// Run a node.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Where to listen: ADDR:PORT, NAME:PORT or tcp://ADDR:PORT; tls://ADDR:PORT for TLS, which needs --tls-cert and
    /// --tls-key; unix:PATH?mode=0660 for a Unix socket. Repeatable (also separated by blanks). A name is listened on at
    /// each of its addresses. Port 0 takes a free port. The file of a Unix socket has mode 0600 unless given: who may
    /// write to it may connect. One that a dead server left behind is replaced. With ?proxy=10.0.0.0/8,fd00::/8 a
    /// listener is for balancers at these addresses, which name their clients by the PROXY protocol. With
    /// ?services=public it has all but what is for administrators, with ?services=admin that alone.
    #[arg(
        long,
        env = "LONGLIVED_LISTEN",
        value_name = "URL",
        default_value = "127.0.0.1:7070"
    )]
    listen: Vec<ListenList>,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    auth: AuthArgs,

    /// Serve metrics over HTTP at this address (GET /metrics, in the Prometheus text format). Port 0 takes a free
    /// port. Off unless given.
    #[arg(long, env = "LONGLIVED_METRICS_LISTEN", value_name = "ADDR", value_parser = listen_args::address)]
    metrics_listen: Option<SocketAddr>,

    /// Publish `data mock for: <id>` to the inbox of every live subscriber that follows it, once per interval (1s,
    /// 250ms, ...). Off unless given.
    #[arg(long, env = "LONGLIVED_GENERATE_EVERY", value_parser = values::positive_duration)]
    generate_every: Option<Duration>,

    /// Let the generator publish to this topic too, once per interval.
    #[arg(long, env = "LONGLIVED_GENERATE_TOPIC", requires = "generate_every", value_parser = topic)]
    generate_topic: Option<TopicName>,

    /// Topic filters that subscribers of the frozen contract `protos.Longlived` receive beside their inbox.
    #[arg(
        long,
        env = "LONGLIVED_LEGACY_TOPICS",
        value_delimiter = ',',
        value_name = "FILTER",
        value_parser = legacy_topic
    )]
    legacy_topics: Vec<TopicFilter>,

    /// Retention limits of matching topics, e.g. 'orders.>=bytes:256MiB,events:1000000,age:1h'. Repeatable (in the
    /// environment: separated by ';'); the first filter that matches applies. Without bytes or events, those of the
    /// example apply. Without an age, events do not expire. All other topics keep 256 MiB, 1,000,000 events, 1 h;
    /// inboxes together keep 32 MiB, 200,000 events, 10 min.
    #[arg(
        long,
        env = "LONGLIVED_HISTORY",
        value_delimiter = ';',
        value_name = "FILTER=LIMITS",
        value_parser = history_args::class
    )]
    history: Vec<HistoryClass>,

    #[command(flatten)]
    disk: DiskArgs,

    /// Topics known at a time. A new topic replaces one that keeps no event. If there is none, publishing to the
    /// new topic is refused.
    #[arg(long, env = "LONGLIVED_TOPICS_MAX", value_parser = count(), default_value_t = Config::default().topics_max)]
    topics_max: usize,

    /// On SIGTERM, SIGINT or SIGHUP: time for streams and connections to end before they are dropped.
    #[arg(long, env = "LONGLIVED_DRAIN_TIMEOUT", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,

    /// When draining: tell subscribers that can have two streams to open another elsewhere, and go on delivering to them for
    /// this time or until they have. It is a part of --drain-timeout, which must be longer. 0s is no such time.
    #[arg(long, env = "LONGLIVED_DRAIN_OVERLAP", default_value = "0s", value_parser = duration)]
    drain_overlap: Duration,

    /// Tell a subscriber whose stream has reached this age to open another, and a connection of this age to take no more
    /// streams (1s to 24h). Each at 90 to 100 % of it. So streams spread over the servers behind a balancer of
    /// connections. Off unless given.
    #[arg(long, env = "LONGLIVED_MAX_STREAM_AGE", value_name = "DURATION", value_parser = age)]
    max_stream_age: Option<Duration>,

    /// Refuse a call whose first message is not complete within this time.
    #[arg(long, env = "LONGLIVED_REQUEST_TIMEOUT", default_value = "30s", value_parser = positive_duration)]
    request_timeout: Duration,

    /// Largest encoded event, in bytes. Publishing a larger one is refused.
    #[arg(long, env = "LONGLIVED_EVENT_BYTES_MAX", value_name = "BYTES", value_parser = event_bytes(), default_value_t = Config::default().event_bytes_max)]
    event_bytes_max: usize,

    /// Subscriber ids known at a time. For a further one an id that has left is forgotten; if there is none, it is refused.
    #[arg(long, env = "LONGLIVED_SUBSCRIBERS_MAX", value_parser = count(), default_value_t = Config::default().subscribers_max)]
    subscribers_max: usize,

    /// Distinct topic filters followed at a time, however many subscribers follow each. A further filter is
    /// refused.
    #[arg(long, env = "LONGLIVED_CHANNELS_MAX", value_parser = count(), default_value_t = Config::default().log.channels_max)]
    channels_max: usize,

    /// Bytes of pages of topics and history that were requested and not taken yet, all callers together. A further
    /// page waits, and is then refused.
    #[arg(long, env = "LONGLIVED_PAGE_BYTES_MAX", value_name = "BYTES", value_parser = page_bytes(), default_value_t = Config::default().page_bytes_max)]
    page_bytes_max: usize,

    /// Connections open at a time. A further one is closed.
    #[arg(
        long,
        env = "LONGLIVED_CONNECTIONS_MAX",
        value_parser = count(),
        default_value_t = Config::default().acceptor.connections_max
    )]
    connections_max: usize,

    #[command(flatten)]
    opening: OpeningArgs,

    /// Streams open at a time on one connection.
    #[arg(
        long,
        env = "LONGLIVED_STREAMS_MAX",
        value_parser = values::number(1_u32..=1_000_000),
        default_value_t = Config::default().acceptor.connection.streams_max
    )]
    streams_max: u32,

    /// Bytes that the server holds for the calls of one connection: headers, messages that are not whole or wait, and answers for which the windows of
    /// their streams are too small. Near it the connection gets no more flow-control credit. If nothing else would make room, its largest
    /// call ends.
    #[arg(
        long,
        env = "LONGLIVED_CONNECTION_BYTES_MAX",
        value_name = "BYTES", value_parser = connection_bytes(),
        default_value_t = Config::default().acceptor.connection.connection_bytes_max
    )]
    connection_bytes_max: usize,

    /// The same for all connections together. Beyond it the largest call ends, of the connection that holds most.
    #[arg(
        long,
        env = "LONGLIVED_HELD_BYTES_MAX",
        value_name = "BYTES", value_parser = held_bytes(),
        default_value_t = Config::default().acceptor.held_bytes_max
    )]
    held_bytes_max: usize,

    /// The longest silence promised to a subscriber that does not request another (1s to 5min).
    #[arg(long, env = "LONGLIVED_MAX_SILENCE", default_value = "20s", value_parser = silence)]
    max_silence: Duration,

    /// How long a subscriber that asked to be disconnected when slow may take nothing.
    #[arg(long, env = "LONGLIVED_STALL_TIMEOUT", default_value = "30s", value_parser = positive_duration)]
    stall_timeout: Duration,

    /// Send an HTTP/2 PING to a peer that has been silent for this long ...
    #[arg(long, env = "LONGLIVED_KEEPALIVE_INTERVAL", default_value = "20s", value_parser = positive_duration)]
    keepalive_interval: Duration,

    /// ... and close its connection if it does not answer within this time.
    #[arg(long, env = "LONGLIVED_KEEPALIVE_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    keepalive_timeout: Duration,

    /// Close a connection that has not sent its HTTP/2 preface within this time.
    #[arg(long, env = "LONGLIVED_HANDSHAKE_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    handshake_timeout: Duration,

    /// Bytes of messages that may wait to be stored. Publishers wait when the limit is reached.
    #[arg(
        long,
        env = "LONGLIVED_PUBLISH_QUEUE_BYTES_MAX",
        value_name = "BYTES", value_parser = queue_bytes(),
        default_value_t = Config::default().log.publish_queue_bytes_max
    )]
    publish_queue_bytes_max: usize,

    /// Store a message id once per topic, among this many newest ids ...
    #[arg(
        long,
        env = "LONGLIVED_MESSAGE_IDS_MAX",
        value_parser = values::number(0_usize..=100_000_000),
        default_value_t = Config::default().log.dedupe.ids_max
    )]
    message_ids_max: usize,

    /// ... and within this time. With a data directory both hold across restarts.
    #[arg(long, env = "LONGLIVED_MESSAGE_IDS_AGE", default_value = "2min", value_parser = duration)]
    message_ids_age: Duration,

    /// Time between two retention runs, which remove history above its limits.
    #[arg(long, env = "LONGLIVED_RETENTION_INTERVAL", default_value = "1s", value_parser = positive_duration)]
    retention_interval: Duration,

    /// Bytes that live tails keep for readers slightly behind. Readers further behind read history.
    #[arg(
        long,
        env = "LONGLIVED_TAIL_BYTES_MAX",
        value_name = "BYTES", value_parser = values::bytes::<usize>(0..=1 << 50),
        default_value_t = Config::default().log.tail_bytes_max
    )]
    tail_bytes_max: usize,

    #[command(flatten)]
    compression: ServeCompressionArgs,

    #[command(flatten)]
    log: LogArgs,
}

/// At least one.
fn count() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::number(1..=1 << 40)
}

/// Room for at least one page.
fn page_bytes() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::bytes(4 << 20..=1 << 40)
}

/// From a message of a few words to the largest gRPC message that does not hurt its neighbours.
fn event_bytes() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::bytes(256..=64 << 20)
}

/// Room for a batch at least; 0 would be no limit at all.
fn queue_bytes() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::bytes(64 << 10..=1 << 40)
}

/// Room for two windows of a connection.
fn connection_bytes() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::bytes(2 << 20..=1 << 40)
}

/// Room for one connection.
fn held_bytes() -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    values::bytes(2 << 20..=1 << 50)
}

/// A limit of more than a day is a mistake: nobody would be there to see it reached.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    values::duration_within(text, Duration::ZERO..=DURATION_MAX)
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    values::duration_within(text, values::DURATION_MIN..=DURATION_MAX)
}

fn age(text: &str) -> Result<Duration, String> {
    values::duration_within(text, Duration::from_secs(1)..=DURATION_MAX)
}

fn silence(text: &str) -> Result<Duration, String> {
    values::duration_within(text, Duration::from_secs(1)..=Duration::from_secs(300))
}

fn topic(text: &str) -> Result<TopicName, String> {
    let topic = TopicName::parse(text).map_err(|error| format!("it {error}"))?;
    if topic.is_sys() {
        return Err("it begins with $sys".to_owned());
    }
    if topic.is_nobodys_inbox() {
        return Err("it is no inbox that anybody can follow".to_owned());
    }
    Ok(topic)
}

impl Args {
    /// Checks that concern several flags.
    fn check(&self) -> Result<(), clap::Error> {
        if self.publish_queue_bytes_max < self.event_bytes_max {
            let wrong = format!(
                "invalid value '{}' for '--publish-queue-bytes-max': must be at least --event-bytes-max, which is {}",
                self.publish_queue_bytes_max, self.event_bytes_max
            );
            return Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
        }
        if self.held_bytes_max < self.connection_bytes_max {
            let wrong = format!(
                "invalid value '{}' for '--held-bytes-max': must be at least --connection-bytes-max, which is {}",
                self.held_bytes_max, self.connection_bytes_max
            );
            return Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
        }
        if !self.drain_overlap.is_zero() && self.drain_overlap >= self.drain_timeout {
            let wrong = format!(
                "invalid value '{}' for '--drain-overlap': must be less than --drain-timeout, which is {}",
                humantime::format_duration(self.drain_overlap),
                humantime::format_duration(self.drain_timeout)
            );
            return Err(clap::Error::raw(ErrorKind::ValueValidation, wrong));
        }
        if let Some(place) = ListenList::repeated(&self.listen) {
            let wrong = format!("--listen: `{place}` is given twice");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, wrong));
        }
        if let Some(wrong) = self.tls.mistake(&self.listen) {
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, wrong));
        }
        // The first that matches holds, so a second one of the same filter would never be looked at.
        let filters: Vec<_> = self.history.iter().map(|class| &class.filter).collect();
        if let Some(filter) = values::repeated(&filters) {
            let wrong = format!("--history: `{filter}` is given twice");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, wrong));
        }
        self.disk.check()
    }

    fn config(self) -> anyhow::Result<Config> {
        let retention_interval = self.retention_interval;
        let mut config = Config {
            listen: ListenList::places(&self.listen)?,
            tls: self.tls.files(),
            auth: self.auth.auth(),
            insecure: self.auth.insecure(),
            metrics_listen: self.metrics_listen,
            generator: self.generate_every.map(|every| GeneratorConfig {
                every,
                topic: self.generate_topic,
            }),
            legacy_topics: self.legacy_topics,
            history: self.history,
            store: self.disk.config(retention_interval),
            topics_max: self.topics_max,
            drain_timeout: self.drain_timeout,
            drain_overlap: self.drain_overlap,
            max_stream_age: self.max_stream_age,
            event_bytes_max: self.event_bytes_max,
            subscribers_max: self.subscribers_max,
            page_bytes_max: self.page_bytes_max,
            max_silence: self.max_silence,
            stall_timeout: self.stall_timeout,
            ..Config::default()
        };
        config.log.publish_queue_bytes_max = self.publish_queue_bytes_max;
        config.log.tail_bytes_max = self.tail_bytes_max;
        config.log.channels_max = self.channels_max;
        self.compression.apply(&mut config);
        config.log.dedupe = DedupeConfig {
            ids_max: self.message_ids_max,
            age_max: self.message_ids_age,
        };
        config.log.sweep_interval = retention_interval.min(config.log.sweep_interval);
        config.acceptor.connections_max = self.connections_max;
        self.opening.set(&mut config);
        config.acceptor.held_bytes_max = self.held_bytes_max;
        let connection = std::sync::Arc::make_mut(&mut config.acceptor.connection);
        connection.streams_max = self.streams_max;
        connection.connection_bytes_max = self.connection_bytes_max;
        connection.request_timeout = self.request_timeout;
        connection.keepalive_interval = self.keepalive_interval;
        connection.keepalive_timeout = self.keepalive_timeout;
        connection.handshake_timeout = self.handshake_timeout;
        connection.age_max = self.max_stream_age;
        Ok(config)
    }
}

/// Runs the node; the exit code once it has drained.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    args.check()?;
    logging::start(&args.log)?;
    let files = open_files::raise();
    let mut config = args.config()?;
    if let Some(files) = files {
        config.acceptor.open_files = OpenFiles::limited(files);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime")?;
    let served = runtime.block_on(async {
        tracing::debug!(?config, "effective configuration");
        let mut signals = StopSignals::new()?;
        let server = Server::bind(config.clone(), Environment::system());
        let server = server.await.map_err(named)?;
        let server = server.with_log_drops(|| sink::stderr().dropped());
        announce(&config, &server, files);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let reload = server.reload_handle();
        let watch = async {
            let (name, _) = signals.next_stop(reload.as_ref()).await;
            tracing::info!("{name}: draining; a second signal ends the process at once");
            stop.send(()).ok();
            signals.next_stop(reload.as_ref()).await
        };
        tokio::select! {
            ended = server.run(async { stopped.await.unwrap_or(()) }) => {
                ended?;
                Ok(ExitCode::SUCCESS)
            }
            (name, number) = watch => {
                tracing::warn!("{name} again: ending now");
                Ok(signals::ended_by(number))
            }
        }
    });
    // A blocking thread of the runtime must not hold up the exit.
    runtime.shutdown_background();
    served
}

/// A refusal of an address or a directory is an error of the flag that names it.
fn named(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Open(error) => disk_args::refused(&error),
        // As text: the error says its own cause, and the chain would say it again.
        ServeError::Tls(error) => tls_args::refused(&error),
        ServeError::Exposed(error) => anyhow::anyhow!("--listen: {error}"),
        ServeError::Auth(error) => anyhow::anyhow!("--auth: {error}"),
        ServeError::Bind(error) => anyhow::anyhow!("--listen: {error}"),
        ServeError::Metrics(error) => anyhow::anyhow!("--metrics-listen: {error}"),
        other => other.into(),
    }
}

fn announce(config: &Config, server: &Server, files: Option<u64>) {
    for address in server.local_addrs() {
        tracing::info!("listening on {address}");
    }
    if let Some(address) = server.metrics_addr() {
        tracing::info!("metrics on {address}");
    }
    let history = match &config.store {
        StoreConfig::Memory => "in memory".to_owned(),
        StoreConfig::Disk(disk) => format!("in {}", disk.dir.display()),
    };
    tracing::info!(
        "serving {}, health, reflection; history {history}",
        SERVICES.join(", ")
    );
    if let Some(generator) = &config.generator {
        let every = humantime::format_duration(generator.every);
        let topic = generator
            .topic
            .as_ref()
            .map(|topic| format!(" and {topic}"));
        let topic = topic.unwrap_or_default();
        tracing::info!("generating every {every} to inboxes{topic}");
    }
    let Some(files) = files else {
        return;
    };
    let (connections, wanted) = (server.connections_max(), config.acceptor.connections_max);
    tracing::info!("open files: up to {files}, of which connections may take {connections}");
    if connections < wanted {
        tracing::warn!(
            "not all of the {wanted} connections of --connections-max fit into {files} open files beside those of the store, \
             the log and metrics: only {connections} are let in; raise the hard limit of open files (ulimit -Hn)"
        );
    }
}
