//! What the machine has room for: open files, TCP memory and ports, against what a number of connections takes.
//!
//! Holds: a load that cannot fit is refused before its first connection, with each limit that is in its way.
//! Does not: change a limit; the operator of the machine does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use longlived_server::OpenFiles;
use procfs::process::{LimitValue, Process};

use super::args::CommonArgs;
use super::figures::grouped;
use super::server::resolve;

/// Where the kernel says from which ports a connecting socket is given its own.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Where the kernel says how many pages all TCP sockets together may hold: low, pressure, high (tcp(7)).
const TCP_MEMORY: &str = "/proc/sys/net/ipv4/tcp_mem";
/// Pages of TCP memory of a connection while it opens: a request waits at one end, its answer at the other.
const PAGES_EACH: u64 = 2;
/// Connections from one address of this machine leave one port in this many free: the kernel looks for a free one in
/// turn, which takes long among the last ones.
const PORTS_FREE_ONE_IN: u32 = 4;

/// What is there for a load. A limit that cannot be read, or is another machine's, is `None`.
#[derive(Debug)]
pub(super) struct Room {
    connections: u32,
    /// Connections that the server's open files have room for.
    server_files: Option<Files>,
    /// Open files of all processes.
    all_files: Option<AllFiles>,
    /// Pages.
    tcp_memory: Option<u64>,
    /// Ports of one address.
    ports: Option<u32>,
    server: SocketAddr,
}

#[derive(Debug)]
struct Files {
    max: u64,
    connections: u64,
}

#[derive(Debug)]
struct AllFiles {
    open: u64,
    max: u64,
    /// Both ends of a connection are here, or one.
    ends: u64,
}

impl Room {
    /// For that many connections to the server that is asked for.
    pub(super) fn of(args: &CommonArgs, connections: u32) -> anyhow::Result<Self> {
        let (server, pid) = match &args.server {
            Some(authority) => (resolve(authority)?, args.server_pid),
            // The server that is started here has the limits of this process.
            None => (
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                Some(i32::try_from(std::process::id()).context("the number of this process")?),
            ),
        };
        let ends = if pid.is_some() || server.ip().is_loopback() {
            2
        } else {
            1
        };
        Ok(Self {
            connections,
            server_files: pid.and_then(files_of).map(|max| Files {
                max,
                connections: connections_within(max),
            }),
            all_files: procfs::sys::fs::file_nr().ok().map(|files| AllFiles {
                open: files.allocated,
                max: files.max,
                ends,
            }),
            tcp_memory: numbers_in(TCP_MEMORY).and_then(|pages| pages.get(2).copied()),
            ports: ports(),
            server,
        })
    }

    /// An error that names each limit that these connections cannot stay within.
    pub(super) fn ensure(&self) -> anyhow::Result<()> {
        let missing = self.lines().into_iter();
        let missing: Vec<_> = missing.filter(|line| line.refuses).collect();
        let lines: Vec<_> = missing.iter().map(ToString::to_string).collect();
        ensure!(
            lines.is_empty(),
            "this machine has no room for {} connections:\n{}",
            grouped(f64::from(self.connections)),
            lines.join("\n"),
        );
        Ok(())
    }

    fn lines(&self) -> Vec<Line> {
        let connections = u64::from(self.connections);
        let files = self.server_files.as_ref().map(|files| Line {
            refuses: connections > files.connections,
            needed: connections,
            there: files.connections,
            what: "connections of the server".to_owned(),
            limit: format!(
                "RLIMIT_NOFILE {}: `ulimit -Hn`, or systemd's LimitNOFILE",
                grouped(files.max as f64)
            ),
        });
        let all_files = self.all_files.as_ref().map(|files| Line {
            refuses: connections * files.ends > files.max.saturating_sub(files.open),
            needed: connections * files.ends,
            there: files.max.saturating_sub(files.open),
            what: "open files of all processes".to_owned(),
            limit: "fs.file-max less those open now".to_owned(),
        });
        let tcp_memory = self.tcp_memory.map(|pages| Line {
            // Connections that open one after the other stay below it: what it does is slow them down.
            refuses: false,
            needed: connections * PAGES_EACH,
            there: pages,
            what: "pages of TCP memory, if all open at once".to_owned(),
            limit: "net.ipv4.tcp_mem, the third number; above it the kernel drops segments"
                .to_owned(),
        });
        let ports = self.ports.map(|ports| {
            let addresses = if is_spread(self.server.ip()) {
                u64::from(self.connections.div_ceil(ports_used(ports)))
            } else {
                1
            };
            Line {
                refuses: !is_spread(self.server.ip()) && connections > ports.into(),
                needed: connections,
                there: u64::from(ports) * addresses,
                what: format!("ports, of {addresses} local {}", plural(addresses)),
                limit: "net.ipv4.ip_local_port_range".to_owned(),
            }
        });
        [files, all_files, tcp_memory, ports]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = grouped(f64::from(self.connections));
        write!(f, "{connections} connections on this machine:")?;
        self.lines()
            .iter()
            .try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// One limit.
#[derive(Debug)]
struct Line {
    what: String,
    needed: u64,
    there: u64,
    /// Its name, and where it is set.
    limit: String,
    /// Whether a load that needs more than there is cannot run.
    refuses: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [needed, there] = [self.needed, self.there].map(|number| grouped(number as f64));
        let short = if self.needed > self.there {
            ": NOT ENOUGH"
        } else {
            ""
        };
        let Self { what, limit, .. } = self;
        write!(f, "  {what}: {needed} of {there} ({limit}){short}")
    }
}

fn plural(addresses: u64) -> &'static str {
    if addresses == 1 {
        "address"
    } else {
        "addresses"
    }
}

