//! The bearer credential of a client: kept while it is good, and had anew from the file or the program that it comes
//! from.
//!
//! Holds: many streams that are refused with the same credential lead to one question to the provider, and many that
//! open at once to one or two reads of the file; at most one read is under way.
//! Does not: look into a credential, or write it anywhere.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;

use crate::token::{self, Header, Tell, Token, TokenError, TokenSource};

/// A provider that hangs must not hang its subscriber for ever.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);

/// A file on a disk that does not answer must not hold up calls for which there is a token already.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A call takes the token that was read so long ago, so that a thousand calls a second read no file a thousand times. It
/// costs nothing when the token has changed meanwhile: a token that is refused is read again at once. The
/// looks of many subscribers for a fresh token share a read, or an answer of the provider, in the same way.
const READ_AGE_MAX: Duration = Duration::from_secs(2);

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
    #[error("the credential provider gave no token: {0}")]
    NotAToken(String),
}

/// One credential as it is sent; the number tells a stale one from its successor.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    header: Header,
    version: u64,
}

impl Credential {
    /// Sends it with a call.
    pub(crate) fn send(&self, metadata: &mut MetadataMap) {
        metadata.insert("authorization", self.header.clone());
    }

    /// Whether it came after another.
    pub(crate) fn is_other_than(&self, other: Option<&Self>) -> bool {
        other.is_none_or(|other| other.version != self.version)
    }
}

/// What may help against a refused credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: it stays as it is.
    #[default]
    Nothing,
    /// Another is asked for at once.
    Asking,
    /// Another comes into the file, sooner or later.
    Waiting,
}

#[derive(Clone)]
pub(crate) struct Credentials {
    source: Source,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Clone)]
enum Source {
    /// One that does not change, or none.
    Fixed(Option<Credential>),
    File(PathBuf, Option<Tell>),
    Provider(Arc<dyn Fn() -> Asked + Send + Sync>),
}

/// What a file or a provider gave.
#[derive(Default)]
struct Kept {
    credential: Option<Credential>,
    /// When the asking for it began, for the last time.
    asked_at: Option<Instant>,
    /// The read that is under way.
    reading: Option<JoinHandle<Result<Header, TokenError>>>,
    /// That the file cannot be used was told.
    is_told: bool,
}

