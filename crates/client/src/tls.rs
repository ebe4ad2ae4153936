//! TLS toward a server: whose certificates are trusted, and the handshake over any connection.
//!
//! Holds: a server without a trusted certificate of its name gets no byte of a call.

use std::io;
use std::sync::{Arc, OnceLock};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::{Service, ServiceExt as _};

/// What a connection is made of, and why not.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Settings of TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TlsError {
    reason: String,
}

impl TlsError {
    fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { reason }
    }

    fn of(error: &impl std::error::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// How a client knows a server over `https://`. Without settings: by a certificate that this system trusts, for the host
/// of the address.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// `None` for those of the system.
    trusted: Option<Arc<RootCertStore>>,
    /// `None` for the host of the address.
    server_name: Option<ServerName<'static>>,
    /// What this client shows.
    own: Option<Arc<Own>>,
}

/// A certificate with those of its authorities, and its key.
#[derive(Debug)]
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsOptions {
    /// Trusts the authorities in `pem`, and no others: one certificate or several, in PEM.
    pub fn trust(mut self, pem: &[u8]) -> Result<Self, TlsError> {
        let mut trusted = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| TlsError::of(&error))?;
            let added = trusted.add(certificate);
            added.map_err(|error| TlsError::of(&error))?;
        }
        if trusted.is_empty() {
            return Err(TlsError::new("it has no certificate in PEM"));
        }
        self.trusted = Some(Arc::new(trusted));
        Ok(self)
    }

    /// Shows this certificate to a server that asks for one: the client's own, then those of its authorities, and its
    /// private key, both in PEM.
    pub fn identity(mut self, certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| TlsError::of(&error))?;
        if chain.is_empty() {
            return Err(TlsError::new("it has no certificate in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|error| TlsError::new(format!("the key: {error}")))?;
        let own = Own { chain, key };
        // A key of another certificate is found here, and not at the first dial.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let signing = provider.key_provider.load_private_key(own.key.clone_key());
        let signing = signing.map_err(|error| TlsError::of(&error))?;
        let certified = CertifiedKey::new(own.chain.clone(), signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(TlsError::new("the key is not that of the certificate")),
        }
        self.own = Some(Arc::new(own));
        Ok(self)
    }

    /// Expects a certificate of this name, a DNS name or an IP address, instead of the host of the address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let parsed = ServerName::try_from(name.to_owned());
        let no_name = |_| TlsError::new(format!("`{name}` is no DNS name and no IP address"));
        self.server_name = Some(parsed.map_err(no_name)?);
        Ok(self)
    }
}

/// Makes the connections to one server TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    options: TlsOptions,
    name: ServerName<'static>,
    /// Made at the first dial: reading the certificates of the system takes some milliseconds.
    config: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl Tls {
    /// For the server at that address, or the mistake in its host.
    pub(crate) fn new(uri: &Uri, options: TlsOptions) -> Result<Self, String> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match &options.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|_| format!("its host `{host}` is no name that a certificate can have"))?,
        };
        Ok(Self {
            options,
            name,
            config: Arc::default(),
        })
    }

    /// A connector that dials as `connector` does and then makes the handshake.
    pub(crate) fn over<C, S>(
        &self,
        connector: C,
    ) -> impl Service<Uri, Response = TokioIo<TlsStream<S>>, Error = BoxError, Future: Send>
    + Send
    + use<C, S>
    where
        C: Service<Uri, Response = TokioIo<S>, Error: Into<BoxError>, Future: Send> + Send,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let tls = self.clone();
        let connector = connector.map_err(Into::into);
        connector.and_then(move |socket: TokioIo<S>| {
            let tls = tls.clone();
            async move {
                let connector = TlsConnector::from(tls.config().await?);
                let socket = connector.connect(tls.name, socket.into_inner()).await;
                Ok(TokioIo::new(socket.map_err(|error| in_words(&error))?))
            }
        })
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, BoxError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let trusted = match &self.options.trusted {
            Some(trusted) => Arc::clone(trusted),
            // Some hundred files.
            None => Arc::new(tokio::task::spawn_blocking(of_the_system).await??),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_root_certificates(trusted);
        let mut config = match &self.options.own {
            Some(own) => config.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

fn of_the_system() -> Result<RootCertStore, BoxError> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(found.certs);
    if trusted.is_empty() {
        let why = found.errors.first();
        let why = why.map_or(String::new(), |error| format!(" ({error})"));
        let text =
            format!("TLS: this system trusts no certificate{why}: name the server's authority");
        return Err(text.into());
    }
    Ok(trusted)
}

/// The alert of a server, in words, if the error is one.
pub(crate) fn alert_in_words(error: &io::Error) -> Option<String> {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::AlertReceived(_))).then(|| in_words(error))
}

/// What a person can do about it, where the handshake says only what it saw.
fn in_words(error: &io::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let said = match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the server's certificate is of an authority that is not trusted"
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "the server's certificate has ended",
        Some(Error::InvalidCertificate(CertificateError::Other(_))) if is_an_authority(error) => {
            "the server's certificate is one of an authority (CA:TRUE), and not of a server"
        }
        Some(Error::InvalidMessage(_)) => "the server does not speak TLS",
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "the server does not speak HTTP/2"
        }
        Some(Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            "the server asks for a certificate of the client"
        }
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => {
            "the server speaks neither TLS 1.2 nor 1.3"
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection in the handshake; it may not speak TLS, be ending, or take no more connections"
        }
        _ => return format!("TLS: {error}"),
    };
    format!("TLS: {said}")
}

/// The cause has a type of a library below rustls.
fn is_an_authority(error: &io::Error) -> bool {
    error.to_string().contains("CaUsedAsEndEntity")
}
