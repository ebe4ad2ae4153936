//! Certificates of clients: whether a listener asks for one, who may have signed it, and which are revoked.
//!
//! Does not: say who a client is; a certificate lets it in and gives it no name.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use x509_parser::x509::X509Version;

use super::files::{TlsError, read};

/// Whether a listener asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No.
    #[default]
    None,
    /// A client without one is let in; one with a certificate that is not valid is not.
    Optional,
    /// A client without one is not let in.
    Required,
}

/// The files by which certificates of clients are judged, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that sign them.
    pub authorities: PathBuf,
    /// Lists of revoked ones. With any, each authority of a client's chain needs one list that has not ended, and a client of which it is not known
    /// whether it is revoked is refused.
    pub revoked: Vec<PathBuf>,
}

/// What they hold, each or why it cannot be read.
#[derive(Hash)]
pub(super) struct ClientContent {
    authorities: Result<Vec<u8>, String>,
    revoked: Vec<Result<Vec<u8>, String>>,
}

impl ClientFiles {
    pub(super) fn read(&self) -> ClientContent {
        ClientContent {
            authorities: read(&self.authorities),
            revoked: self.revoked.iter().map(|path| read(path)).collect(),
        }
    }

    fn error(&self, reason: impl Into<String>) -> TlsError {
        TlsError::ClientAuthorities {
            path: self.authorities.clone(),
            reason: reason.into(),
        }
    }
}

impl ClientContent {
    /// Judges the certificates of clients, and those that have none.
    pub(super) fn verifier(
        &self,
        files: &ClientFiles,
        is_required: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let authorities = Arc::new(self.authorities(files)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider)
            .with_crls(self.revoked(files)?)
            // A list that has ended says nothing of who was revoked since.
            .enforce_revocation_expiration();
        let verifier = if is_required {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        verifier
            .build()
            .map_err(|error| files.error(error.to_string()))
    }

    fn authorities(&self, files: &ClientFiles) -> Result<RootCertStore, TlsError> {
        let pem = self.authorities.as_ref();
        let pem = pem.map_err(|reason| files.error(reason.as_str()))?;
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| files.error(error.to_string()))?;
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
                .map_err(|error| files.error(format!("it is not X.509: {error}")))?;
            if parsed.version() == X509Version::V3 && !parsed.is_ca() {
                let subject = parsed.subject();
                let reason =
                    format!("the certificate of {subject} is not that of an authority (CA:TRUE)");
                return Err(files.error(reason));
            }
            let added = authorities.add(certificate);
            added.map_err(|error| files.error(error.to_string()))?;
        }
        if authorities.is_empty() {
            return Err(files.error("it has no certificate in PEM"));
        }
        Ok(authorities)
    }

    fn revoked(
        &self,
        files: &ClientFiles,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let mut lists = Vec::new();
        let mut issuers = Vec::new();
        for (path, pem) in files.revoked.iter().zip(&self.revoked) {
            let error = |reason: String| TlsError::Revoked {
                path: path.clone(),
                reason,
            };
            let pem = pem.as_ref().map_err(|reason| error(reason.clone()))?;
            let before = lists.len();
            for list in CertificateRevocationListDer::pem_slice_iter(pem) {
                let list = list.map_err(|cause| error(cause.to_string()))?;
                let (_, parsed) = x509_parser::parse_x509_crl(&list)
                    .map_err(|cause| error(format!("it is not a CRL: {cause}")))?;
                // Only the first would be looked at.
                let issuer = parsed.issuer().to_string();
                if issuers.contains(&issuer) {
                    return Err(error(format!("it is a second list of {issuer}")));
                }
                issuers.push(issuer);
                lists.push(list);
            }
            if lists.len() == before {
                return Err(error(
                    "it has no list of revoked certificates in PEM".to_owned(),
                ));
            }
        }
        Ok(lists)
    }
}