/// Which credential is wanted.
enum Wanted<'a> {
    /// The kept one. That of a file was read at or after this moment.
    ReadSince(Instant),
    /// Another than this one.
    OtherThan(&'a Credential),
    /// One that was asked for at or after this moment.
    AskedSince(Instant),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Fixed(None) => "none",
            Source::Fixed(Some(_)) => "fixed",
            Source::File(..) => "file",
            Source::Provider(_) => "provider",
        };
        f.debug_struct("Credentials")
            .field("source", &source)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn none() -> Self {
        Self::of(Source::Fixed(None), None)
    }

    pub(crate) fn token(token: Token) -> Self {
        let first = |header| Credential { header, version: 1 };
        match token.source {
            TokenSource::Text(header) => Self::of(Source::Fixed(Some(first(header))), None),
            TokenSource::File(path, header) => {
                Self::of(Source::File(path, token.tell), Some(first(header)))
            }
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
        Self::of(Source::Provider(Arc::new(provider)), None)
    }

    fn of(source: Source, credential: Option<Credential>) -> Self {
        let kept = Kept {
            credential,
            ..Kept::default()
        };
        Self {
            source,
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match &self.source {
            Source::Fixed(_) => Remedy::Nothing,
            Source::Provider(_) => Remedy::Asking,
            Source::File(..) => Remedy::Waiting,
        }
    }

    /// The credential to open a stream with, when this one was `refused` before; `None` when this client has none. A
    /// file is read again, and may hold the refused one still.
    pub(crate) async fn for_stream(
        &self,
        refused: Option<&Credential>,
    ) -> Result<Option<Credential>, CredentialError> {
        let wanted = match (&self.source, refused) {
            (Source::Provider(_), Some(refused)) => Wanted::OtherThan(refused),
            _ => Wanted::ReadSince(Instant::now()),
        };
        self.get(wanted).await
    }

    /// The credential of a call, over a connection that was made then.
    pub(crate) async fn for_call(
        &self,
        connected: Instant,
    ) -> Result<Option<Credential>, CredentialError> {
        let since = recently().map_or(connected, |recently| recently.max(connected));
        self.get(Wanted::ReadSince(since)).await
    }

    /// A credential that is not `refused`: the one that replaced it, or a fresh one. `None` when there is none.
    pub(crate) async fn other_than(
        &self,
        refused: &Credential,
    ) -> Result<Option<Credential>, CredentialError> {
        let other = self.get(Wanted::OtherThan(refused)).await?;
        Ok(other.filter(|other| other.is_other_than(Some(refused))))
    }

    /// A credential that is to replace `held` before that ends. `None` while there is no other.
    pub(crate) async fn fresher_than(
        &self,
        held: Option<&Credential>,
    ) -> Result<Option<Credential>, CredentialError> {
        let since = recently().unwrap_or_else(Instant::now);
        let fresh = self.get(Wanted::AskedSince(since)).await?;
        Ok(fresh.filter(|fresh| fresh.is_other_than(held)))
    }

    async fn get(&self, wanted: Wanted<'_>) -> Result<Option<Credential>, CredentialError> {
        if let Source::Fixed(credential) = &self.source {
            return Ok(credential.clone());
        }
        // Held while another is asked for, so that all waiting callers share the one answer.
        let mut kept = self.kept.lock().await;
        if !self.has(&kept, &wanted) {
            let begun = Instant::now();
            let header = match &self.source {
                Source::File(path, tell) => kept.read(path, tell.as_ref()).await,
                Source::Provider(provider) => Some(ask(&**provider).await?),
                Source::Fixed(_) => None,
            };
            kept.asked_at = Some(begun);
            if let Some(header) = header {
                let is_wanted_anew = matches!(self.source, Source::Provider(_))
                    && matches!(wanted, Wanted::OtherThan(_));
                kept.replace(header, is_wanted_anew);
            }
        }
        Ok(kept.credential.clone())
    }

    /// Whether what is kept is good enough.
    fn has(&self, kept: &Kept, wanted: &Wanted<'_>) -> bool {
        let asked_since = |since: Instant| kept.asked_at.is_some_and(|asked| asked >= since);
        let Some(credential) = &kept.credential else {
            return false;
        };
        match (&self.source, wanted) {
            (Source::Fixed(_), _) | (Source::Provider(_), Wanted::ReadSince(_)) => true,
            (_, Wanted::ReadSince(since) | Wanted::AskedSince(since)) => asked_since(*since),
            (_, Wanted::OtherThan(refused)) => credential.is_other_than(Some(refused)),
        }
    }
}

/// The moment since which a token counts as just read. `None` before the machine has run for so long.
fn recently() -> Option<Instant> {
    Instant::now().checked_sub(READ_AGE_MAX)
}

async fn ask(provider: &(dyn Fn() -> Asked + Send + Sync)) -> Result<Header, CredentialError> {
    let token = timeout(PROVIDER_TIMEOUT, provider())
        .await
        .map_err(|_elapsed| CredentialError::Timeout)?
        .map_err(CredentialError::Provider)?;
    token::header(token.as_bytes()).map_err(CredentialError::NotAToken)
}

impl Kept {
    /// Keeps what was given now. `is_other`: it counts as another even if its text is the same, so that those who were
    /// refused with the one before do not all ask.
    fn replace(&mut self, header: Header, is_other: bool) {
        let version = match &self.credential {
            Some(kept) if kept.header == header && !is_other => return,
            Some(kept) => kept.version + 1,
            None => 1,
        };
        self.credential = Some(Credential { header, version });
    }

    /// What the file holds, or nothing while it cannot be used, which is told once.
    async fn read(&mut self, path: &Path, tell: Option<&Tell>) -> Option<Header> {
        let reading = self.reading.get_or_insert_with(|| {
            let path = path.to_owned();
            tokio::task::spawn_blocking(move || token::read(&path))
        });
        // One that takes too long is waited for again later: no second thread waits for the same disk.
        let read = match timeout(READ_TIMEOUT, &mut *reading).await {
            Ok(read) => {
                self.reading = None;
                read.unwrap_or_else(|error| Err(token::error_of(path, error.to_string())))
            }
            Err(_elapsed) => Err(token::error_of(path, "the disk does not answer")),
        };
        match read {
            Ok(header) => {
                if std::mem::take(&mut self.is_told) {
                    tracing::info!(file = %path.display(), "the token file can be read again");
                }
                Some(header)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!("the token that was read last is sent on: {error}");
                    if let Some(tell) = tell {
                        tell(&error);
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
