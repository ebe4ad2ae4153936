//! Where `longlived serve` listens: addresses and names of TCP, and Unix sockets, each with its parameters.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use longlived_server::{ClientCertificate, Listen, UnixSocket};

use crate::values;

const FORM: &str = "must be ADDRESS:PORT or NAME:PORT, such as 127.0.0.1:7070, [::]:7070 or localhost:7070, or a URL, such as \
     tls://127.0.0.1:7443 or unix:/run/longlived.sock?mode=0660";

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
        let tls = places.find(|place| matches!(place, ListenAt::Tls(..)));
        tls.map(ToString::to_string)
    }

    /// The first that asks clients for a certificate, as a URL.
    pub(crate) fn first_that_asks(lists: &[Self]) -> Option<String> {
        let mut places = lists.iter().flat_map(|list| &list.0);
        let asks = |place: &&ListenAt| match place {
            ListenAt::Tls(_, asked) => *asked != ClientCertificate::None,
            ListenAt::Tcp(_) | ListenAt::Unix(_) => false,
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
enum ListenAt {
    Tcp(Host),
    Tls(Host, ClientCertificate),
    Unix(UnixSocket),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(SocketAddr),
    Name { name: String, port: u16 },
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = after_unix(text) {
            let (path, parameters) = parameters(rest);
            return unix(path, parameters);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.contains('?') {
                return Err(format!(
                    "parameters need a URL, such as unix:PATH?mode=0660; {FORM}"
                ));
            }
            return host(text).map(Self::Tcp);
        };
        let scheme = scheme.to_ascii_lowercase();
        let (address, parameters) = parameters(rest);
        match scheme.as_str() {
            "tcp" => {
                known("tcp", parameters, [])?;
                host(address).map(Self::Tcp)
            }
            "tls" => {
                let [asked] = known("tls", parameters, ["client-cert"])?;
                let asked = asked.map_or(Ok(ClientCertificate::None), client_certificate)?;
                Ok(Self::Tls(host(address)?, asked))
            }
            _ => Err(format!(
                "its scheme `{scheme}` is not tcp, tls or unix; {FORM}"
            )),
        }
    }
}

/// What stands after the scheme of a Unix socket.
fn after_unix(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case("unix").then_some(rest)
}

fn client_certificate(text: &str) -> Result<ClientCertificate, String> {
    match text {
        "none" => Ok(ClientCertificate::None),
        "optional" => Ok(ClientCertificate::Optional),
        "required" => Ok(ClientCertificate::Required),
        _ => Err(format!(
            "its client-cert `{text}` is not none, optional or required"
        )),
    }
}

fn host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse() {
        return Ok(Host::Address(address));
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
    Ok(Host::Name { name, port })
}

fn unix(path: &str, parameters: Option<&str>) -> Result<ListenAt, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err("its path must begin with /, such as unix:/run/longlived.sock".to_owned());
    }
    let (length, most) = (path.len(), UnixSocket::PATH_BYTES_MAX);
    if length > most {
        return Err(format!("its path has {length} bytes; at most {most}"));
    }
    let [mode] = known("unix", parameters, ["mode"])?;
    let mode = mode.map_or(Ok(UnixSocket::MODE_DEFAULT), file_mode)?;
    let path = PathBuf::from(path);
    Ok(ListenAt::Unix(UnixSocket { path, mode }))
}

fn file_mode(text: &str) -> Result<u32, String> {
    let is_octal = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("its mode `{text}` is not from 0000 to 0777, in octal digits"))
}

/// What stands before the first question mark, and what behind it.
fn parameters(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (text, None),
    }
}

/// The value of each of the `names`, if it is given.
fn known<'a, const N: usize>(
    scheme: &str,
    given: Option<&'a str>,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], String> {
    let mut values = [None; N];
    for parameter in given.into_iter().flat_map(|given| given.split('&')) {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| format!("its parameter `{parameter}` has no value: NAME=VALUE"))?;
        let Some(index) = names.iter().position(|known| *known == name) else {
            return Err(unknown(scheme, name, &names));
        };
        if values[index].replace(value).is_some() {
            return Err(format!("its parameter `{name}` is given twice"));
        }
    }
    Ok(values)
}

fn unknown(scheme: &str, name: &str, names: &[&str]) -> String {
    let likely = names
        .iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = match likely {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if names.is_empty() => format!("{scheme} has none"),
        None => format!("{scheme} has {}", names.join(", ")),
    };
    format!("its parameter `{name}` is not known; {hint}")
}

/// How like a known name an unknown one must be to be taken for a slip of it: clap's own bound for flags.
const LIKE: f64 = 0.7;

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::Tls(host, ClientCertificate::None) => write!(f, "tls://{host}"),
            Self::Tls(host, ClientCertificate::Optional) => {
                write!(f, "tls://{host}?client-cert=optional")
            }
            Self::Tls(host, ClientCertificate::Required) => {
                write!(f, "tls://{host}?client-cert=required")
            }
            Self::Unix(UnixSocket { path, mode }) => {
                write!(f, "unix:{}?mode={mode:04o}", path.display())
            }
        }
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

impl ListenAt {
    fn is_any_port(&self) -> bool {
        match self {
            Self::Tcp(host) | Self::Tls(host, _) => host.port() == 0,
            Self::Unix(_) => false,
        }
    }

