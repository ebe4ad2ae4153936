//! How the demo's server is reached: in the clear by anybody, or over TLS with a token.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longlived_client::{Client, ClientBuilder};

use super::board::Board;
use super::credentials::{Credentials, Grants, Issuer};
use super::strangers::{self, Stranger};

/// How long the subscribers' tokens live, to a second. A client is told when 75 to 85 % of it have passed and renews within a
/// second after that, so each has renewed before the middle of the text, where the server is killed.
const LIFE: Duration = Duration::from_secs(4);
/// The publisher does not renew, and a stranger would have time.
const LONG_LIFE: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) enum Door {
    Open,
    Checked(Credentials),
}

impl Door {
    pub(super) fn new(is_checked: bool) -> anyhow::Result<Self> {
        if is_checked {
            Ok(Self::Checked(Credentials::make()?))
        } else {
            Ok(Self::Open)
        }
    }

    pub(super) fn is_checked(&self) -> bool {
        matches!(self, Self::Checked(_))
    }

    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::Open => {
                "longlived demo: ten subscribers, one server, and a kill -9 in the middle"
            }
            Self::Checked(_) => {
                "longlived demo: ten subscribers, one server, TLS, tokens of a few seconds, and a kill -9 in the middle"
            }
        }
    }

    /// The value of `serve --listen`.
    pub(super) fn listen(&self, address: SocketAddr) -> String {
        match self {
            Self::Open => address.to_string(),
            Self::Checked(_) => format!("tls://{address}"),
        }
    }

    /// Further flags of `serve`.
    pub(super) fn flags(&self) -> Vec<OsString> {
        match self {
            Self::Open => Vec::new(),
            Self::Checked(credentials) => credentials.flags(),
        }
    }

    /// A client that may subscribe, with a token that it has to renew.
    pub(super) fn subscribers(
        &self,
        address: SocketAddr,
        topics: &'static [&'static str],
    ) -> anyhow::Result<ClientBuilder> {
        let grants = Grants {
            subscribe: topics,
            ..Grants::default()
        };
        Ok(match self {
            Self::Open => in_the_clear(address),
            Self::Checked(credentials) => {
                let client = over_tls(credentials, address)?;
                with_tokens(client, &credentials.issuer, "subscribers", grants, LIFE)
            }
        })
    }

    /// A client that may publish, and nothing else.
    pub(super) fn publisher(
        &self,
        address: SocketAddr,
        topics: &'static [&'static str],
    ) -> anyhow::Result<ClientBuilder> {
        let grants = Grants {
            publish: topics,
            ..Grants::default()
        };
        Ok(match self {
            Self::Open => in_the_clear(address),
            Self::Checked(credentials) => {
                let client = over_tls(credentials, address)?;
                with_tokens(client, &credentials.issuer, "publisher", grants, LONG_LIFE)
            }
        })
    }

    /// Those that must not be let in; nobody is a stranger at an open door.
    pub(super) fn strangers(&self, address: SocketAddr) -> anyhow::Result<Vec<Stranger>> {
        match self {
            Self::Open => Ok(Vec::new()),
            Self::Checked(credentials) => {
                let client = || over_tls(credentials, address);
                strangers::all(&credentials.issuer, client, LONG_LIFE)
            }
        }
    }

    /// Under the start of the server.
    pub(super) fn at_start(&self) -> Vec<String> {
        match self {
            Self::Open => Vec::new(),
            Self::Checked(_) => vec![
                "Its one listener speaks TLS, and lets in only callers with a token. The demo made the certificate, and \
                 signs the tokens."
                    .to_owned(),
                format!(
                    "The token of a subscriber may subscribe, and lives {} s. That of the publisher may publish, and \
                     nothing else.",
                    LIFE.as_secs()
                ),
            ],
        }
    }

    /// What is waited for before the kill, in words.
    pub(super) fn before_the_kill(&self) -> &'static str {
        match self {
            Self::Open => "half of the lines",
            Self::Checked(_) => "half of the lines, and a fresh token of each client",
        }
    }

    /// Whether the board shows that.
    pub(super) fn is_time_to_kill(&self, board: &Board) -> bool {
        board.is_half() && (!self.is_checked() || board.everybody_renewed())
    }

    /// The promises that were not kept, a sentence each.
    pub(super) fn broken_promises(&self, board: &Board, intruders: u32) -> Vec<String> {
        let mut broken = Vec::new();
        if intruders > 0 {
            broken.push(format!(
                "{intruders} of the strangers were not refused as they should have been."
            ));
        }
        let without: Vec<String> = match self {
            Self::Open => Vec::new(),
            Self::Checked(_) => {
                let clients = board.without_renewal();
                clients.iter().map(ToString::to_string).collect()
            }
        };
        if !without.is_empty() {
            broken.push(format!(
                "These clients never renewed their token: {}.",
                without.join(", ")
            ));
        }
        broken
    }

    /// What came true of TLS and tokens, a sentence each, at the end of a demo that came through.
    pub(super) fn success(&self, board: &Board, clients: u32) -> Vec<String> {
        match self {
            Self::Open => Vec::new(),
            Self::Checked(_) => vec![
                "Everything went over TLS, and all three strangers were refused.".to_owned(),
                format!(
                    "Each of the {clients} clients renewed its token by a second stream before it left the first: {} renewals in \
                     all.",
                    board.renewals()
                ),
            ],
        }
    }

    /// To be called when no server runs any more.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Checked(credentials) => credentials.remove(),
        }
    }
}

fn in_the_clear(address: SocketAddr) -> ClientBuilder {
    Client::builder(format!("http://{address}"))
}

fn over_tls(credentials: &Credentials, address: SocketAddr) -> anyhow::Result<ClientBuilder> {
    Ok(Client::builder(format!("https://{address}")).tls(credentials.trust()?))
}

/// Asks the issuer for a token at first, and again whenever that ends.
fn with_tokens(
    client: ClientBuilder,
    issuer: &Arc<Issuer>,
    sub: &'static str,
    grants: Grants,
    life: Duration,
) -> ClientBuilder {
    let issuer = Arc::clone(issuer);
    client.credentials(move || std::future::ready(issuer.token(sub, grants, life)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_inside_and_a_client_without_renewal_break_the_promise() {
        let board = Board::new("t", 1, 2);
        let checked = Door::new(true).unwrap();
        let broken = checked.broken_promises(&board, 1);
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].starts_with("1 of the strangers"), "{broken:?}");
        assert!(broken[1].ends_with("their token: 1, 2."), "{broken:?}");
        assert!(!checked.is_time_to_kill(&board));
        assert!(Door::Open.broken_promises(&board, 0).is_empty());
    }

    #[test]
    fn the_server_is_told_to_speak_tls_and_to_ask_for_tokens() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7443));
        let checked = Door::new(true).unwrap();
        assert_eq!(checked.listen(address), "tls://127.0.0.1:7443");
        let flags = checked.flags();
        for flag in ["--tls-cert", "--tls-key", "--auth"] {
            assert!(flags.iter().any(|given| given == flag), "{flags:?}");
        }
        assert_eq!(Door::Open.listen(address), "127.0.0.1:7443");
        assert!(Door::Open.flags().is_empty());
    }
}
