//! The host and the port of a listener: an address, or a name with several.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use anyhow::Context as _;

use super::FORM;

/// As it was given. A name is looked up when it is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(SocketAddr),
    Name { name: String, port: u16 },
}

/// The form; for a bare port its mistake is named first.
pub(super) fn with_port(text: &str, form: &str) -> String {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && port.parse::<u16>().is_err() {
        format!("its port {port} is not from 0 to 65535; {form}")
    } else {
        form.to_owned()
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let wrong = || with_port(text, FORM);
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        // A text of digits and dots alone is an address with a mistake in it, and no name of a machine.
        let is_name = name.chars().any(|c| c.is_ascii_alphabetic()) && name.chars().all(of_a_name);
        if !is_name {
            return Err(wrong());
        }
        let name = name.to_owned();
        Ok(Self::Name { name, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl Host {
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// Each address once, in the order of the system's resolver; at least one.
    pub(super) fn addresses(&self) -> anyhow::Result<(SocketAddr, Vec<SocketAddr>)> {
        let (name, port) = match self {
            Self::Address(address) => return Ok((*address, Vec::new())),
            Self::Name { name, port } => (name.as_str(), *port),
        };
        let found = (name, port).to_socket_addrs();
        let found = found.with_context(|| format!("--listen: `{name}` has no address"))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let Some((first, also)) = addresses.split_first() else {
            anyhow::bail!("--listen: `{name}` has no address");
        };
        Ok((*first, also.to_vec()))
    }
}
