//! The certificate and the key of a node, from what its files hold to what rustls takes.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerConfig};
use rustls::version::{TLS12, TLS13};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::clients::ClientCertificate;
use super::files::{Content, TlsConfig, TlsError};

/// A configuration for each way to ask for a client's certificate. Sessions are resumed where nobody asks, and only there: a session
/// that is resumed is not judged again.
pub(super) struct Configs {
    anonymous: Arc<ServerConfig>,
    /// Optional and required, where there are files to judge by.
    asking: Option<[Arc<ServerConfig>; 2]>,
}

impl Configs {
    /// `None` where nothing says who is to be trusted.
    pub(super) fn of(&self, asked: ClientCertificate) -> Option<Arc<ServerConfig>> {
        let config = match (asked, &self.asking) {
            (ClientCertificate::None, _) => Some(&self.anonymous),
            (ClientCertificate::Optional, Some([optional, _])) => Some(optional),
            (ClientCertificate::Required, Some([_, required])) => Some(required),
            (_, None) => None,
        };
        config.cloned()
    }
}

/// What connections use, and what it is made of.
pub(super) struct Loaded {
    pub(super) configs: Configs,
    pub(super) facts: Facts,
}

/// Of a certificate, for people.
pub(super) struct Facts {
    pub(super) subject: String,
    /// When it ends, in seconds since 1970-01-01 UTC.
    pub(super) not_after: i64,
    /// The same in words.
    pub(super) end: String,
    /// It has ended, or has not begun.
    pub(super) invalid_now: Option<String>,
    /// What makes clients refuse it.
    doubts: Vec<&'static str>,
}

impl Facts {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let invalid_now = match ASN1Time::now() {
            now if now > validity.not_after => Some(format!("it ended at {}", validity.not_after)),
            now if now < validity.not_before => {
                Some(format!("it begins at {}", validity.not_before))
            }
            _ => None,
        };
        let names = certificate.subject_alternative_name();
        let has_no_name = names.is_ok_and(|names| names.is_none());
        let doubts = [
            (certificate.is_ca(), "it is one of an authority (CA:TRUE)"),
            (has_no_name, "it has no subject alternative name"),
        ];
        let doubts = doubts.into_iter().filter(|(is_so, _)| *is_so);
        Self {
            subject: certificate.subject().to_string(),
            not_after: validity.not_after.timestamp(),
            end: validity.not_after.to_string(),
            invalid_now,
            doubts: doubts.map(|(_, doubt)| doubt).collect(),
        }
    }

    /// A server with a certificate that clients refuse looks well from inside.
    pub(super) fn warn(&self) {
        let doubts = self.doubts.iter().copied();
        for doubt in self.invalid_now.as_deref().into_iter().chain(doubts) {
            tracing::warn!(subject = %self.subject, "clients will refuse the certificate: {doubt}");
        }
    }
}

impl Content {
    /// A configuration of its own.
    pub(super) fn load(&self, files: &TlsConfig) -> Result<Loaded, TlsError> {
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| files.certificate_error(pem_in_words(&error)))?;
        let Some(own) = chain.first() else {
            return Err(files.certificate_error("it has no certificate in PEM"));
        };
        let (_, own) = x509_parser::parse_x509_certificate(own)
            .map_err(|error| files.certificate_error(format!("it is not X.509: {error}")))?;
        if own.version() != X509Version::V3 {
            return Err(files.certificate_error(
                "it is of an older version than X.509 v3 and cannot have a subjectAltName",
            ));
        }
        Ok(Loaded {
            facts: Facts::of(&own),
            configs: self.configs(files, &chain)?,
        })
    }

    fn configs(
        &self,
        files: &TlsConfig,
        chain: &[CertificateDer<'static>],
    ) -> Result<Configs, TlsError> {
        let asking = match files.clients.as_ref().zip(self.clients.as_ref()) {
            Some((clients, content)) => {
                let optional = content.verifier(clients, false)?;
                let required = content.verifier(clients, true)?;
                Some([
                    self.config(files, chain, Some(optional))?,
                    self.config(files, chain, Some(required))?,
                ])
            }
            None => None,
        };
        Ok(Configs {
            anonymous: self.config(files, chain, None)?,
            asking,
        })
    }

    /// `clients` judges them, where they are asked.
    fn config(
        &self,
        files: &TlsConfig,
        chain: &[CertificateDer<'static>],
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let asks = clients.is_some();
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| files.key_error(self.key_in_words(&error)))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| files.certificate_error(error.to_string()))?
            .with_client_cert_verifier(clients.unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_single_cert(chain.to_vec(), key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                files.key_error("it is not the key of the certificate")
            }
            rustls::Error::InvalidCertificate(_) => files.certificate_error(error.to_string()),
            other => files.key_error(other.to_string()),
        })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        if asks {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        } else {
            // Its keys are new with each set of files.
            let ticketer = Ticketer::new();
            config.ticketer = ticketer.map_err(|error| files.key_error(error.to_string()))?;
        }
        Ok(Arc::new(config))
    }

    fn key_in_words(&self, error: &pem::Error) -> String {
        // PKCS #8, and what OpenSSL wrote before.
        const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
        let has = |text: &[u8]| self.key.windows(text.len()).any(|part| part == text);
        if ENCRYPTED.into_iter().any(has) {
            return "it has a passphrase".to_owned();
        }
        match error {
            pem::Error::NoItemsFound => "it has no private key in PEM".to_owned(),
            other => pem_in_words(other),
        }
    }
}

fn pem_in_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "its PEM is not whole: a section has no END line".to_owned()
        }
        other => format!("it is not PEM: {other}"),
    }
}
