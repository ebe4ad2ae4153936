//! The files of a node's TLS: where they are, reading them whole, and whether they have changed.
//!
//! Does not: know what is in them; `certificate` and `clients` do.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::thread::sleep;

use rustix::fs::OFlags;

use super::clients::{ClientContent, ClientFiles};
use crate::limits;

/// How a node speaks TLS: its files, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate of the node, then those of the authorities between it and one that clients trust.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
    /// By which certificates of clients are judged; `None` where no listener asks for one.
    pub clients: Option<ClientFiles>,
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
    /// The file of the authorities of clients.
    #[error("authorities of clients {}: {reason}", path.display())]
    ClientAuthorities {
        /// As configured.
        path: PathBuf,
        /// The mistake in it.
        reason: String,
    },
    /// A file of revoked certificates.
    #[error("revoked certificates {}: {reason}", path.display())]
    Revoked {
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
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) clients: Option<ClientContent>,
}

impl TlsConfig {
    /// Reads them until two looks agree: a program may be writing them, or switching the folder that they are in.
    pub(super) fn read_settled(&self) -> (Fingerprint, Result<Content, TlsError>) {
        let mut last = self.read();
        for _ in 0..limits::RELOAD_SETTLE_TRIES {
            sleep(limits::RELOAD_SETTLE);
            let next = self.read();
            let is_settled = next.0 == last.0;
            last = next;
            if is_settled {
                break;
            }
        }
        last
    }

    /// Reads them once.
    pub(super) fn read(&self) -> (Fingerprint, Result<Content, TlsError>) {
        let certificate = read(&self.certificate);
        let key = read(&self.key);
        let clients = self.clients.as_ref().map(ClientFiles::read);
        let seen = fingerprint(&(&certificate, &key, &clients));
        let content = certificate
            .map_err(|reason| self.certificate_error(reason))
            .and_then(|certificate| {
                let key = key.map_err(|reason| self.key_error(reason))?;
                Ok(Content {
                    certificate,
                    key,
                    clients,
                })
            });
        (seen, content)
    }

    /// Reading them takes too long.
    pub(super) fn not_read(&self) -> TlsError {
        self.certificate_error("it cannot be read: the disk does not answer")
    }

    pub(super) fn certificate_error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Certificate {
            path: self.certificate.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn key_error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::Key {
            path: self.key.clone(),
            reason: reason.into(),
        }
    }
}

/// The content of a file of a sensible size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let most = limits::TLS_FILE_BYTES_MAX;
    // Opening a pipe would wait for a writer.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path);
    let read = opened.and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        file.take(most + 1).read_to_end(&mut content)
    });
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