/// Connections of one local address, where they must come from several: more than its ports hold, all to a server on
/// 127.0.0.0/8, every address of which is this machine's.
pub(super) fn connections_of_an_address(server: IpAddr, connections: u32) -> Option<u32> {
    let each = ports_used(ports()?);
    (is_spread(server) && connections > each).then_some(each)
}

/// The local address of connection `number`, where each has that many.
pub(super) fn local_address(number: u64, each: u32) -> Ipv4Addr {
    let index = u32::try_from(number / u64::from(each)).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST).saturating_add(index))
}

fn is_spread(server: IpAddr) -> bool {
    server.is_ipv4() && server.is_loopback()
}

fn ports_used(ports: u32) -> u32 {
    (ports - ports / PORTS_FREE_ONE_IN).max(1)
}

fn ports() -> Option<u32> {
    let range = numbers_in(PORT_RANGE)?;
    let [first, last] = range.try_into().ok()?;
    u32::try_from((last + 1).checked_sub(first)?).ok()
}

/// The hard limit, to which the server raises its own.
fn files_of(pid: i32) -> Option<u64> {
    let limits = Process::new(pid).and_then(|process| process.limits());
    match limits.ok()?.max_open_files.hard_limit {
        LimitValue::Unlimited => None,
        LimitValue::Value(files) => Some(files),
    }
}

/// The server leaves some to its store.
fn connections_within(files: u64) -> u64 {
    OpenFiles::limited(files).connections_max(usize::MAX) as u64
}

fn numbers_in(file: &str) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(file).ok()?;
    let numbers = text.split_ascii_whitespace().map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(server: &str, connections: u32) -> Room {
        Room {
            connections,
            server_files: Some(Files {
                max: 20_000,
                connections: 15_904,
            }),
            all_files: Some(AllFiles {
                open: 1_000,
                max: 50_000,
                ends: 2,
            }),
            tcp_memory: Some(500_000),
            ports: Some(28_232),
            server: server.parse().unwrap(),
        }
    }

    #[test]
    fn what_fits_is_shown_and_not_refused() {
        let room = room("127.0.0.1:7070", 10_000);
        room.ensure().unwrap();
        let shown = room.to_string();
        assert_eq!(shown.lines().count(), 5, "{shown}");
        assert!(!shown.contains("NOT ENOUGH"), "{shown}");
        assert!(shown.contains("20,000 of 49,000"), "{shown}");
    }

    #[test]
    fn a_million_connections_name_each_limit_in_their_way() {
        let error = room("127.0.0.1:7070", 1_000_000).ensure().unwrap_err();
        let error = error.to_string();
        for part in [
            "1,000,000 connections",
            "RLIMIT_NOFILE 20,000",
            "1,000,000 of 15,904",
            "fs.file-max",
            "2,000,000 of 49,000",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // 21,174 ports of each of 48 addresses.
        assert!(!error.contains("ip_local_port_range"), "{error}");
        // It slows down, and does not refuse.
        assert!(!error.contains("tcp_mem"), "{error}");
        let shown = room("127.0.0.1:7070", 1_000_000).to_string();
        assert!(shown.contains("of 48 local addresses"), "{shown}");
        assert_eq!(shown.matches("NOT ENOUGH").count(), 3, "{shown}");
    }

    #[test]
    fn a_server_elsewhere_is_reached_from_one_address() {
        for server in ["192.0.2.1:7070", "[::1]:7070"] {
            let mut room = room(server, 30_000);
            room.server_files = None;
            room.all_files = None;
            let error = room.ensure().unwrap_err().to_string();
            assert!(error.contains("30,000 of 28,232"), "{error}");
            assert!(error.contains("ip_local_port_range"), "{error}");
            assert_eq!(connections_of_an_address(room.server.ip(), u32::MAX), None);
        }
    }

    #[test]
    fn local_addresses_follow_each_other() {
        let addresses = [0, 9, 10, 2_549, 2_550].map(|number| local_address(number, 10));
        let expected = [
            "127.0.0.1",
            "127.0.0.1",
            "127.0.0.2",
            "127.0.0.255",
            "127.0.1.0",
        ];
        assert_eq!(addresses.map(|it| it.to_string()), expected);
    }
}
