//! The longlived node: it accepts connections, holds the live sessions of subscribers, and serves both wire
//! contracts over one log.
//!
//! The path of a call: [`acceptor`] -> [`connection`] (HTTP/2) -> [`layers`] -> `rpc` -> `session`, whose body
//! reads a cursor of the broker. [`Server`] owns it all and its drain.
//!
//! ```
//! use longlived_server::{Config, Environment, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config {
//!     listen: "127.0.0.1:0".parse()?,
//!     ..Config::default()
//! };
//! let server = Server::bind(config, Environment::system())?;
//! println!("listening on {}", server.local_addr());
//! // Here the stop signal comes at once; a real node waits for SIGTERM.
//! server.run(async {}).await?;
//! # Ok(())
//! # }
//! ```

pub mod acceptor;
mod config;
pub mod connection;
mod connection_counts;
mod generator;
pub mod layers;
pub mod lifecycle;
pub mod limits;
pub mod listener;
mod metrics;
mod node;
mod open_files;
mod probes;
mod registry;
mod rpc;
mod session;
pub mod tasks;

pub use config::{Config, GeneratorConfig};
pub use longlived_broker::{
    Compression, DedupeConfig, Environment, LogConfig, Message, TopicFilter, TopicName,
    frame::COMPRESSED_BYTES_MIN,
    store::{self, DiskConfig, HistoryClass, Store},
};
pub use node::{ServeError, Server};
pub use open_files::OpenFiles;
pub use rpc::{
    SERVICES,
    validate::{InvalidRequest, legacy_topic, subscriber_id},
};
