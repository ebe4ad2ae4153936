//! The flags of TLS listeners: their certificate, and those of clients.

use std::path::PathBuf;

use longlived_server::{ClientFiles, TlsConfig, TlsError};

use crate::listen_args::ListenList;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TlsArgs {
    /// Certificate of the listeners at tls://, then those of its authorities, in PEM. Read again when the file changes,
    /// and on SIGHUP, which then does not end the server.
    #[arg(
        id = "tls_cert",
        long = "tls-cert",
        env = "LONGLIVED_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM, without a passphrase.
    #[arg(
        id = "tls_key",
        long = "tls-key",
        env = "LONGLIVED_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    key: Option<PathBuf>,

    /// Authorities that sign the certificates of clients, in PEM, for listeners at tls://ADDR:PORT?client-cert=required
    /// (or =optional). Read again as --tls-cert is.
    #[arg(
        id = "tls_client_ca",
        long = "tls-client-ca",
        env = "LONGLIVED_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    client_ca: Option<PathBuf>,

    /// Revoked certificates of clients (a CRL in PEM); repeatable (in the environment: separated by ';'). With one, each
    /// authority of a client's chain needs one. Read again as --tls-cert is.
    #[arg(
        id = "tls_crl",
        long = "tls-crl",
        env = "LONGLIVED_TLS_CRL",
        value_name = "FILE",
        value_delimiter = ';',
        requires = "tls_client_ca"
    )]
    crl: Vec<PathBuf>,
}

impl TlsArgs {
    /// A certificate that nobody would see or be judged by, or a listener without the one that it needs.
    pub(crate) fn mistake(&self, listen: &[ListenList]) -> Option<String> {
        let (tls, asks) = (
            ListenList::first_tls(listen),
            ListenList::first_that_asks(listen),
        );
        match (tls, &self.cert, asks, &self.client_ca) {
            (Some(url), None, ..) => {
                Some(format!("--listen: {url} needs --tls-cert and --tls-key"))
            }
            (None, Some(_), ..) => Some("--tls-cert: no --listen begins with tls://".to_owned()),
            (_, _, Some(url), None) => Some(format!("--listen: {url} needs --tls-client-ca")),
            (_, _, None, Some(_)) => {
                Some("--tls-client-ca: no --listen has client-cert=".to_owned())
            }
            _ => None,
        }
    }

    pub(crate) fn files(self) -> Option<TlsConfig> {
        let clients = self.client_ca.map(|authorities| ClientFiles {
            authorities,
            revoked: self.crl,
        });
        let certificate = self.cert.zip(self.key);
        certificate.map(|(certificate, key)| TlsConfig {
            certificate,
            key,
            clients,
        })
    }
}

/// A refusal of a file is an error of the flag that names it.
pub(crate) fn refused(error: &TlsError) -> anyhow::Error {
    let flag = match error {
        TlsError::Certificate { .. } => "--tls-cert",
        TlsError::Key { .. } => "--tls-key",
        TlsError::ClientAuthorities { .. } => "--tls-client-ca",
        TlsError::Revoked { .. } => "--tls-crl",
    };
    anyhow::anyhow!("{flag}: {error}")
}
