//! How the server of an address is dialled: its endpoint, with the windows of HTTP/2, and what lies below it.

use std::path::PathBuf;

use http::Uri;
use tonic::transport::Endpoint;

use crate::address::{self, Address};
use crate::pool::PoolOptions;
use crate::tls::{Tls, TlsOptions};

/// The bytes that may wait here on a stream that the application does not read.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// The largest window of HTTP/2. The windows of the streams bound the connection too, so streams that are not read do
/// not block the others. The library also counts small frames that wait for the application, and ends a connection
/// where they exceed half of this window. As many streams as a server allows, each full of events of 20 bytes, stay
/// below it.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// How the server of an address is dialled.
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    /// The path of its socket, if it is one of this machine.
    pub(crate) unix: Option<PathBuf>,
    /// Where the address says so.
    pub(crate) tls: Option<Tls>,
}

impl Target {
    /// Or the mistake in the address. A server at a Unix socket is called `localhost` in requests.
    pub(crate) fn of(
        url: &str,
        options: PoolOptions,
        given: Option<TlsOptions>,
    ) -> Result<Self, String> {
        let mut origin = None;
        let (uri, unix, tls) = match address::parse(url)? {
            Address::Https(uri) => {
                let tls = Tls::new(&uri, given.unwrap_or_default())?;
                origin = Some(uri.clone());
                (in_the_clear(&uri)?, None, Some(tls))
            }
            // A call that was to be encrypted is not sent in the clear.
            _ if given.is_some() => {
                return Err("it does not begin with https://, and TLS is asked for".to_owned());
            }
            Address::Http(uri) => (uri, None, None),
            Address::Unix(path) => (Uri::from_static("http://localhost"), Some(path), None),
        };
        let mut endpoint = Endpoint::from(uri);
        if let Some(origin) = origin {
            endpoint = endpoint.origin(origin);
        }
        let endpoint = endpoint
            .user_agent(concat!("longlived-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| error.to_string())?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(Self {
            endpoint,
            unix,
            tls,
        })
    }
}

/// The port of `https://` (RFC 9110, 4.2.2).
const HTTPS_PORT: u16 = 443;

/// What is dialled under TLS of our own. Another crate of the program may turn on tonic's, which refuses an address of
/// `https://` that it has no settings for.
fn in_the_clear(uri: &Uri) -> Result<Uri, String> {
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(HTTPS_PORT);
    let dialled = format!("http://{host}:{port}").parse();
    dialled.map_err(|_| "it is not a URL".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_tls_the_host_is_dialled_and_requests_have_the_whole_address() {
        for (url, dialled) in [
            ("https://a.example", "http://a.example:443/"),
            ("HTTPS://[::1]:7443", "http://[::1]:7443/"),
        ] {
            let of = Target::of(url, PoolOptions::default(), None).unwrap();
            assert_eq!(of.endpoint.uri(), dialled);
            assert!(of.tls.is_some());
        }
    }
}
