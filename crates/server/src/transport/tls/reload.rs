//! New certificates: the files are read again when somebody asks, and every few seconds.
//!
//! Their content is compared, and not their times: a secret that Kubernetes mounts is a symbolic link that is switched, of
//! which a watch on the file learns nothing.
//!
//! Holds: files that cannot be used change nothing but a metric and one line of the log; connections that are open go on.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::certificate::{Fingerprint, Loaded, TlsError};
use super::{Current, Tls};
use crate::limits;

/// Makes a node read the files of its certificate at once, as on SIGHUP.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Arc<Notify>);

impl ReloadHandle {
    /// Does not wait: the log says what became of it.
    pub fn reload(&self) {
        self.0.notify_one();
    }
}

impl Tls {
    pub(crate) fn reload_handle(&self) -> ReloadHandle {
        ReloadHandle(Arc::clone(&self.asked))
    }

    /// Looks for new files until it is told to stop.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                asked = timeout(limits::TLS_FILES_INTERVAL, self.asked.notified()) => asked.is_ok(),
            };
            let tls = Arc::clone(&self);
            // Files may be on a disk that does not answer.
            let read = tokio::task::spawn_blocking(move || tls.read_again());
            match read.await {
                Ok(Some(outcome)) => say(&outcome),
                Ok(None) if asked => {
                    tracing::info!("the files of the certificate have not changed");
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "reading the certificate failed"),
            }
        }
    }

    /// `None` where the files are as they were when they were read last.
    fn read_again(&self) -> Option<Result<i64, TlsError>> {
        let (seen, content) = self.files.read();
        if self.current.lock().seen == seen {
            return None;
        }
        let loaded = content.and_then(|content| content.load(&self.files));
        Some(self.take(seen, loaded))
    }

    fn take(&self, seen: Fingerprint, loaded: Result<Loaded, TlsError>) -> Result<i64, TlsError> {
        let mut current = self.current.lock();
        match loaded {
            Ok(Loaded { config, not_after }) => {
                *current = Current {
                    config,
                    not_after,
                    seen,
                    is_stale: false,
                };
                Ok(not_after)
            }
            Err(error) => {
                current.seen = seen;
                current.is_stale = true;
                Err(error)
            }
        }
    }
}

fn say(outcome: &Result<i64, TlsError>) {
    match outcome {
        Ok(not_after) => {
            tracing::info!(not_after, "a new certificate holds for new connections");
        }
        Err(error) => {
            tracing::warn!(%error, "the new certificate cannot be used: the one before goes on");
        }
    }
}
