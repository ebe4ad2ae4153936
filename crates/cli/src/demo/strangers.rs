//! Subscribers that the server must refuse, each for another reason, and what it says to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use longlived_client::{Client, ClientBuilder, Item, Lost, Notice, Refusal, SubscribeError, Token};
use tokio_stream::StreamExt as _;

use super::credentials::{Grants, Issuer};

/// A topic that is not the demo's.
const OTHER_TOPIC: &str = "demo.other";
const ID: &str = "stranger";

/// A subscriber that must not be let in.
#[derive(Debug)]
pub(super) struct Stranger {
    /// What it brings, as "without a token".
    pub(super) brings: &'static str,
    /// The reason for which it must be refused, of the contract's table.
    reason: &'static str,
    client: Client,
}

/// What became of a stranger.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Refused, and for the right reason: the server's words.
    Refused(String),
    /// Anything else, in words.
    Wrong(String),
}

/// One of each kind. `client`: how the server is reached, without a token.
pub(super) fn all(
    issuer: &Arc<Issuer>,
    client: impl Fn() -> anyhow::Result<ClientBuilder>,
    life: Duration,
) -> anyhow::Result<Vec<Stranger>> {
    let may_follow = |topics| Grants {
        subscribe: topics,
        ..Grants::default()
    };
    // Of the same name and with the same grants: the signature alone is wrong.
    let foreign = Issuer::new()?.token("subscribers", may_follow(&[">"]), life)?;
    let other = issuer.token("stranger", may_follow(&[OTHER_TOPIC]), life)?;
    Ok(vec![
        Stranger {
            brings: "without a token",
            reason: "CREDENTIAL_MISSING",
            client: client()?.build()?,
        },
        Stranger {
            brings: "with a token that a foreign key signed",
            reason: "CREDENTIAL_INVALID",
            client: client()?.token(Token::new(foreign)?).build()?,
        },
        Stranger {
            brings: "with a token for another topic",
            reason: "NOT_GRANTED",
            client: client()?.token(Token::new(other)?).build()?,
        },
    ])
}

impl Stranger {
    /// Asks for the topic until the server has decided.
    pub(super) async fn ask(&self, topic: &str) -> anyhow::Result<Ending> {
        let mut subscriber = self.client.subscriber(ID).filter(topic).build()?;
        loop {
            match subscriber.next().await {
                Some(Err(
                    SubscribeError::Refused(refusal) | SubscribeError::Unauthenticated(refusal),
                )) => {
                    return Ok(self.judge(&refusal));
                }
                Some(Ok(Item::Notice(Notice::Connected { .. }) | Item::Event(_))) => {
                    return Ok(Ending::Wrong("it was let in".to_owned()));
                }
                Some(Ok(Item::Notice(Notice::Disconnected {
                    reason: Lost::Status(refusal),
                    ..
                }))) => return Ok(self.judge(&refusal)),
                // The way to the server failed, or a word beside; it goes on.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("the subscription of a stranger"),
                None => bail!("the subscription of a stranger ended without an answer"),
            }
        }
    }

    fn judge(&self, refusal: &Refusal) -> Ending {
        let reason = refusal.reason.as_deref().unwrap_or("without a reason");
        let said = match refusal.to_string().split_once(": ") {
            Some((code, text)) => format!("{code}, {reason}: {text}"),
            None => format!("{refusal}, {reason}"),
        };
        if reason == self.reason {
            Ending::Refused(said)
        } else {
            Ending::Wrong(format!("it was to hear {}, and heard {said}", self.reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use longlived_server::{Config, Environment, Server};
    use tonic::Code;

    use super::*;

    fn stranger(url: &str) -> Stranger {
        Stranger {
            brings: "without a token",
            reason: "CREDENTIAL_MISSING",
            client: Client::new(url).unwrap(),
        }
    }

    fn refusal(reason: Option<&str>) -> Refusal {
        Refusal {
            code: Code::Unauthenticated,
            message: "no: none".to_owned(),
            reason: reason.map(ToOwned::to_owned),
            fields: BTreeMap::new(),
        }
    }

    #[test]
    fn only_the_right_reason_counts_and_the_words_are_those_of_the_server() {
        let stranger = stranger("http://127.0.0.1:1");
        let said = "UNAUTHENTICATED, CREDENTIAL_MISSING: no: none".to_owned();
        let right = refusal(Some("CREDENTIAL_MISSING"));
        assert_eq!(stranger.judge(&right), Ending::Refused(said));
        for (reason, said) in [
            (Some("SHUTTING_DOWN"), "SHUTTING_DOWN: no: none"),
            (None, "without a reason: no: none"),
        ] {
            match stranger.judge(&refusal(reason)) {
                Ending::Wrong(text) => assert!(text.contains(said), "{text}"),
                Ending::Refused(text) => panic!("{text}"),
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_lets_a_stranger_in_is_found_out() {
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
        let config = Config {
            listen,
            ..Config::default()
        };
        let server = Server::bind(config, Environment::system()).await.unwrap();
        let stranger = stranger(&format!("http://{}", server.local_addr()));
        let ending = tokio::select! {
            ending = stranger.ask("demo.lines") => ending.unwrap(),
            ended = server.run(std::future::pending()) => panic!("{ended:?}"),
        };
        assert_eq!(ending, Ending::Wrong("it was let in".to_owned()));
    }
}
