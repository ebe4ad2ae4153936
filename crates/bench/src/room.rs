//! What the machine has room for: open files, TCP memory and ports, against what a number of connections takes.
//!
//! Holds: a load that cannot fit is refused before its first connection, with each limit that is in its way.
//! Does not: change a limit; the operator of the machine does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use longlived_server::OpenFiles;
use procfs::process::{LimitValue, Process};
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::args::CommonArgs;
use super::figures::grouped;

/// Where the kernel says from which ports a connecting socket is given its own.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Where the kernel says how many pages all TCP sockets together may hold: low, pressure, high (tcp(7)).
const TCP_MEMORY: &str = "/proc/sys/net/ipv4/tcp_mem";
/// Connections from one address of this machine leave one port in this many free: the kernel looks for a free one in
/// turn, which takes long among the last ones.
const PORTS_FREE_ONE_IN: u32 = 4;

/// What is there for a load. A limit that cannot be read, or is another machine's, is `None`.
#[derive(Debug)]
pub(super) struct Room {
    connections: u32,
    /// Open files of the server's process.
    server_files: Option<u64>,
    /// Open files of all processes: open, and allowed.
    all_files: Option<(u64, u64)>,
    /// This process may open files beyond that.
    is_root: bool,
    /// Ends of a connection on this machine.
    ends: u64,
    /// Pages.
    tcp_memory: Option<u64>,
    /// Ports of one address.
    ports: Option<u32>,
    /// The load connects from as many local addresses as its ports need.
    spreads: bool,
}

impl Room {
    /// For that many connections to the server that is asked for, of a load whose connections may come from several local
    /// addresses.
    pub(super) fn of(args: &CommonArgs, connections: u32) -> anyhow::Result<Self> {
        let (server, pid) = match &args.server {
            Some(server) => (server.resolve()?, args.server_pid),
            // The server that is started here has the limits of this process.
            None => (
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                Some(i32::try_from(std::process::id()).context("the number of this process")?),
            ),
        };
        let is_here = pid.is_some() || server.ip().to_canonical().is_loopback();
        let files = procfs::sys::fs::file_nr().ok();
        Ok(Self {
            connections,
            server_files: pid.and_then(files_of),
            all_files: files.map(|files| (files.allocated, files.max)),
            is_root: rustix::process::geteuid().is_root(),
            ends: if is_here { 2 } else { 1 },
            tcp_memory: numbers_in(TCP_MEMORY).and_then(|pages| pages.get(2).copied()),
            ports: ports(),
            spreads: is_spread(server.ip()),
        })
    }

    /// The same for a load that leaves local addresses to the kernel.
    pub(super) fn with_one_address(mut self) -> Self {
        self.spreads = false;
        self
    }

    /// An error that shows the limits, if these connections cannot stay within them.
    pub(super) fn ensure(&self) -> anyhow::Result<()> {
        let fits = !self.lines().iter().any(|line| line.refuses);
        ensure!(fits, "this machine has no room for {self}");
        Ok(())
    }

    fn lines(&self) -> [Line; 4] {
        let connections = u64::from(self.connections);
        // The server leaves some to its store.
        let files = self.server_files.map(OpenFiles::limited);
        let files = files.map(|files| files.connections_max(usize::MAX) as u64);
        let files_limit = self
            .server_files
            .map_or(String::new(), |files| format!(" {}", grouped(files as f64)));
        let all_files = self.all_files;
        let all_files = all_files.map(|(open, max)| max.saturating_sub(open));
        let addresses = match self.ports {
            Some(ports) if self.spreads => u64::from(self.connections.div_ceil(ports_used(ports))),
            _ => 1,
        };
        [
            Line::new(
                "connections of the server",
                connections,
                files,
                format!("RLIMIT_NOFILE{files_limit}: `ulimit -Hn`, or systemd's LimitNOFILE"),
            ),
            Line {
                // It does not hold for a process with CAP_SYS_ADMIN.
                refuses: !self.is_root
                    && all_files.is_some_and(|there| connections * self.ends > there),
                ..Line::new(
                    "open files of all processes",
                    connections * self.ends,
                    all_files,
                    "fs.file-max less those open now".to_owned(),
                )
            },
            Line {
                // Connections that open one after the other stay below it: what it does is slow them down.
                refuses: false,
                ..Line::new(
                    "pages of TCP memory, if all open at once",
                    connections * self.ends,
                    self.tcp_memory,
                    "net.ipv4.tcp_mem, the third number; above it the kernel drops segments"
                        .to_owned(),
                )
            },
            Line::new(
                &format!("ports, of {addresses} local {}", plural(addresses)),
                connections,
                self.ports.map(|ports| u64::from(ports) * addresses),
                "net.ipv4.ip_local_port_range".to_owned(),
            ),
        ]
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = grouped(f64::from(self.connections));
        write!(f, "{connections} connections:")?;
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
    there: Option<u64>,
    /// Its name, and where it is set.
    limit: String,
    /// A load that needs more than there is cannot run.
    refuses: bool,
}

impl Line {
    fn new(what: &str, needed: u64, there: Option<u64>, limit: String) -> Self {
        Self {
            what: what.to_owned(),
            needed,
            there,
            limit,
            refuses: there.is_some_and(|there| needed > there),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, .. } = self;
        let needed = grouped(self.needed as f64);
        let Some(there) = self.there else {
            return write!(
                f,
                "  {what}: {needed}; how many there are is not known ({limit})"
            );
        };
        let short = if self.needed > there {
            ": NOT ENOUGH"
        } else {
            ""
        };
        let there = grouped(there as f64);
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

/// The local addresses of a load that needs more ports than one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalAddresses {
    first: Ipv4Addr,
    connections_each: u32,
}

impl LocalAddresses {
    /// For a server on 127.0.0.0/8, every address of which is this machine's. `None` leaves it to the kernel.
    ///
    /// Each run begins at an address of its own: for a minute the ports of the run before are not free (TIME_WAIT).
    pub(super) fn of(server: IpAddr, connections: u32) -> Option<Self> {
        let connections_each = ports_used(ports()?);
        let is_needed = is_spread(server) && connections > connections_each;
        is_needed.then(|| Self {
            // The lower half, so that those after it are 127.0.0.0/8 too.
            first: Ipv4Addr::from(
                u32::from(Ipv4Addr::LOCALHOST) + rand::rng().random_range(0..1 << 23),
            ),
            connections_each,
        })
    }

