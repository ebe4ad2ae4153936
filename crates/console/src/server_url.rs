//! Which server a client command talks to.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::error::ErrorKind;
use longlived_client::{Client, ClientBuilder, TlsOptions};

use crate::token::TokenArgs;

/// The flags that all client commands have.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server: HOST:PORT, http://HOST:PORT, https://HOST:PORT, or unix:PATH for a Unix socket of this
    /// machine.
    #[arg(
        long,
        env = "LONGLIVED_SERVER",
        value_name = "SERVER",
        default_value = "http://127.0.0.1:7070",
        value_parser = server_url
    )]
    pub server: String,

    /// Trust the authorities in this file alone, in PEM, for a server at https:// [default: those of the system].
    #[arg(long, env = "LONGLIVED_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// Show this certificate to a server at https:// that asks for one, in PEM.
    #[arg(
        long,
        env = "LONGLIVED_CLIENT_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM, without a passphrase.
    #[arg(
        long,
        env = "LONGLIVED_CLIENT_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Expect a certificate of this name from a server at https:// [default: the host of --server].
    #[arg(long, env = "LONGLIVED_TLS_SERVER_NAME", value_name = "NAME")]
    pub tls_server_name: Option<String>,

    #[command(flatten)]
    token: TokenArgs,
}

/// The largest file in PEM: the whole list of authorities of a system has some 200 KiB.
const PEM_BYTES_MAX: u64 = 1 << 20;

impl ServerArgs {
    /// A client of the server. An error names the flag that is wrong.
    pub fn client(&self) -> anyhow::Result<ClientBuilder> {
        let mut client = Client::builder(self.server.as_str());
        let mut tls = TlsOptions::default();
        if let Some(file) = &self.tls_ca {
            let trusted = tls.trust(&read("--tls-ca", file)?);
            tls = trusted.with_context(|| format!("--tls-ca {}", file.display()))?;
        }
        if let Some((certificate, key)) = self.tls_cert.as_ref().zip(self.tls_key.as_ref()) {
            let (certificate_pem, key_pem) =
                (read("--tls-cert", certificate)?, read("--tls-key", key)?);
            let shown = tls.identity(&certificate_pem, &key_pem);
            tls = shown.with_context(|| format!("--tls-cert {}", certificate.display()))?;
        }
        if let Some(name) = &self.tls_server_name {
            let named = tls.server_name(name);
            tls = named.map_err(|error| wrong(format!("--tls-server-name: {error}")))?;
        }
        let given = [
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
        ];
        if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
            if !self.server.starts_with("https://") {
                let server = &self.server;
                return Err(
                    wrong(format!("{flag}: the server {server} is not at https://")).into(),
                );
            }
            client = client.tls(tls);
        }
        self.token.apply(client, &self.server)
    }
}

/// The content of the file that a flag names.
fn read(flag: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let named = || format!("{flag} {}", file.display());
    let mut pem = Vec::new();
    let opened = File::open(file).with_context(named)?;
    let read = opened.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem);
    read.with_context(named)?;
    let is_small = pem.len() as u64 <= PEM_BYTES_MAX;
    ensure!(
        is_small,
        "{}: it has more than {PEM_BYTES_MAX} bytes",
        named()
    );
    Ok(pem)
}

/// A mistake in a flag.
fn wrong(text: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, text)
}

/// How a server may be given.
pub const FORM: &str =
    "a server is given as HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:PATH";

/// The address as a URL, when a client could dial it.
pub fn server_url(text: &str) -> Result<String, String> {
    let url: Cow<'_, str> = if let Some((scheme, rest)) = text.split_once("://") {
        // The others of this program look at the scheme.
        Cow::Owned(format!("{}://{rest}", scheme.to_ascii_lowercase()))
    } else if let Some((scheme, path)) = text.split_once(':')
        && scheme.eq_ignore_ascii_case("unix")
    {
        Cow::Owned(format!("unix:{path}"))
    } else if text.contains(':') {
        Cow::Owned(format!("http://{text}"))
    } else {
        // Without a port it might be anything.
        return Err(format!("it has no port; {FORM}"));
    };
    match Client::new(&*url) {
        Ok(_) => Ok(url.into_owned()),
        Err(error) => Err(format!("{}; {FORM}", error.reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::{FORM, server_url};

    #[test]
    fn a_server_is_host_and_port_with_or_without_a_scheme() {
        for right in [
            "http://127.0.0.1:7070",
            "http://localhost:7070/",
            "http://[::1]:7070",
            "http://longlived.example",
            "https://longlived.example",
            "https://[::1]:7443",
            "unix:/run/longlived.sock",
        ] {
            assert_eq!(server_url(right).as_deref(), Ok(right));
        }
        for right in [
            "127.0.0.1:7070",
            "localhost:7070",
            "[::1]:7070",
            "a.example:1",
        ] {
            assert_eq!(server_url(right), Ok(format!("http://{right}")));
        }
    }

    #[test]
    fn a_scheme_is_written_small() {
        assert_eq!(server_url("HTTPS://h:1").as_deref(), Ok("https://h:1"));
        assert_eq!(server_url("UNIX:/a").as_deref(), Ok("unix:/a"));
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for wrong in [
            "",
            "7070",
            "127.0.0.1",
            "localhost",
            "localhost:",
            ":7070",
            "::1:7070",
            "localhost:http",
            "localhost:7070/path",
            "user:pass@localhost:7070",
            "ftp://127.0.0.1:7070",
            "https://",
            "http://",
            "http://:7070",
            "http://127.0.0.1:",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://127.0.0.1:http",
            "http://a b:7070",
            "http://127.0.0.1:7070/path",
            "http://127.0.0.1:7070?x",
            "http://127.0.0.1:7070#x",
            "http://user:pass@127.0.0.1:7070",
        ] {
            let reason = server_url(wrong).expect_err(wrong);
            assert!(reason.ends_with(&format!("; {FORM}")), "{wrong}: {reason}");
        }
    }

    #[test]
    fn a_mistake_is_named_before_the_form() {
        for (wrong, problem) in [
            ("localhost", "it has no port"),
            ("localhost:", "it has a colon and no port"),
            ("http://h:99999", "its port 99999 is not from 1 to 65535"),
            ("h:99999", "its port 99999 is not from 1 to 65535"),
            ("http://h:1/path", "it has a path, `/path`"),
            ("h:1?x", "it has a query, `?x`"),
            ("http://user:pass@h:1", "it names a user before the host"),
            ("https://h:1/path", "it has a path, `/path`"),
            (
                "unix:7070",
                "its path must begin with /, such as unix:/run/longlived.sock",
            ),
        ] {
            assert_eq!(server_url(wrong), Err(format!("{problem}; {FORM}")));
        }
    }
}
