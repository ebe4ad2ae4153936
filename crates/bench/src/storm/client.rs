//! A client of the library for the server of a storm.

use std::net::SocketAddr;

use anyhow::Context as _;
use longlived_client::{Client, ClientBuilder, TlsOptions, Token};

use crate::load::control::TlsPlan;
use crate::server::Server;
use crate::tokens::{PUBLISHER, TokenPlan, TokenSource};

/// With or without TLS; its one token is that of the caller that publishes.
pub(super) fn builder_of(
    server: SocketAddr,
    tls: Option<&TlsPlan>,
    tokens: Option<&TokenPlan>,
) -> anyhow::Result<ClientBuilder> {
    let mut client = match tls {
        Some(tls) => {
            let options = TlsOptions::default().trust(tls.trust.pem().as_bytes());
            let options = options.context("the certificate of the server")?;
            Client::builder(format!("https://{server}")).tls(options)
        }
        None => Client::builder(format!("http://{server}")),
    };
    if let Some(tokens) = tokens {
        let token = TokenSource::new(tokens)?.token(PUBLISHER)?;
        client = client.token(Token::new(token)?);
    }
    Ok(client)
}

pub(super) fn client_of(server: &Server) -> anyhow::Result<Client> {
    builder_of(server.address, server.tls.as_ref(), server.tokens.as_ref())?
        .build()
        .context("the server's address")
}
