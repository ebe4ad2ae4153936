//! The flags of `longlived bench storm`, and its limits.
//!
//! Holds: the defaults depend on the subscribers that come back, those of the load generator or of the client library.

use std::time::Duration;

use clap::error::ErrorKind;
use longlived_console::values;

use super::common::{CommonArgs, length, window};
use super::security::{AuthKind, SecurityArgs};

/// Subscribers of a connection whose requests, position included, fit the window that every server begins with.
const STREAMS_MAX: u32 = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct StormArgs {
    /// Connections, all lost together [default: 10000; with --library: 1000]
    #[arg(long, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) connections: Option<u32>,
    /// Subscribers on each connection [default: 1; with --library: 100]
    #[arg(long, value_parser = values::number(1_u32..=STREAMS_MAX))]
    pub(crate) streams: Option<u32>,
    /// Subscribers of the client library, which back off, instead of the load generator, which does not
    #[arg(long)]
    pub(crate) library: bool,
    /// How long after the kill the server is started again; at the earliest when the killed one is gone
    /// [default: 0s; with --library: 2s]
    #[arg(long, value_parser = length)]
    pub(crate) down: Option<Duration>,
    /// Messages published to all before the kill, and again when all are back
    #[arg(long, default_value_t = 3, value_parser = values::number(1_u32..=10_000))]
    pub(crate) messages: u32,
    /// All are to be back so long after the server listens again [default: 5s with one stream a connection, 60s with
    /// more; with --library: 30s]
    #[arg(long, value_parser = window)]
    pub(crate) limit: Option<Duration>,
    /// And 99 % of them so long after [default: none; with --library: 15s]
    #[arg(long, value_parser = window)]
    pub(crate) limit_p99: Option<Duration>,
    /// Give up waiting so long after the kill
    #[arg(long, default_value = "2min", value_parser = window)]
    pub(crate) timeout: Duration,
    /// Rest of the server, all being back and nothing happening, before its memory is read
    #[arg(long, default_value = "5s", value_parser = length)]
    pub(crate) rest: Duration,
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

/// A storm with nothing left open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StormLoad {
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) down: Duration,
    pub(crate) limit: Duration,
    pub(crate) limit_p99: Option<Duration>,
}

impl StormArgs {
    pub(crate) fn load(&self) -> Result<StormLoad, clap::Error> {
        let wrong = |kind, text: &str| Err(clap::Error::raw(kind, text));
        if self.common.server.is_some() {
            return wrong(
                ErrorKind::ArgumentConflict,
                "the server is killed and started again, so it must be one that `bench storm` starts: leave out \
                 --server",
            );
        }
        if self
            .common
            .server_args
            .iter()
            .any(|arg| arg.split('=').next().is_some_and(|name| name == "--listen"))
        {
            return wrong(
                ErrorKind::ArgumentConflict,
                "the port is chosen by `bench storm`, which starts the server on it twice: leave out --listen",
            );
        }
        if self.library && self.security.auth == Some(AuthKind::Es256) {
            return wrong(
                ErrorKind::ArgumentConflict,
                "a client of the library sends one token for all its subscribers: `--library` goes with `--auth static`",
            );
        }
        let seconds = Duration::from_secs;
        let (connections, streams, down, limit_p99) = if self.library {
            (1_000, 100, seconds(2), Some(seconds(15)))
        } else {
            (10_000, 1, seconds(0), None)
        };
        let streams = self.streams.unwrap_or(streams);
        let limit = match (self.library, streams) {
            (true, _) => 30,
            (false, 1) => 5,
            (false, _) => 60,
        };
        let load = StormLoad {
            connections: self.connections.unwrap_or(connections),
            streams,
            down: self.down.unwrap_or(down),
            limit: self.limit.unwrap_or(seconds(limit)),
            limit_p99: self.limit_p99.or(limit_p99),
        };
        if load.down + load.limit > self.timeout {
            return wrong(
                ErrorKind::ValueValidation,
                "--timeout is over before --limit can be missed: it counts from the kill and must hold --down and \
                 --limit",
            );
        }
        Ok(load)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        storm: StormArgs,
    }

    fn load(flags: &[&str]) -> Result<StormLoad, clap::Error> {
        let words = ["storm"].iter().chain(flags);
        Cli::try_parse_from(words)?.storm.load()
    }

    #[test]
    fn defaults_depend_on_the_subscribers_that_come_back() {
        let sockets = load(&[]).unwrap();
        assert_eq!((sockets.connections, sockets.streams), (10_000, 1));
        assert_eq!(
            (sockets.limit, sockets.limit_p99),
            (Duration::from_secs(5), None)
        );
        let many = load(&["--streams", "100"]).unwrap();
        assert_eq!(
            (many.connections, many.limit),
            (10_000, Duration::from_secs(60))
        );
        let library = load(&["--library"]).unwrap();
        assert_eq!((library.connections, library.streams), (1_000, 100));
        assert_eq!(library.down, Duration::from_secs(2));
        assert_eq!(library.limit, Duration::from_secs(30));
        assert_eq!(library.limit_p99, Some(Duration::from_secs(15)));
        let own = load(&[
            "--library",
            "--down",
            "1s",
            "--limit",
            "7s",
            "--limit-p99",
            "4s",
        ])
        .unwrap();
        assert_eq!(own.down, Duration::from_secs(1));
        assert_eq!(own.limit, Duration::from_secs(7));
        assert_eq!(own.limit_p99, Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_server_that_cannot_be_killed_or_moved_is_refused() {
        for (flags, named) in [
            (&["--server", "http://127.0.0.1:1"][..], "--server"),
            (&["--server-arg", "--listen=127.0.0.1:1"], "--listen"),
            (&["--timeout", "3s"], "--timeout"),
            (&["--streams", "501"], "--streams"),
            (&["--connections", "0"], "--connections"),
            (&["--limit", "1ms"], "--limit"),
            (&["--messages", "0"], "--messages"),
            (&["--library", "--auth", "es256"], "--auth static"),
        ] {
            let error = load(flags).unwrap_err().to_string();
            assert!(error.contains(named), "{flags:?}: {error}");
        }
    }
}
