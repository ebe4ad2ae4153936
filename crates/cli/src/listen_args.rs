//! Where `longlived serve` listens: an address, or a name that stands for one or several.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use anyhow::Context as _;

const FORM: &str =
    "must be ADDRESS:PORT or NAME:PORT, such as 127.0.0.1:7070, [::]:7070 or localhost:7070";

/// An address of this machine, for flags that take no name.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let form = "must be ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464";
    text.parse().map_err(|_| with_port(text, form))
}

/// The form; for a bare port its mistake is named first.
fn with_port(text: &str, form: &str) -> String {
    let port = text.rsplit_once(':').map_or("", |(_, port)| port);
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && port.parse::<u16>().is_err() {
        format!("its port {port} is not from 0 to 65535; {form}")
    } else {
        form.to_owned()
    }
}

/// As it was given. A name is looked up when it is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt {
    Address(SocketAddr),
    Name { name: String, port: u16 },
}

impl FromStr for ListenAt {
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

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

impl ListenAt {
    /// Each address once, in the order of the system's resolver; at least one.
    pub(crate) fn addresses(&self) -> anyhow::Result<(SocketAddr, Vec<SocketAddr>)> {
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
        let Some((first, others)) = addresses.split_first() else {
            anyhow::bail!("--listen: `{name}` has no address");
        };
        Ok((*first, others.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_or_a_name_has_a_port() {
        for text in [
            "127.0.0.1:7070",
            "[::1]:0",
            "localhost:7070",
            "node-1.example:1",
        ] {
            let parsed = text.parse::<ListenAt>().unwrap();
            assert_eq!(parsed.to_string(), text);
        }
        for wrong in [
            "",
            "nonsense",
            "127.0.0.1",
            "300.0.0.1:7070",
            "::1:7070",
            "[::1",
            ":7070",
            "*:7070",
            "localhost:",
            "localhost:http",
            "http://localhost:7070",
            "a b:7070",
        ] {
            assert_eq!(wrong.parse::<ListenAt>(), Err(FORM.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_named_before_the_form() {
        for (wrong, port) in [
            ("127.0.0.1:99999", "99999"),
            ("localhost:65536", "65536"),
            ("[::1]:123456789012345678901", "123456789012345678901"),
        ] {
            let problem = format!("its port {port} is not from 0 to 65535; must be ADDRESS:PORT");
            let error = wrong.parse::<ListenAt>().unwrap_err();
            assert!(error.starts_with(&problem), "{error}");
            let error = address(wrong).unwrap_err();
            assert!(error.starts_with(&problem), "{error}");
        }
    }

    #[test]
    fn an_address_is_its_own() {
        let at: ListenAt = "127.0.0.1:7070".parse().unwrap();
        let (first, others) = at.addresses().unwrap();
        assert_eq!(first.to_string(), "127.0.0.1:7070");
        assert!(others.is_empty());
    }
}
