//! The token that a client command sends.
//!
//! Holds: no text of this program has a token in it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Once;

use anyhow::anyhow;
use clap::error::ErrorKind;
use longlived_client::{ClientBuilder, Token};

use crate::terminal::note;

/// Flags of all client commands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Send the token in this file, as `authorization: Bearer TOKEN`. The file is read again while the command runs, so
    /// another program may replace it.
    #[arg(
        long,
        env = "LONGLIVED_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    token_file: Option<PathBuf>,

    /// Send this token. Other users of this machine can read it with `ps`, so --token-file is better.
    #[arg(
        long,
        env = "LONGLIVED_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<Secret>,
}

/// A text that Debug does not show.
#[derive(Clone)]
struct Secret(String);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl TokenArgs {
    /// A client of `server` that sends the token, if there is one. An error names the flag that is wrong.
    pub(crate) fn apply(
        &self,
        client: ClientBuilder,
        server: &str,
    ) -> anyhow::Result<ClientBuilder> {
        let token = match (&self.token_file, &self.token) {
            (None, None) => return Ok(client),
            (Some(file), _) => {
                let token = Token::file(file).map_err(|error| anyhow!("--token-file {error}"))?;
                token.tell_with(|error| {
                    note(format!(
                        "--token-file {error}; the token that was read last is sent on"
                    ));
                })
            }
            (None, Some(Secret(token))) => Token::new(token).map_err(|error| {
                clap::Error::raw(ErrorKind::ValueValidation, format!("--token: {error}"))
            })?,
        };
        if !is_private(server) {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                note(format!(
                    "the token crosses the network readable: {server} is neither https:// nor this machine"
                ));
            });
        }
        Ok(client.token(token))
    }
}

/// Whether nobody on a network can read what is sent to a server: it is encrypted, or stays on this machine.
fn is_private(server: &str) -> bool {
    let Some(authority) = server.strip_prefix("http://") else {
        return true;
    };
    let authority = authority.trim_end_matches('/');
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_what_is_sent_in_the_clear_to_other_machines() {
        for private in [
            "https://a.example:7443",
            "unix:/run/longlived.sock",
            "http://127.0.0.1:7070",
            "http://127.9.9.9:7070/",
            "http://[::1]:7070",
            "http://[::ffff:127.0.0.1]:7070",
            "http://localhost:7070",
            "http://LOCALHOST",
        ] {
            assert!(is_private(private), "{private}");
        }
        for read in [
            "http://a.example:7070",
            "http://localhost.example:7070",
            "http://10.0.0.1:7070",
            "http://0.0.0.0:7070",
            "http://[::]:7070",
            "http://[fd00::1]:7070",
        ] {
            assert!(!is_private(read), "{read}");
        }
    }

    #[test]
    fn a_token_does_not_show_in_debug_output() {
        let args = TokenArgs {
            token_file: None,
            token: Some(Secret("hidden".to_owned())),
        };
        assert!(!format!("{args:?}").contains("hidden"));
    }
}
