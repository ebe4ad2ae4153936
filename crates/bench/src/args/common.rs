//! The flags that every measurement has, and the values that several of them are given.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use longlived_console::server_url::{self, server_url};
use longlived_console::values;
use serde::{Deserialize, Serialize};

/// Cores that an affinity mask can name.
const CORES_MAX: usize = 1024;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CommonArgs {
    /// A server that runs already, instead of one started for each run
    #[arg(long, value_name = "URL", value_parser = server_at)]
    pub(crate) server: Option<ServerAt>,
    /// Its process, to read CPU time and memory from
    #[arg(
        long,
        value_name = "PID",
        requires = "server",
        value_parser = values::number(1_i32..=i32::MAX)
    )]
    pub(crate) server_pid: Option<i32>,
    /// One more argument for the server that is started (repeatable)
    #[arg(
        long = "server-arg",
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "server"
    )]
    pub(crate) server_args: Vec<String>,
    /// Cores for the server: a list such as 0 or 0,2-3, or `any` [default: the first]
    #[arg(long, value_name = "CORES")]
    pub(crate) server_cores: Option<CoreList>,
    /// Cores for the load: the same [default: all but the first]
    #[arg(long, value_name = "CORES")]
    pub(crate) load_cores: Option<CoreList>,
    /// Load processes; 0 = as few as the limit of open files allows
    #[arg(long, default_value_t = 0, value_parser = values::number(0_u32..=u32::MAX))]
    pub(crate) load_processes: u32,
    /// Give up connecting after this
    #[arg(long, default_value = "60s", value_parser = length)]
    pub(crate) connect_timeout: Duration,
    /// HTTP/2 window of each stream that the load announces, in bytes
    #[arg(long, default_value_t = 1 << 20, value_parser = values::number(65_535_u32..=(1 << 31) - 1))]
    pub(crate) stream_window: u32,
    /// HTTP/2 window of each connection that the load announces, in bytes
    #[arg(long, default_value_t = 16 << 20, value_parser = values::number(65_535_u32..=(1 << 31) - 1))]
    pub(crate) connection_window: u32,
    /// Repeat the whole measurement and show medians
    #[arg(long, default_value_t = 1, value_parser = values::number(1_u32..=u32::MAX))]
    pub(crate) runs: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// Cores by number; `any` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreList(pub(crate) Option<Vec<usize>>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(flag: &str) -> Result<Self, String> {
        if flag == "any" {
            return Ok(Self(None));
        }
        let mut cores = Vec::new();
        for part in flag.split(',') {
            let (first, end) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(end)) = (first.parse::<usize>(), end.parse()) else {
                return Err("cores are given as 0 or 0,2-3, or `any`".to_owned());
            };
            if first > end {
                return Err(format!("`{part}` ends before it begins"));
            }
            if end >= CORES_MAX {
                return Err(format!("core {end}: at most {CORES_MAX} can be named"));
            }
            cores.extend(first..=end);
        }
        Ok(Self(Some(cores)))
    }
}

/// The longest that a measurement, or a part of one, may take.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// In less than this nothing is measured.
const WINDOW_MIN: Duration = Duration::from_millis(100);

/// A length of time, which may be none.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    values::duration_within(text, Duration::ZERO..=LENGTH_MAX)
}

/// A length of time in which something can happen.
pub(crate) fn window(text: &str) -> Result<Duration, String> {
    values::duration_within(text, WINDOW_MIN..=LENGTH_MAX)
}

/// The place of a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAt {
    /// HOST:PORT.
    pub(crate) authority: String,
    pub(crate) over_tls: bool,
}

impl ServerAt {
    /// As a certificate has it: an IP address of version 6 without its brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map(|(host, _)| host);
        let host = host.unwrap_or(&self.authority);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Its address, for which its name is looked up.
    pub(crate) fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let authority = &self.authority;
        let mut addresses = authority
            .to_socket_addrs()
            .with_context(|| format!("finding `{authority}`"))?;
        addresses
            .next()
            .with_context(|| format!("`{authority}` has no address"))
    }
}

/// The place that a URL names.
fn server_at(url: &str) -> Result<ServerAt, String> {
    let url = server_url(url)?;
    if url.starts_with("unix:") {
        return Err("the load speaks TCP alone: HOST:PORT or http://HOST:PORT".to_owned());
    }
    let over_tls = url.starts_with("https:");
    let authority = url.split_once("://").map(|(_, rest)| rest);
    let authority = authority.map(|rest| rest.trim_end_matches('/'));
    match authority.and_then(|authority| authority.rsplit_once(':')) {
        Some((host, port)) if port.parse::<u16>().is_ok() => Ok(ServerAt {
            authority: format!("{host}:{port}"),
            over_tls,
        }),
        _ => Err(format!("it has no port; {}", server_url::FORM)),
    }
}

/// The content of a message's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadKind {
    Dots,
    Json,
}

/// The filters of subscribers and the topics of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topics {
    /// One topic that all follow
    #[value(name = "1")]
    #[serde(rename = "1")]
    One,
    /// Each its own inbox
    Inbox,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_limit() {
        assert_eq!(length("24h"), Ok(LENGTH_MAX));
        assert_eq!(length("0s"), Ok(Duration::ZERO));
        let error = length("1000000000000s").unwrap_err();
        assert!(error.contains("from 0s to 24h"), "{error}");
        let error = window("99ms").unwrap_err();
        assert!(error.contains("from 100ms to 24h"), "{error}");
    }

    #[test]
    fn lists_and_ranges_name_cores() {
        assert_eq!("0,2-3".parse(), Ok(CoreList(Some(vec![0, 2, 3]))));
        assert_eq!("any".parse(), Ok(CoreList(None)));
        for wrong in ["", "x", "3-1", "0,", "-1", "99999999"] {
            assert!(wrong.parse::<CoreList>().is_err(), "`{wrong}`");
        }
    }

    #[test]
    fn a_server_is_a_url_with_a_port() {
        for (url, authority, host, over_tls) in [
            (
                "http://127.0.0.1:7070/",
                "127.0.0.1:7070",
                "127.0.0.1",
                false,
            ),
            ("http://[::1]:7070", "[::1]:7070", "::1", false),
            ("localhost:7070", "localhost:7070", "localhost", false),
            ("https://a:1", "a:1", "a", true),
        ] {
            let at = server_at(url).unwrap();
            assert_eq!(
                (at.authority.as_str(), at.host(), at.over_tls),
                (authority, host, over_tls)
            );
        }
        for wrong in [
            "127.0.0.1",
            "http://a",
            "http://:1",
            "http://a:b",
            "http://[::1]",
            "http://a:1/b",
            "http://a?b:1",
            "http://b:c@a:1",
            "unix:/run/a:1",
        ] {
            assert!(server_at(wrong).is_err(), "{wrong}");
        }
    }
}
