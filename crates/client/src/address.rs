//! A server's address: `http://` or `https://`, a host, and perhaps a port; or `unix:` and the path of a Unix socket. Any other part is
//! refused by name. Without that part the client would silently dial another server than the one that was meant.

use std::path::PathBuf;

use http::Uri;

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// At a host, by TCP.
    Http(Uri),
    /// The same, and by TLS.
    Https(Uri),
    /// At a socket of this machine.
    Unix(PathBuf),
}

/// The address, or the mistake in it.
pub(crate) fn parse(url: &str) -> Result<Address, String> {
    match url.strip_prefix("unix:") {
        Some(rest) => unix(rest),
        None => http(url),
    }
}

/// The longest path of a Unix socket: `sun_path` less the NUL at its end (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Parameters are for a server that listens there.
fn unix(rest: &str) -> Result<Address, String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("its path must begin with /, such as unix:/run/longlived.sock".to_owned());
    }
    if let Some((_, query)) = path.split_once('?') {
        return Err(format!("it has a query, `?{query}`"));
    }
    if path.len() > PATH_BYTES_MAX {
        let length = path.len();
        return Err(format!(
            "its path has {length} bytes; at most {PATH_BYTES_MAX}"
        ));
    }
    if path.contains('\0') {
        return Err("its path has a NUL".to_owned());
    }
    Ok(Address::Unix(path.into()))
}

fn http(url: &str) -> Result<Address, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let address = match scheme.to_ascii_lowercase().as_str() {
        "http" => Address::Http,
        "https" => Address::Https,
        "tls" => return Err("a client says https:// and not tls://".to_owned()),
        "tcp" => return Err("a client says http:// and not tcp://".to_owned()),
        _ => return Err("it does not begin with http:// or https://".to_owned()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    if authority.contains('@') {
        return Err("it names a user before the host".to_owned());
    }
    let (host, port) = host_and_port(authority)?;
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    if let Some(port) = port {
        check_port(port)?;
    }
    check_rest(more)?;
    let uri = url.parse().map_err(|_| "it is not a URL".to_owned());
    uri.map(address)
}

fn host_and_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    let Some(bracketed) = authority.strip_prefix('[') else {
        return match authority.split_once(':') {
            None => Ok((authority, None)),
            Some((_, port)) if port.contains(':') => {
                Err("it has several colons; an IPv6 address stands in brackets, such as [::1]")
            }
            Some((host, port)) => Ok((host, Some(port))),
        };
    };
    let (host, rest) = bracketed
        .split_once(']')
        .ok_or("it has a bracket that is not closed")?;
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok((host, None)),
        None => Err("a colon and a port may follow the bracket, and nothing else"),
        port => Ok((host, port)),
    }
}

fn check_port(port: &str) -> Result<(), String> {
    if port.is_empty() {
        return Err("it has a colon and no port".to_owned());
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("its port `{port}` is not a number"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("its port {port} is not from 1 to 65535")),
    }
}

fn check_rest(more: &str) -> Result<(), String> {
    let query = more.strip_prefix('/').unwrap_or(more);
    match query.chars().next() {
        None => Ok(()),
        Some('?') => Err(format!("it has a query, `{query}`")),
        Some('#') => Err(format!("it has a fragment, `{query}`")),
        Some(_) => Err(format!("it has a path, `{more}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_host_are_enough_and_a_port_may_follow() {
        for url in [
            "http://127.0.0.1:7070",
            "HTTP://localhost",
            "http://localhost:65535/",
            "http://[::1]:1",
            "http://[::1]",
        ] {
            assert_eq!(parse(url).unwrap(), Address::Http(url.parse().unwrap()));
            let url = url.to_ascii_lowercase().replace("http:", "https:");
            assert_eq!(parse(&url).unwrap(), Address::Https(url.parse().unwrap()));
        }
    }

    #[test]
    fn a_unix_socket_has_an_absolute_path() {
        for url in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(parse(url).unwrap(), Address::Unix("/run/a.sock".into()));
        }
        for url in ["unix:", "unix:a.sock", "unix:7070", "unix://host/a"] {
            assert!(
                parse(url).unwrap_err().starts_with("its path must"),
                "{url}"
            );
        }
    }

    #[test]
    fn more_than_a_path_is_refused() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (url, problem) in [
            ("unix:/run/a.sock?mode=0660", "it has a query, `?mode=0660`"),
            (&long, "its path has 108 bytes; at most 107"),
            ("unix:/a\0b", "its path has a NUL"),
        ] {
            assert_eq!(parse(url).unwrap_err(), problem);
        }
    }

    #[test]
    fn an_address_with_more_than_host_and_port_is_refused_by_the_name_of_the_rest() {
        for (url, problem) in [
            ("", "it does not begin with http:// or https://"),
            ("7070", "it does not begin with http:// or https://"),
            (
                "127.0.0.1:7070",
                "it does not begin with http:// or https://",
            ),
            ("ftp://host:1", "it does not begin with http:// or https://"),
            ("https://", "it has no host"),
            ("https://host:1/path", "it has a path, `/path`"),
            ("http://", "it has no host"),
            ("http://:7070", "it has no host"),
            ("http://host:", "it has a colon and no port"),
            ("http://host:0", "its port 0 is not from 1 to 65535"),
            ("http://host:99999", "its port 99999 is not from 1 to 65535"),
            (
                "http://[::1]:65536",
                "its port 65536 is not from 1 to 65535",
            ),
            ("http://host:http", "its port `http` is not a number"),
            ("http://host:+1", "its port `+1` is not a number"),
            (
                "http://::1:7070",
                "it has several colons; an IPv6 address stands in brackets, such as [::1]",
            ),
            ("http://[::1", "it has a bracket that is not closed"),
            (
                "http://[::1]7070",
                "a colon and a port may follow the bracket, and nothing else",
            ),
            ("http://host:1/path", "it has a path, `/path`"),
            ("http://host:1/a?x", "it has a path, `/a?x`"),
            ("http://host:1//", "it has a path, `//`"),
            ("http://host:1?x", "it has a query, `?x`"),
            ("http://host:1/?", "it has a query, `?`"),
            ("http://host:1#x", "it has a fragment, `#x`"),
            ("http://user:pass@host:1", "it names a user before the host"),
            ("http://@host:1", "it names a user before the host"),
            ("http://host:1@host:1", "it names a user before the host"),
            ("http://a b:1", "it is not a URL"),
        ] {
            assert_eq!(parse(url).unwrap_err(), problem, "{url}");
        }
    }
}
