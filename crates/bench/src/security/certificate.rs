//! The certificate of a server that is started here.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

/// The name that the load expects in it.
pub(super) const SERVER_NAME: &str = "127.0.0.1";

/// The files of a certificate and its key.
#[derive(Debug)]
pub(super) struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// The files, and the certificate in PEM.
    pub(super) fn new() -> anyhow::Result<(Self, String)> {
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

    pub(super) fn certificate(&self) -> String {
        self.path("server.pem")
    }

    pub(super) fn key(&self) -> String {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}
