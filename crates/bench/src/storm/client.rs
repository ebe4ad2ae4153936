//! A client of the library for the server of a storm.

use std::net::SocketAddr;

use anyhow::Context as _;
use longlived_client::{Client, ClientBuilder, TlsOptions};

use crate::load::control::TlsPlan;

/// With or without TLS.
pub(super) fn builder_of(
    server: SocketAddr,
    tls: Option<&TlsPlan>,
) -> anyhow::Result<ClientBuilder> {
    let Some(tls) = tls else {
        return Ok(Client::builder(format!("http://{server}")));
    };
    let options = TlsOptions::default().trust(tls.trust.pem().as_bytes());
    let options = options.context("the certificate of the server")?;
    Ok(Client::builder(format!("https://{server}")).tls(options))
}

pub(super) fn client_of(server: SocketAddr, tls: Option<&TlsPlan>) -> anyhow::Result<Client> {
    builder_of(server, tls)?
        .build()
        .context("the server's address")
}
