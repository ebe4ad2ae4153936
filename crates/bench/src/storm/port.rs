//! A port for a server that is to be found on it again.
//!
//! Holds: it lies outside the range from which connecting sockets are given theirs. Inside it, one of the thousands
//! that dial while the server is away could be given just this port: its connection would then be to itself, and the
//! server could not have its port back.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context as _, bail};

/// Below are ports that other servers are known by.
const LOWEST: u16 = 10_000;
const ATTEMPTS: u32 = 100;

/// One that is free now.
pub(super) fn choose() -> anyhow::Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .context("reading which ports connecting sockets are given")?;
    let outside = outside(&range).context("ip_local_port_range leaves no port for a server")?;
    for _ in 0..ATTEMPTS {
        let port = rand::random_range(outside.clone());
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port among {outside:?}");
}

/// The larger part outside a range such as `32768 60999`.
fn outside(range: &str) -> Option<Range<u16>> {
    let mut ends = range.split_whitespace().map(str::parse);
    let (first, last): (u16, u16) = (ends.next()?.ok()?, ends.next()?.ok()?);
    let below = LOWEST..first;
    let above = last.saturating_add(1).max(LOWEST)..u16::MAX;
    [below, above]
        .into_iter()
        .max_by_key(Range::len)
        .filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_never_one_that_a_connecting_socket_is_given() {
        assert_eq!(outside("32768\t60999\n"), Some(10_000..32_768));
        assert_eq!(outside("1024 30000"), Some(30_001..65_535));
        assert_eq!(outside("1024 65535"), None);
        assert_eq!(outside("many"), None);
        assert!(choose().is_ok());
    }
}
