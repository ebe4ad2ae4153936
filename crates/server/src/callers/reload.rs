//! New rules: the auth file is read again when somebody asks, and every few seconds.
//!
//! Holds: a file that cannot be used changes nothing but a metric and one line of the log.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use longlived_identity::{AuthFileError, AuthRules};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Callers, Checked, Current};
use crate::limits;

impl Callers {
    /// Makes it read the file at once; `None` where there is none.
    pub(crate) fn reload_asked(&self) -> Option<Arc<Notify>> {
        Some(self.checked.as_ref()?.asked.clone())
    }

    /// Looks for new rules until it is told to stop.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Some(checked) = &self.checked else {
            stop.cancelled().await;
            return;
        };
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                asked = timeout(limits::RELOAD_INTERVAL, checked.asked.notified()) => asked.is_ok(),
            };
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                read = checked.look() => read,
            };
            match read {
                Ok(rules) => checked.take(rules, asked),
                Err(error) => checked.keep(&error, asked),
            }
        }
    }
}

/// The rules of a file, when two looks at it agree.
pub(crate) async fn read_settled(path: &Path) -> Result<AuthRules, String> {
    settled(path, read(path).await?).await
}

async fn settled(path: &Path, mut seen: AuthRules) -> Result<AuthRules, String> {
    for _ in 0..limits::RELOAD_SETTLE_TRIES {
        sleep(limits::RELOAD_SETTLE).await;
        let again = read(path).await?;
        if again.fingerprint() == seen.fingerprint() {
            return Ok(again);
        }
        seen = again;
    }
    Err("it changes all the time".to_owned())
}

/// Files wait for a disk.
async fn read(path: &Path) -> Result<AuthRules, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || AuthRules::read(&path));
    let read = read.await.map_err(|error| error.to_string())?;
    read.map_err(|error: AuthFileError| error.to_string())
}

impl Checked {
    /// One look, however long it takes: another one beside it would wait for the same disk.
    async fn look(&self) -> Result<AuthRules, String> {
        let mut look = pin!(self.read_settled());
        if let Ok(looked) = timeout(limits::RELOAD_READ_TIMEOUT, &mut look).await {
            return looked;
        }
        self.keep("it cannot be read: the disk does not answer", false);
        look.await
    }

    /// Reads until two looks agree: a file that is being written may read as one with fewer rules, such as without its last `deny`.
    async fn read_settled(&self) -> Result<AuthRules, String> {
        let present = self.current().rules.fingerprint();
        let seen = read(&self.path).await?;
        if seen.fingerprint() == present {
            return Ok(seen);
        }
        settled(&self.path, seen).await
    }

    fn take(&self, rules: AuthRules, asked: bool) {
        let was_stale = self.trouble.lock().take().is_some();
        let before = self.current();
        if before.rules.fingerprint() == rules.fingerprint() {
            if was_stale {
                tracing::info!("the auth file is again as it was when it was read last");
            } else if asked {
                tracing::info!("the auth file has not changed");
            }
            return;
        }
        let number = before.number + 1;
        *self.current.write() = Arc::new(Current::new(rules, number));
        tracing::info!(
            number,
            "a new auth file holds; live callers are decided again"
        );
    }

    fn keep(&self, error: &str, asked: bool) {
        let before = self.trouble.lock().replace(error.to_owned());
        if asked || before.as_deref() != Some(error) {
            tracing::warn!(%error, "the new auth file cannot be used: the rules before go on");
        }
    }
}
