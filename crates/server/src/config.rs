//! The configuration of a node: plain values, validated where they are made. Reads no environment; the binary does.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use longlived_broker::{
    Compression, DiskConfig, Environment, HistoryClass, LogConfig, OpenError, Store, StoreConfig,
};
use longlived_topic::{TopicFilter, TopicName};

use crate::transport::acceptor::AcceptorSettings;
use crate::transport::bind::Listen;
use crate::transport::tls::TlsConfig;

/// Everything a node can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; at least one place.
    pub listen: Vec<Listen>,
    /// The certificate of listeners that speak TLS, which need one.
    pub tls: Option<TlsConfig>,
    /// The auth file: who calls, and what they may. Without it nobody is checked.
    pub auth: Option<PathBuf>,
    /// What addresses beyond loopback may lack.
    pub insecure: Insecure,
    /// Where metrics are told over HTTP; port 0 takes a free one. Off without it.
    pub metrics_listen: Option<SocketAddr>,
    /// The periodic generator; off without it.
    pub generator: Option<GeneratorConfig>,
    /// The topics that subscribers of the frozen contract receive beside their inbox.
    pub legacy_topics: Vec<TopicFilter>,
    /// Retention classes; the first that matches a topic holds.
    pub history: Vec<HistoryClass>,
    /// Where history is kept. A store remembers as many message ids as `log` says, and not as this says.
    pub store: StoreConfig,
    /// Topics known at a time.
    pub topics_max: usize,
    /// From the stop signal to the end of the process, with any behaviour of the peers.
    pub drain_timeout: Duration,
    /// How much of that time a stream goes on so that another can take its place on another node, if its client can have two.
    pub drain_overlap: Duration,
    /// The age at which a stream is told to move; none without it. That of connections is one of their own limits.
    pub max_stream_age: Option<Duration>,
    /// Largest encoded event, in bytes.
    pub event_bytes_max: usize,
    /// Subscriber ids known at a time, the recently gone included.
    pub subscribers_max: usize,
    /// Bytes that pages of topics and history may hold together, from when they are made until their readers have
    /// taken them.
    pub page_bytes_max: usize,
    /// The longest quiet promised to a subscriber that asks for nothing else.
    pub max_silence: Duration,
    /// How large events may be compressed toward subscribers that accept it, preferred first; nothing is compressed
    /// when there is none. Requests may be compressed in any case.
    pub compressions: Vec<Compression>,
    /// How long a reader that asked to be disconnected may take nothing while there is something to send.
    pub stall_timeout: Duration,
    /// Sizes of the log.
    pub log: LogConfig,
    /// Limits of accepting, and of each connection.
    pub acceptor: AcceptorSettings,
}

/// What an address beyond loopback may lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insecure {
    /// TLS: machines on the way read and change everything, tokens too.
    pub no_tls: bool,
    /// An auth file: a machine that reaches the address may do everything.
    pub no_auth: bool,
}

/// The periodic generator.
#[derive(Clone, Debug)]
pub struct GeneratorConfig {
    /// One message to each inbox with a subscriber, in each interval.
    pub every: Duration,
    /// One message in each interval to this topic as well.
    pub topic: Option<TopicName>,
}

impl Config {
    /// Opens the store.
    pub(crate) async fn open_store(
        &self,
        environment: &Environment,
    ) -> Result<Arc<dyn Store>, OpenError> {
        let store = match &self.store {
            StoreConfig::Memory => StoreConfig::Memory,
            StoreConfig::Disk(disk) => StoreConfig::Disk(DiskConfig {
                // It remembers as many ids as the log asks for, and no more.
                ids_max: self.log.dedupe.ids_max,
                ids_age_max: self.log.dedupe.age_max,
                ..disk.clone()
            }),
        };
        store
            .open(environment.clone(), self.history.clone(), self.topics_max)
            .await
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 7070)).into()],
            tls: None,
            auth: None,
            insecure: Insecure::default(),
            metrics_listen: None,
            generator: None,
            legacy_topics: Vec::new(),
            history: Vec::new(),
            store: StoreConfig::Memory,
            topics_max: 1_000_000,
            drain_timeout: Duration::from_secs(10),
            drain_overlap: Duration::ZERO,
            max_stream_age: None,
            event_bytes_max: 1 << 20,
            subscribers_max: 2_000_000,
            page_bytes_max: 128 << 20,
            max_silence: Duration::from_secs(20),
            compressions: vec![Compression::Zstd, Compression::Gzip],
            stall_timeout: Duration::from_secs(30),
            log: LogConfig::default(),
            acceptor: AcceptorSettings::default(),
        }
    }
}
