//! The client of one server: the connections, the credential and the identity that the subscribers and publishers of a
//! program share.
//!
//! Holds: nothing is dialled before something is subscribed or published, so a client may be made before its
//! server runs; dropping the client and all that came from it closes the connections.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::backoff::BackoffOptions;
use crate::connector::Connector;
use crate::credential::{Credentials, Remedy};
#[cfg(feature = "legacy")]
use crate::legacy::LegacyBuilder;
use crate::pool::{Pool, PoolOptions};
use crate::publisher::Publisher;
use crate::record::Recording;
use crate::subscriber::SubscriberBuilder;
use crate::tls::TlsOptions;
use crate::token::Token;

/// How events may be compressed on their way from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Known to every implementation of gRPC.
    Gzip,
    /// Smaller, and a third of the work.
    Zstd,
}

/// The metadata key by which a caller asks for compression.
const ASKED_COMPRESSION: &str = "longlived-compression";

impl Compression {
    /// As gRPC names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Asks for it in a request. That it is accepted as well, the call says.
    pub(crate) fn ask(self, metadata: &mut MetadataMap) {
        metadata.insert(ASKED_COMPRESSION, MetadataValue::from_static(self.as_str()));
    }

    pub(crate) fn encoding(self) -> CompressionEncoding {
        match self {
            Self::Gzip => CompressionEncoding::Gzip,
            Self::Zstd => CompressionEncoding::Zstd,
        }
    }
}

/// The server's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{url}` is not a server address: {reason}; a server is given as http://HOST:PORT or unix:PATH"
)]
pub struct UrlError {
    /// The given address.
    pub url: String,
    /// The mistake in it, such as a path.
    pub reason: String,
}

/// One server, reached over shared connections. Cheap to clone.
///
/// ```
/// use longlived_client::{Client, Item};
/// use tokio_stream::StreamExt as _;
///
/// # use longlived_server::{Config, Environment, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = Config { listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..Config::default() };
/// # let server = Server::bind(config, Environment::system()).await?;
/// # let url = format!("http://{}", server.local_addr());
/// # tokio::spawn(server.run(std::future::pending()));
/// // For example "http://127.0.0.1:7070".
/// let client = Client::new(url)?;
/// client.publisher().publish(("orders.eu", "42 boxes")).await?;
///
/// let mut orders = client.subscriber("billing-1").filter("orders.>").earliest().build()?;
/// while let Some(item) = orders.next().await {
///     match item? {
///         Item::Event(event) => {
///             println!("{} {:?}", event.topic, event.payload);
/// #           assert_eq!(event.payload, "42 boxes");
///             break;
///         }
///         Item::Gap(gap) => eprintln!("missing: {gap}"),
///         Item::Violation(violation) => eprintln!("the server broke its promise: {violation}"),
///         Item::Notice(notice) => eprintln!("{notice}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// Read by everything that came from one client.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) credentials: Credentials,
    pub(crate) backoff: BackoffOptions,
    pub(crate) open_timeout: Duration,
    pub(crate) compression: Option<Compression>,
    pub(crate) identity: Identity,
    pub(crate) recording: Option<Recording>,
    /// Gives each subscriber and publisher a generator of its own, so that a seeded run repeats in any order of their
    /// waits.
    seeds: Mutex<SmallRng>,
}

impl Shared {
    /// What may help against a refused credential, when a fresh one was tried already or not.
    pub(crate) fn remedy(&self, tried: bool) -> Remedy {
        match self.credentials.remedy() {
            Remedy::Asking if tried => Remedy::Nothing,
            remedy => remedy,
        }
    }

    pub(crate) fn rng(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.seeds.lock().random())
    }
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:7070`, `https://example.net:7443` or
    /// `unix:/run/longlived.sock`. Nothing is dialled yet.
    pub fn new(url: impl Into<String>) -> Result<Self, UrlError> {
        Self::builder(url).build()
    }

    /// A client with settings of its own.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            pool: PoolOptions::default(),
            connector: None,
            tls: None,
            backoff: BackoffOptions::default(),
            open_timeout: Duration::from_secs(10),
            compression: None,
            credentials: Credentials::none(),
            seed: None,
            instance: None,
            recording: None,
        }
    }

    /// Begins a subscription of contract `longlived.v1` under the subscriber id `id`.
    pub fn subscriber(&self, id: impl Into<String>) -> SubscriberBuilder {
        SubscriberBuilder::new(self.clone(), id.into())
    }

    /// Begins a subscription of the frozen contract `protos.Longlived`.
    #[cfg(feature = "legacy")]
    pub fn legacy_subscriber(&self, id: i32) -> LegacyBuilder {
        LegacyBuilder::new(self.clone(), id)
    }

    /// Publishes over the connection kept for single calls.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.clone())
    }

    /// The server's address as it was given.
    pub fn url(&self) -> &str {
        self.shared.pool.url()
    }
}

