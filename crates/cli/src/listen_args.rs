//! Where `longlived serve` listens: addresses and names of TCP, and Unix sockets, each with its parameters.

mod host;
mod parameters;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use longlived_server::{Cidr, ClientCertificate, Listen, Services, UnixSocket};

use self::host::Host;
use crate::values;

const FORM: &str = "must be ADDRESS:PORT or NAME:PORT, such as 127.0.0.1:7070, [::]:7070 or localhost:7070, or a URL, such as \
     tls://127.0.0.1:7443 or unix:/run/longlived.sock?mode=0660";

const NO_PROXY: &str = "its parameter `proxy` is for tcp and tls: the peer of a Unix socket is the one that the kernel names, \
     and no proxy may name another";

/// An address of this machine, for flags that take no name.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let form = "must be ADDRESS:PORT, such as 127.0.0.1:9464 or [::1]:9464";
    text.parse().map_err(|_| host::with_port(text, form))
}

/// One value of `--listen`: places, separated by blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenList(Vec<ListenAt>);

impl FromStr for ListenList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let texts: Vec<_> = text.split_ascii_whitespace().collect();
        let parse = |place: &&str| {
            let parsed = place.parse();
            // Of several it is said which one.
            parsed.map_err(|error: String| match texts.len() {
                1 => error,
                _ => format!("`{place}`: {error}"),
            })
        };
        let places: Vec<ListenAt> = texts.iter().map(parse).collect::<Result<_, _>>()?;
        if places.is_empty() {
            return Err(FORM.to_owned());
        }
        Ok(Self(places))
    }
}

impl ListenList {
    /// A place that is given more than once.
    pub(crate) fn repeated(lists: &[Self]) -> Option<String> {
        let places = lists.iter().flat_map(|list| &list.0);
        // Each asks for a port of its own.
        let places = places.filter(|place| !place.is_any_port());
        let texts: Vec<_> = places.map(ListenAt::place_text).collect();
        values::repeated(&texts).cloned()
    }

    /// The first that speaks TLS, as a URL.
    pub(crate) fn first_tls(lists: &[Self]) -> Option<String> {
        let mut places = lists.iter().flat_map(|list| &list.0);
        let tls = places.find(|place| matches!(place.at, At::Tls(..)));
        tls.map(ToString::to_string)
    }

    /// The first that asks clients for a certificate, as a URL.
    pub(crate) fn first_that_asks(lists: &[Self]) -> Option<String> {
        let mut places = lists.iter().flat_map(|list| &list.0);
        let asks = |place: &&ListenAt| match place.at {
            At::Tls(.., asked) => asked != ClientCertificate::None,
            At::Tcp(..) | At::Unix(_) => false,
        };
        places.find(asks).map(ToString::to_string)
    }

    /// The places of all values. Names are looked up here.
    pub(crate) fn places(lists: &[Self]) -> anyhow::Result<Vec<Listen>> {
        let places = lists.iter().flat_map(|list| &list.0);
        places.map(ListenAt::place).collect()
    }
}

/// As it was given. A name is looked up when it is to be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListenAt {
    at: At,
    services: Services,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Tcp(Host, Vec<Cidr>),
    Tls(Host, Vec<Cidr>, ClientCertificate),
    Unix(UnixSocket),
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = after_unix(text) {
            let (path, given) = parameters::split(rest);
            return unix(path, given);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.contains('?') {
                return Err(format!(
                    "parameters need a URL, such as unix:PATH?mode=0660; {FORM}"
                ));
            }
            return Ok(Self {
                at: At::Tcp(text.parse()?, Vec::new()),
                services: Services::All,
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        let (address, given) = parameters::split(rest);
        let (at, services) = match scheme.as_str() {
            "tcp" => {
                let [proxies, services] = parameters::known("tcp", given, ["proxy", "services"])?;
                let proxies = parameters::proxies(proxies)?;
                (At::Tcp(address.parse()?, proxies), services)
            }
            "tls" => {
                let names = ["client-cert", "proxy", "services"];
                let [asked, proxies, services] = parameters::known("tls", given, names)?;
                let asked = parameters::client_certificate(asked)?;
                let proxies = parameters::proxies(proxies)?;
                (At::Tls(address.parse()?, proxies, asked), services)
            }
            _ => {
                return Err(format!(
                    "its scheme `{scheme}` is not tcp, tls or unix; {FORM}"
                ));
            }
        };
        let services = parameters::services(services)?;
        Ok(Self { at, services })
    }
}

/// What stands after the scheme of a Unix socket.
fn after_unix(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("unix").then_some(rest)
}

fn unix(path: &str, given: Option<&str>) -> Result<ListenAt, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err("its path must begin with /, such as unix:/run/longlived.sock".to_owned());
    }
    let (length, most) = (path.len(), UnixSocket::PATH_BYTES_MAX);
    if length > most {
        return Err(format!("its path has {length} bytes; at most {most}"));
    }
    if parameters::names(given).any(|name| name == "proxy") {
        return Err(NO_PROXY.to_owned());
    }
    let [mode, services] = parameters::known("unix", given, ["mode", "services"])?;
    let mode = mode.map_or(Ok(UnixSocket::MODE_DEFAULT), parameters::file_mode)?;
    let services = parameters::services(services)?;
    let path = PathBuf::from(path);
    let at = At::Unix(UnixSocket { path, mode });
    Ok(ListenAt { at, services })
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut given = Vec::new();
        match &self.at {
            At::Tcp(_, proxies) => given.extend(parameters::proxies_text(proxies)),
            At::Tls(_, proxies, asked) => {
                given.extend(parameters::client_certificate_text(*asked));
                given.extend(parameters::proxies_text(proxies));
            }
            At::Unix(socket) => given.push(format!("mode={:04o}", socket.mode)),
        }
        given.extend(parameters::services_text(self.services).map(str::to_owned));
        match &self.at {
            At::Tcp(host, _) if given.is_empty() => host.fmt(f)?,
            At::Tcp(host, _) => write!(f, "tcp://{host}")?,
            At::Tls(host, ..) => write!(f, "tls://{host}")?,
            At::Unix(socket) => write!(f, "unix:{}", socket.path.display())?,
        }
        f.write_str(&parameters::joined(&given))
    }
}

impl ListenAt {
    fn is_any_port(&self) -> bool {
        match &self.at {
            At::Tcp(host, _) | At::Tls(host, ..) => host.port() == 0,
            At::Unix(_) => false,
        }
    }

    /// The address or the path, which can be listened on once.
    fn place_text(&self) -> String {
        match &self.at {
            At::Tcp(host, _) | At::Tls(host, ..) => host.to_string(),
            At::Unix(socket) => format!("unix:{}", socket.path.display()),
        }
    }

    fn place(&self) -> anyhow::Result<Listen> {
        let services = self.services;
        Ok(match &self.at {
            At::Tcp(host, proxies) => {
                let (first, also) = host.addresses()?;
                Listen::Tcp {
                    first,
                    also,
                    proxies: proxies.clone(),
                    services,
                }
            }
            At::Tls(host, proxies, asked) => {
                let (first, also) = host.addresses()?;
                Listen::Tls {
                    first,
                    also,
                    proxies: proxies.clone(),
                    client_certificate: *asked,
                    services,
                }
            }
            At::Unix(socket) => Listen::Unix {
                socket: socket.clone(),
                services,
            },
        })
    }
}

#[cfg(test)]
mod tests;
