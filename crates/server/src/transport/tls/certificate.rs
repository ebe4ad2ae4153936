//! The certificate and the key of a node, from their files to what rustls takes.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::LazyLock;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerConfig;
use rustls::version::{TLS12, TLS13};

use crate::limits;

/// The files of a node's certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the node, then those of the authorities between it and one that clients trust.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of the certificate.
    #[error("certificate {}: {reason}", path.display())]
    Certificate {
        /// As configured.
        path: PathBuf,
        /// The mistake in it.
        reason: String,
    },
    /// The file of the key.
    #[error("key {}: {reason}", path.display())]
    Key {
        /// As configured.
        path: PathBuf,
        /// The mistake in it.
        reason: String,
    },
}

/// Equal for equal content of the files, and for equal errors of reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

/// What the files hold.
pub(super) struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What connections use.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// In seconds since 1970-01-01 UTC.
    pub(super) not_after: i64,
}

impl TlsFiles {
    /// Reads both.
    pub(super) fn read(&self) -> (Fingerprint, Result<Content, TlsError>) {
        let certificate = read(&self.certificate);
        let key = read(&self.key);
        let seen = fingerprint(&(&certificate, &key));
        let content = certificate
            .map_err(|reason| self.certificate_error(reason))
            .and_then(|certificate| {
                let key = key.map_err(|reason| self.key_error(reason))?;
                Ok(Content { certificate, key })
            });
        (seen, content)
    }

    fn certificate_error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Certificate {
            path: self.certificate.clone(),
            reason: reason.into(),
        }
    }

    fn key_error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Key {
            path: self.key.clone(),
            reason: reason.into(),
        }
    }
}

impl Content {
    /// A configuration of its own, with ticket keys of its own.
    pub(super) fn load(&self, files: &TlsFiles) -> Result<Loaded, TlsError> {
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| files.certificate_error(error.to_string()))?;
        let Some(own) = chain.first() else {
            return Err(files.certificate_error("it has no certificate in PEM"));
        };
        let not_after = not_after(own).map_err(|reason| files.certificate_error(reason))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                files.key_error("it has no private key in PEM")
            }
            other => files.key_error(other.to_string()),
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| files.certificate_error(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                files.key_error("it is not the key of the certificate")
            }
            other => files.key_error(other.to_string()),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.ticketer = Ticketer::new().map_err(|error| files.key_error(error.to_string()))?;
        let config = Arc::new(config);
        Ok(Loaded { config, not_after })
    }
}

fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, certificate) = parsed.map_err(|error| format!("it is not X.509: {error}"))?;
    Ok(certificate.validity().not_after.timestamp())
}

/// The content of a file of a sensible size.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let most = limits::TLS_FILE_BYTES_MAX;
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut content));
    match read {
        Ok(_) if content.len() as u64 > most => Err(format!("it has more than {most} bytes")),
        Ok(_) => Ok(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("there is no such file".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn fingerprint(content: &impl std::hash::Hash) -> Fingerprint {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    Fingerprint(HASHER.hash_one(content))
}
