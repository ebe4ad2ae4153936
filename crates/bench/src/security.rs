//! What stands between the load and the server that is measured: TLS, tokens, or nothing.
//!
//! Holds: the files of a server that is started here are in folders for temporary files, which are gone with this value.

mod auth;
mod certificate;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use clap::error::ErrorKind;

use self::auth::AuthFile;
use self::certificate::{Certificate, SERVER_NAME};
use super::args::{AuthKind, CommonArgs, SecurityArgs};
use super::load::authorities;
use super::load::control::{TlsPlan, Trust};
use super::tokens::TokenPlan;

#[derive(Debug, Default)]
pub(super) struct Security {
    /// How the load knows the server.
    pub(super) tls: Option<TlsPlan>,
    /// What its callers bring.
    pub(super) tokens: Option<TokenPlan>,
    /// What a server that is started here needs for them.
    certificate: Option<Certificate>,
    auth: Option<AuthFile>,
}

impl Security {
    /// Of the flags. The files are made now, for all runs.
    pub(super) fn of(args: &SecurityArgs, common: &CommonArgs) -> anyhow::Result<Self> {
        let Some(server) = &common.server else {
            let security = if args.tls {
                Self::with_certificate()?
            } else {
                Self::default()
            };
            return match args.auth {
                Some(kind) => security.with_auth(kind),
                None => Ok(security),
            };
        };
        match (server.over_tls, &args.tls_ca) {
            (true, Some(file)) => Ok(Self {
                tls: Some(TlsPlan {
                    trust: trusted(file).with_context(|| format!("--tls-ca {}", file.display()))?,
                    server_name: server.host().to_owned(),
                    after_line: false,
                    tickets: false,
                }),
                ..Self::default()
            }),
            (true, None) => Err(wrong("--server at https:// needs --tls-ca FILE")),
            (false, Some(_)) => Err(wrong("--tls-ca is for a --server at https://")),
            (false, None) => Ok(Self::default()),
        }
    }

    /// A server with a certificate of its own.
    fn with_certificate() -> anyhow::Result<Self> {
        let (files, pem) = Certificate::new().context("making a certificate")?;
        Ok(Self {
            tls: Some(TlsPlan {
                trust: Trust::Certificate(pem),
                server_name: SERVER_NAME.to_owned(),
                after_line: false,
                tickets: false,
            }),
            certificate: Some(files),
            ..Self::default()
        })
    }

    /// The same for a load that resumes its sessions.
    pub(super) fn with_tickets() -> anyhow::Result<Self> {
        let mut security = Self::with_certificate()?;
        let tls = security.tls.iter_mut();
        tls.for_each(|tls| tls.tickets = true);
        Ok(security)
    }

    /// The same with callers that bring tokens.
    fn with_auth(self, kind: AuthKind) -> anyhow::Result<Self> {
        let (auth, tokens) = AuthFile::new(kind).context("making an auth file")?;
        Ok(Self {
            auth: Some(auth),
            tokens: Some(tokens),
            ..self
        })
    }

    /// Flags with these names for the files of the certificate; none without one.
    pub(super) fn certificate_args(&self, certificate: &str, key: &str) -> Vec<String> {
        let Some(files) = &self.certificate else {
            return Vec::new();
        };
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        vec![certificate, files.certificate(), key, files.key()]
    }

    /// The flags of a server that listens there.
    pub(super) fn serve_args(&self, listen: SocketAddr) -> Vec<String> {
        let listen = match &self.certificate {
            Some(_) => format!("tls://{listen}"),
            None => listen.to_string(),
        };
        let mut args = vec!["--listen".to_owned(), listen];
        args.extend(self.certificate_args("--tls-cert", "--tls-key"));
        if let Some(auth) = &self.auth {
            args.extend(["--auth".to_owned(), auth.path()]);
        }
        args
    }

    /// Behind the words for a load.
    pub(super) fn in_words(&self) -> String {
        let tls = match &self.tls {
            Some(_) => ", over TLS 1.3",
            None => "",
        };
        let tokens = match &self.tokens {
            Some(TokenPlan::Static(_)) => ", with one static token",
            Some(TokenPlan::Es256(_)) => ", each with an ES256 token of its own",
            None => "",
        };
        format!("{tls}{tokens}")
    }
}

fn wrong(text: &str) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ArgumentConflict, text).into()
}

/// The authorities of a file, looked at here: every load process would say the same.
fn trusted(file: &Path) -> anyhow::Result<Trust> {
    let pem = std::fs::read_to_string(file)?;
    authorities(&pem)?;
    Ok(Trust::Authorities(pem))
}