    /// The address or the path, which can be listened on once.
    fn place_text(&self) -> String {
        match self {
            Self::Tcp(host) | Self::Tls(host, _) => host.to_string(),
            Self::Unix(socket) => format!("unix:{}", socket.path.display()),
        }
    }

    fn place(&self) -> anyhow::Result<Listen> {
        Ok(match self {
            Self::Tcp(host) => {
                let (first, also) = host.addresses()?;
                Listen::Tcp { first, also }
            }
            Self::Tls(host, asked) => {
                let (first, also) = host.addresses()?;
                Listen::Tls {
                    first,
                    also,
                    client_certificate: *asked,
                }
            }
            Self::Unix(socket) => Listen::Unix(socket.clone()),
        })
    }
}

impl Host {
    fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }

    /// Each address once, in the order of the system's resolver; at least one.
    fn addresses(&self) -> anyhow::Result<(SocketAddr, Vec<SocketAddr>)> {
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
            assert_eq!(format!("tcp://{text}").parse(), Ok(parsed));
            for asked in ["", "?client-cert=optional", "?client-cert=required"] {
                let url = format!("tls://{text}{asked}");
                assert_eq!(url.parse::<ListenAt>().unwrap().to_string(), url);
            }
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
            "tcp://",
        ] {
            assert_eq!(wrong.parse::<ListenAt>(), Err(FORM.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_unix_socket_has_a_path_and_a_mode() {
        for (text, shown) in [
            ("unix:/run/a.sock", "unix:/run/a.sock?mode=0600"),
            ("unix:///run/a.sock?mode=660", "unix:/run/a.sock?mode=0660"),
            ("unix:/a?mode=0777", "unix:/a?mode=0777"),
            ("UNIX:/a", "unix:/a?mode=0600"),
        ] {
            let parsed = text.parse::<ListenAt>().unwrap();
            assert_eq!(parsed.to_string(), shown);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for (wrong, problem) in [
            ("unix:a.sock", "its path must begin with /"),
            ("unix:7070", "its path must begin with /"),
            ("unix:", "its path must begin with /"),
            ("unix://host/a", "its path must begin with /"),
            (long.as_str(), "its path has 108 bytes; at most 107"),
            (
                "unix:/a?mode=0888",
                "its mode `0888` is not from 0000 to 0777",
            ),
            (
                "unix:/a?mode=1777",
                "its mode `1777` is not from 0000 to 0777",
            ),
            ("unix:/a?mode=", "its mode `` is not from 0000 to 0777"),
            ("unix:/a?mode=+7", "its mode `+7` is not from 0000 to 0777"),
            ("unix:/a?mode", "its parameter `mode` has no value"),
            (
                "unix:/a?mode=1&mode=1",
                "its parameter `mode` is given twice",
            ),
            ("unix:/a?", "its parameter `` has no value"),
            ("tls://a:1?client-cert=yes", "its client-cert `yes` is not"),
        ] {
            let error = wrong.parse::<ListenAt>().unwrap_err();
            assert!(error.starts_with(problem), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_was_meant() {
        for (wrong, problem) in [
            (
                "unix:/a?mod=0600",
                "its parameter `mod` is not known; did you mean `mode`?",
            ),
            (
                "unix:/a?proxy=x",
                "its parameter `proxy` is not known; unix has mode",
            ),
            (
                "tcp://[::1]:1?mode=1",
                "its parameter `mode` is not known; tcp has none",
            ),
            (
                "tls://[::1]:1?proxi=x",
                "its parameter `proxi` is not known; tls has client-cert",
            ),
            ("127.0.0.1:1?mode=1", "parameters need a URL"),
            (
                "http://localhost:7070",
                "its scheme `http` is not tcp, tls or unix",
            ),
        ] {
            let error = wrong.parse::<ListenAt>().unwrap_err();
            assert!(error.starts_with(problem), "{wrong}: {error}");
        }
    }

    #[test]
    fn one_value_has_places_separated_by_blanks() {
        let list: ListenList = " 127.0.0.1:1  unix:/a ".parse().unwrap();
        let places = ListenList::places(&[list, "[::1]:2".parse().unwrap()]).unwrap();
        assert_eq!(places.len(), 3);
        assert!(matches!(&places[1], Listen::Unix(socket) if socket.mode == 0o600));
        assert_eq!(" ".parse::<ListenList>(), Err(FORM.to_owned()));
        let error = "127.0.0.1:1 unix:a".parse::<ListenList>().unwrap_err();
        assert!(error.starts_with("`unix:a`: its path"), "{error}");
    }

    #[test]
    fn a_place_that_is_given_twice_is_named() {
        for (text, repeated) in [
            ("127.0.0.1:1 unix:/a 127.0.0.1:2", None),
            ("127.0.0.1:0 127.0.0.1:0", None),
            ("127.0.0.1:1 tls://127.0.0.1:1", Some("127.0.0.1:1")),
            ("unix:/a unix:///a?mode=0660", Some("unix:/a")),
        ] {
            let list: ListenList = text.parse().unwrap();
            assert_eq!(ListenList::repeated(&[list]).as_deref(), repeated, "{text}");
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
        let own = SocketAddr::from(([127, 0, 0, 1], 7070));
        assert_eq!(at.place().unwrap(), own.into());
    }
}
