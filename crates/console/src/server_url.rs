//! Which server a client command talks to.

use std::borrow::Cow;

use longlived_client::Client;

/// The flag that all client commands have.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The server: HOST:PORT, http://HOST:PORT, or unix:PATH for a Unix socket of this machine.
    #[arg(
        long,
        env = "LONGLIVED_SERVER",
        value_name = "SERVER",
        default_value = "http://127.0.0.1:7070",
        value_parser = server_url
    )]
    pub server: String,
}

/// How a server may be given.
pub const FORM: &str = "a server is given as HOST:PORT, http://HOST:PORT or unix:PATH";

/// The address as a URL, when a client could dial it.
pub fn server_url(text: &str) -> Result<String, String> {
    let url = if text.contains("://") || text.starts_with("unix:") {
        Cow::Borrowed(text)
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
            "https://127.0.0.1:7070",
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
            ("https://h:1", "TLS is not supported yet"),
            (
                "unix:7070",
                "its path must begin with /, such as unix:/run/longlived.sock",
            ),
        ] {
            assert_eq!(server_url(wrong), Err(format!("{problem}; {FORM}")));
        }
    }
}
