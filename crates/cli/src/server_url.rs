//! Which server a client command talks to.

use longlived_client::Client;

/// The flag that all client commands have.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server.
    #[arg(
        long,
        env = "LONGLIVED_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:7070",
        value_parser = server_url
    )]
    pub(crate) server: String,
}

/// The address as it was given, when a client could dial it.
pub(crate) fn server_url(text: &str) -> Result<String, String> {
    Client::new(text).map_err(|error| error.reason)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::server_url;

    #[test]
    fn a_server_is_a_url_with_host_and_port() {
        for right in [
            "http://127.0.0.1:7070",
            "http://localhost:7070/",
            "http://[::1]:7070",
            "http://longlived.example",
        ] {
            assert_eq!(server_url(right).as_deref(), Ok(right));
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for wrong in [
            "",
            "7070",
            "127.0.0.1:7070",
            "localhost:7070",
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
            let form = "a server is given as http://HOST:PORT";
            assert!(reason.ends_with(form), "{wrong}: {reason}");
        }
    }
}
