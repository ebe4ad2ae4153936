//! The bearer credential of a client: asked for once, kept, and asked for anew when the server refuses it.
//!
//! Holds: many streams that are refused with the same credential lead to one question to the provider.
//! Does not: look into a credential, or write it anywhere.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

/// A provider that hangs must not hang its subscriber for ever.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;
type Asked = Pin<Box<dyn Future<Output = Result<String, BoxError>> + Send>>;

/// Why no credential could be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The provider reported an error.
    #[error("the credential provider failed: {0}")]
    Provider(#[source] BoxError),
    /// The provider took longer than 30 s.
    #[error("the credential provider did not answer within 30 s")]
    Timeout,
    /// The provider's token cannot stand in an `authorization` header.
    #[error("the credential has characters that a header cannot carry")]
    NotAHeader,
}

/// One credential as it is sent; the number tells a stale one from its successor.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) header: MetadataValue<Ascii>,
    version: u64,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    provider: Option<Arc<dyn Fn() -> Asked + Send + Sync>>,
    kept: Arc<Mutex<Option<Credential>>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("provider", &self.provider.is_some())
            .finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn none() -> Self {
        Self {
            provider: None,
            kept: Arc::default(),
        }
    }

    pub(crate) fn provided<F, Fut, E>(provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let provider = move || -> Asked {
            let asked = provider();
            Box::pin(async move { asked.await.map_err(Into::into) })
        };
        Self {
            provider: Some(Arc::new(provider)),
            kept: Arc::default(),
        }
    }

    /// True when a refused credential can be replaced at all.
    pub(crate) fn can_refresh(&self) -> bool {
        self.provider.is_some()
    }

    /// The credential to send; `None` when this client has none.
    pub(crate) async fn current(&self) -> Result<Option<Credential>, CredentialError> {
        self.other_than(None).await
    }

    /// A credential that is not `refused`: the one that replaced it, or a fresh one.
    pub(crate) async fn other_than(
        &self,
        refused: Option<&Credential>,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(provider) = &self.provider else {
            return Ok(None);
        };
        // Held while the provider is asked, so that all waiting callers share the one answer.
        let mut kept = self.kept.lock().await;
        if let Some(credential) = kept.as_ref()
            && refused.is_none_or(|refused| refused.version != credential.version)
        {
            return Ok(Some(credential.clone()));
        }
        let token = tokio::time::timeout(PROVIDER_TIMEOUT, provider())
            .await
            .map_err(|_elapsed| CredentialError::Timeout)?
            .map_err(CredentialError::Provider)?;
        let mut header: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_invalid| CredentialError::NotAHeader)?;
        header.set_sensitive(true);
        let version = kept.as_ref().map_or(1, |credential| credential.version + 1);
        let credential = Credential { header, version };
        *kept = Some(credential.clone());
        Ok(Some(credential))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counting() -> (Credentials, Arc<AtomicU32>) {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let credentials = Credentials::provided(move || {
            let turn = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, BoxError>(format!("token-{turn}")) }
        });
        (credentials, asked)
    }

    #[tokio::test]
    async fn a_credential_is_asked_for_once_and_kept() {
        let (credentials, asked) = counting();
        for _ in 0..3 {
            let credential = credentials.current().await.unwrap().unwrap();
            assert_eq!(credential.header.to_str().unwrap(), "Bearer token-0");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn many_refusals_of_one_credential_ask_for_one_fresh_one() {
        let (credentials, asked) = counting();
        let refused = credentials.current().await.unwrap().unwrap();
        for _ in 0..5 {
            let fresh = credentials
                .other_than(Some(&refused))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(fresh.header.to_str().unwrap(), "Bearer token-1");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_is_given_up() {
        let credentials = Credentials::provided(std::future::pending::<Result<String, BoxError>>);
        assert!(matches!(
            credentials.current().await,
            Err(CredentialError::Timeout)
        ));
    }

    #[tokio::test]
    async fn a_credential_never_shows_in_debug_output() {
        let (credentials, _) = counting();
        let credential = credentials.current().await.unwrap().unwrap();
        assert!(!format!("{credentials:?} {:?}", credential.header).contains("token"));
    }
}
