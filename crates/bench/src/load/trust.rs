//! What all connections of the load share of TLS: whom they trust, and their tickets.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::control::{TlsPlan, Trust};
use super::tickets::Tickets;

/// Of TLS 1.3 alone, which every server that is measured speaks.
pub(super) fn config(
    plan: &TlsPlan,
    tickets: Option<&Arc<Tickets>>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3")?;
    let builder = match &plan.trust {
        Trust::Certificate(pem) => {
            let expected = CertificateDer::from_pem_slice(pem.as_bytes())
                .context("the certificate of the server")?;
            let expected = Expected { expected, provider };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(expected))
        }
        Trust::Authorities(pem) => builder.with_root_certificates(authorities(pem)?),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = match tickets {
        Some(tickets) => Resumption::store(Arc::clone(tickets) as _),
        None => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

pub(super) fn server_name(name: &str) -> anyhow::Result<ServerName<'static>> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.with_context(|| format!("`{name}` is no name that a certificate can have"))
}

/// Of a file in PEM.
pub(crate) fn authorities(pem: &str) -> anyhow::Result<RootCertStore> {
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        trusted.add(certificate?)?;
    }
    ensure!(!trusted.is_empty(), "it has no certificate in PEM");
    Ok(trusted)
}

/// Takes the one certificate that the bench has made, by its bytes. No signature is checked: see [`Trust::Certificate`].
#[derive(Debug)]
struct Expected {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherError(Arc::new(AnotherCertificate));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is not the one that the bench made for it")]
struct AnotherCertificate;