/// Settings of a [`Client`].
#[derive(Debug)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    pool: PoolOptions,
    connector: Option<Connector>,
    tls: Option<TlsOptions>,
    backoff: BackoffOptions,
    open_timeout: Duration,
    compression: Option<Compression>,
    credentials: Credentials,
    seed: Option<u64>,
    instance: Option<u64>,
    recording: Option<Recording>,
}

impl ClientBuilder {
    /// How many connections subscribers share, 1 unless told; one per 100 subscribers is a good number. Streams that
    /// publish share as many others, so that they never wait for subscribers.
    /// Single calls have a connection beside them.
    pub fn connections(mut self, connections: usize) -> Self {
        self.pool.connections = connections.max(1);
        self
    }

    /// How long a dial may take, 5 s unless told.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.pool.connect_timeout = timeout;
        self
    }

    /// Makes connections by `dial`, which is given the server's address, instead of by TCP: for a proxy of one's
    /// own, a pipe, or a simulated network. The connect timeout and HTTP/2's keepalive hold as for TCP; keepalive of
    /// the socket itself is the dialler's matter.
    pub fn connector<F, Fut, S>(mut self, dial: F) -> Self
    where
        F: Fn(Uri) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connector = Some(Connector::new(dial));
        self
    }

    /// Whose certificates are trusted, and for which name, where the address begins with `https://`. With another address
    /// [`Self::build`] fails: what was to be encrypted is not sent in the clear.
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    /// How long a stream may take from its request to its first response, 10 s unless told.
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Asks the server to compress large events toward this client's subscribers, of both contracts. Nothing is
    /// compressed without this call. The request carries the metadata key `longlived-compression`; a server that does
    /// not know the key or the encoding sends events as they are. Worth it where the network is narrow: decompressing
    /// costs this program more than reading would. The largest event that a subscriber takes
    /// ([`SubscriberBuilder::max_event_bytes`]) is counted decompressed.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// HTTP/2 keepalive: a ping every `interval`, and the connection is dead `timeout` after one that is not
    /// answered. 20 s and 10 s unless told. Streams of the frozen contract rely on TCP's keepalive with the
    /// same numbers.
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.pool.keepalive_interval = interval;
        self.pool.keepalive_timeout = timeout;
        self
    }

    /// The waits between attempts to come back: how far the next may lie depends on how long the client has been away
    /// (full jitter).
    pub fn backoff(mut self, backoff: BackoffOptions) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sends this bearer token with every call, of both contracts, and that of health. A token of a file is also the one
    /// to choose where tokens end: a subscriber reads the file again when the server says that the token ends soon,
    /// and opens a second stream with the fresh one before it leaves the first. When the server refuses it, a subscriber
    /// backs off and comes back with what is in the file then; a token that is no file's ends it with
    /// [`SubscribeError::Unauthenticated`](crate::SubscribeError::Unauthenticated).
    pub fn token(mut self, token: Token) -> Self {
        self.credentials = Credentials::token(token);
        self
    }

    /// Sends the token of `provider` as a bearer credential, instead of [`Self::token`]. It is asked when the first call is
    /// made, again when the server says that the token ends soon, and again when the server refuses the token.
    pub fn credentials<F, Fut, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.credentials = Credentials::provided(provider);
        self
    }

    /// Draws every random number from this seed, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The number that names this run of the program; drawn once per process unless told. Another program
    /// with the same number and the same subscriber ids would not be seen as another.
    pub fn instance(mut self, instance: u64) -> Self {
        self.instance = Some(instance);
        self
    }

    /// Takes down every publish and every stream of contract `longlived.v1`.
    #[cfg(feature = "record")]
    pub fn recording(mut self, recording: Recording) -> Self {
        self.recording = Some(recording);
        self
    }

    /// The client. It dials when it is first used.
    pub fn build(self) -> Result<Client, UrlError> {
        let identity = match self.instance {
            Some(instance) => Identity::of(instance),
            None => Identity::of_process(),
        };
        let seeds = match self.seed {
            Some(seed) => SmallRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        Ok(Client {
            shared: Arc::new(Shared {
                pool: Pool::new(self.url, self.pool, self.connector, self.tls)?,
                credentials: self.credentials,
                backoff: self.backoff,
                open_timeout: self.open_timeout,
                compression: self.compression,
                identity,
                recording: self.recording,
                seeds: Mutex::new(seeds),
            }),
        })
    }
}

/// The identity of this run of the program, and the number of streams that it has asked for.
///
/// Attempts are counted per instance and not per subscriber. A program may drop a subscriber and make another with the
/// same id; its attempts must go on rising, or the server would refuse it as the older one.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) instance: u64,
    attempts: Arc<AtomicU64>,
}

impl Identity {
    fn of(instance: u64) -> Self {
        Self {
            instance,
            attempts: Arc::new(AtomicU64::new(0)),
        }
    }

    fn of_process() -> Self {
        static PROCESS: OnceLock<Identity> = OnceLock::new();
        PROCESS
            // 0 would mean unknown.
            .get_or_init(|| Self::of(rand::random_range(1..=u64::MAX)))
            .clone()
    }

    pub(crate) fn next_attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed) + 1
    }
}
