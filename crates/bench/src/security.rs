//! What stands between the load and the server that is measured: TLS, or nothing.
//!
//! Holds: the files of a server that is started here are in a folder for temporary files, which is gone with this value.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

use super::args::{CommonArgs, SecurityArgs};
use super::load::authorities;
use super::load::control::{TlsPlan, Trust};

/// The name that the load expects in the certificate that is made here.
const SERVER_NAME: &str = "127.0.0.1";

#[derive(Debug, Default)]
pub(super) struct Security {
    /// How the load knows the server.
    pub(super) tls: Option<TlsPlan>,
    /// What a server that is started here needs for it.
    certificate: Option<Files>,
}

/// The certificate of a server and its key.
#[derive(Debug)]
struct Files {
    folder: TempDir,
}

impl Security {
    /// Of the flags. The files are made now, for all runs.
    pub(super) fn of(args: &SecurityArgs, common: &CommonArgs) -> anyhow::Result<Self> {
        let Some(server) = &common.server else {
            return if args.tls {
                Self::with_certificate()
            } else {
                Ok(Self::default())
            };
        };
        match (server.over_tls, &args.tls_ca) {
            (true, Some(file)) => Ok(Self {
                tls: Some(TlsPlan {
                    trust: trusted(file).with_context(|| format!("--tls-ca {}", file.display()))?,
                    server_name: server.host().to_owned(),
                    tickets: false,
                }),
                certificate: None,
            }),
            (true, None) => bail!("--server at https:// needs --tls-ca FILE"),
            (false, Some(_)) => bail!("--tls-ca is for a --server at https://"),
            (false, None) => Ok(Self::default()),
        }
    }

    /// A server with a certificate of its own.
    fn with_certificate() -> anyhow::Result<Self> {
        let (files, pem) = Files::new().context("making a certificate")?;
        Ok(Self {
            tls: Some(TlsPlan {
                trust: Trust::Certificate(pem),
                server_name: SERVER_NAME.to_owned(),
                tickets: false,
            }),
            certificate: Some(files),
        })
    }

    /// The same for a load that resumes its sessions.
    pub(super) fn with_tickets() -> anyhow::Result<Self> {
        let mut security = Self::with_certificate()?;
        let tls = security.tls.iter_mut();
        tls.for_each(|tls| tls.tickets = true);
        Ok(security)
    }

    /// Flags with these names for the files of the certificate; none without one.
    pub(super) fn certificate_args(&self, certificate: &str, key: &str) -> Vec<String> {
        let Some(files) = &self.certificate else {
            return Vec::new();
        };
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        vec![certificate, files.certificate(), key, files.key()]
    }

    /// A server at a place is told so.
    pub(super) fn serve_args(&self, listen: SocketAddr) -> Vec<String> {
        let listen = match &self.certificate {
            Some(_) => format!("tls://{listen}"),
            None => listen.to_string(),
        };
        let mut args = vec!["--listen".to_owned(), listen];
        args.extend(self.certificate_args("--tls-cert", "--tls-key"));
        args
    }

    /// Behind the words for a load.
    pub(super) fn in_words(&self) -> &'static str {
        match &self.tls {
            Some(_) => ", over TLS 1.3",
            None => "",
        }
    }
}

impl Files {
    /// Both, and the certificate in PEM.
    fn new() -> anyhow::Result<(Self, String)> {
        let names = [SERVER_NAME.to_owned(), "localhost".to_owned()];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        let files = Self {
            folder: TempDir::new()?,
        };
        std::fs::write(files.certificate(), certificate.pem())?;
        std::fs::write(files.key(), key.serialize_pem())?;
        Ok((files, certificate.pem()))
    }

    fn certificate(&self) -> String {
        self.path("server.pem")
    }

    fn key(&self) -> String {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}

/// The authorities of a file, looked at here: every load process would say the same.
fn trusted(file: &Path) -> anyhow::Result<Trust> {
    let pem = std::fs::read_to_string(file)?;
    authorities(&pem)?;
    Ok(Trust::Authorities(pem))
}