    /// Of the connection with this number.
    pub(crate) fn address(self, number: u64) -> Ipv4Addr {
        let index = u32::try_from(number / u64::from(self.connections_each)).unwrap_or(u32::MAX);
        Ipv4Addr::from(u32::from(self.first).saturating_add(index))
    }
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

fn numbers_in(file: &str) -> Option<Vec<u64>> {
    let text = std::fs::read_to_string(file).ok()?;
    let numbers = text.split_ascii_whitespace().map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(connections: u32) -> Room {
        Room {
            connections,
            server_files: Some(20_000),
            all_files: Some((1_000, 50_000)),
            is_root: false,
            ends: 2,
            tcp_memory: Some(500_000),
            ports: Some(28_232),
            spreads: true,
        }
    }

    #[test]
    fn what_fits_is_shown_and_not_refused() {
        let room = room(10_000);
        room.ensure().unwrap();
        let shown = room.to_string();
        assert_eq!(shown.lines().count(), 5, "{shown}");
        assert!(!shown.contains("NOT ENOUGH"), "{shown}");
        assert!(shown.contains("20,000 of 49,000"), "{shown}");
    }

    #[test]
    fn a_million_connections_name_each_limit() {
        let error = room(1_000_000).ensure().unwrap_err().to_string();
        for part in [
            "1,000,000 connections",
            "RLIMIT_NOFILE 20,000",
            "1,000,000 of 15,904",
            "fs.file-max",
            "2,000,000 of 49,000",
            "2,000,000 of 500,000",
            // 21,174 ports of each are used.
            "of 48 local addresses",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(error.matches("NOT ENOUGH").count(), 3, "{error}");
    }

    #[test]
    fn what_slows_down_or_does_not_hold_for_this_user_refuses_nothing() {
        let mut room = room(26_000);
        room.server_files = Some(1 << 20);
        room.tcp_memory = Some(1_000);
        assert!(room.ensure().is_err(), "files of all processes");
        room.is_root = true;
        room.ensure().unwrap();
        assert_eq!(room.to_string().matches("NOT ENOUGH").count(), 2);
    }

    #[test]
    fn a_limit_that_is_not_known_is_named() {
        let mut room = room(10_000);
        room.server_files = None;
        room.tcp_memory = None;
        room.ensure().unwrap();
        let shown = room.to_string();
        assert_eq!(shown.matches("is not known").count(), 2, "{shown}");
        assert!(shown.contains("net.ipv4.tcp_mem"), "{shown}");
    }

    #[test]
    fn with_one_address_the_ports_are_few() {
        let mut room = room(30_000).with_one_address();
        room.server_files = None;
        room.all_files = None;
        let error = room.ensure().unwrap_err().to_string();
        assert!(error.contains("30,000 of 28,232"), "{error}");
        for server in ["192.0.2.1", "::1"] {
            assert_eq!(LocalAddresses::of(server.parse().unwrap(), u32::MAX), None);
        }
    }

    #[test]
    fn local_addresses_follow_each_other() {
        let addresses = LocalAddresses {
            first: Ipv4Addr::LOCALHOST,
            connections_each: 10,
        };
        let addresses = [0, 9, 10, 2_549, 2_550].map(|number| addresses.address(number));
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
