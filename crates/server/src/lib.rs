//! The longlived node: it accepts connections, holds the live sessions of subscribers, and serves both wire
//! contracts over one log.
//!
//! The path of a call: `acceptor` -> `connection` (HTTP/2) -> `layers` -> `rpc` -> `session`, whose body
//! reads a cursor of the broker. [`Server`] owns it all and its drain. Which module may know which other one is a table in
//! `tests/tidy/stairs.rs` of the repository. With the feature `testkit` tests can drive these parts by
//! themselves; the feature `storage` hands on the module `storage` of the broker.
//!
//! ```
//! use longlived_server::{Config, Environment, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()],
//!     ..Config::default()
//! };
//! let server = Server::bind(config, Environment::system()).await?;
//! println!("listening on {}", server.local_addr());
//! // Here the stop signal comes at once; a real node waits for SIGTERM.
//! server.run(async {}).await?;
//! # Ok(())
//! # }
//! ```

// What only the module `testkit` hands out is `pub`, and reachable only where its feature is on.
#![cfg_attr(
    not(feature = "testkit"),
    allow(unreachable_pub, reason = "reachable with the feature")
)]

mod age;
mod callers;
mod config;
mod contract;
mod framing;
mod generator;
mod layers;
mod lifecycle;
mod limits;
mod metrics;
mod node;
mod probes;
mod rate;
mod registry;
mod reload;
mod rpc;
mod server;
mod session;
mod tasks;
mod throttle;
mod transport;

pub use config::{Config, GeneratorConfig, Insecure};
pub use contract::{InvalidRequest, NotGranted, SERVICES, legacy_topic, subscriber_id};
#[cfg(feature = "storage")]
pub use longlived_broker::storage;
pub use longlived_broker::{
    Compression, DedupeConfig, DiskConfig, Environment, HistoryClass, Limits, LogConfig, Message,
    OpenError, Store, StoreConfig,
};
pub use reload::ReloadHandle;
pub use server::{Exposed, ServeError, Server};
pub use transport::{
    bind::Listen,
    listener,
    open_files::OpenFiles,
    proxy::cidr::Cidr,
    services::Services,
    tls::{ClientCertificate, ClientFiles, TlsConfig, TlsError},
    unix::UnixSocket,
};

/// Parts of a node by themselves, for tests.
#[cfg(feature = "testkit")]
pub mod testkit {
    pub use crate::{
        layers::{CallRecord, Layers},
        lifecycle::Drain,
        limits::METRICS_HEAD_BYTES_MAX,
        tasks::{AbortOnDrop, Tasks},
        transport::{
            abort::StreamAbort, acceptor, bind::bind, connection, connection_counts, proxy,
        },
    };
}
