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
use x509_parser::time::ASN1Time;

use super::Tls;
use super::certificate::{Facts, Loaded};
use super::files::{Content, Fingerprint, TlsError};
use crate::limits;

impl Tls {
    /// Makes it read the files at once.
    pub(crate) fn reload_asked(&self) -> Arc<Notify> {
        Arc::clone(&self.asked)
    }

    /// Looks for new files until it is told to stop.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                asked = timeout(limits::RELOAD_INTERVAL, self.asked.notified()) => asked.is_ok(),
            };
            let looked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            match looked {
                Look::Same if !asked => {}
                looked => {
                    let trouble = self.current.lock().trouble.clone();
                    looked.say(trouble.as_deref());
                }
            }
        }
    }

    /// One look, however long it takes: another one beside it would wait for the same disk. Where the node ends meanwhile, its thread
    /// is left to the end of the runtime, since nothing ends a read.
    async fn look(self: &Arc<Self>) -> Look {
        let tls = Arc::clone(self);
        let mut look = tokio::task::spawn_blocking(move || tls.read_again());
        let looked = if let Ok(looked) = timeout(limits::RELOAD_READ_TIMEOUT, &mut look).await {
            looked
        } else {
            let trouble = self.files.not_read();
            tracing::warn!(error = %trouble, "the certificate cannot be read");
            self.current.lock().trouble = Some(trouble.to_string());
            look.await
        };
        looked.unwrap_or_else(|error| {
            tracing::error!(%error, "reading the certificate failed");
            Look::Same
        })
    }

    fn read_again(&self) -> Look {
        let (seen, _) = self.files.read();
        if self.is_in_use(seen) {
            return Look::Same;
        }
        let (seen, content) = self.files.read_settled();
        let is_loaded = seen == self.current.lock().loaded;
        // Also files that could not be used before: a certificate begins after a while.
        let loaded = (!is_loaded).then(|| content.and_then(|content| self.usable(&content)));
        let mut current = self.current.lock();
        match loaded {
            // The files of the one that goes on are back.
            None => {
                current.trouble = None;
                Look::Back
            }
            Some(Ok(new)) => {
                current.trouble = None;
                current.loaded = seen;
                current.not_after = new.facts.not_after;
                current.configs = new.configs;
                Look::New(new.facts)
            }
            Some(Err(error)) => {
                let error = error.to_string();
                let before = current.trouble.replace(error.clone());
                if before == Some(error) {
                    Look::Same
                } else {
                    Look::Unusable
                }
            }
        }
    }

    /// Whether these are the files of the certificate that holds, as they were all the time.
    fn is_in_use(&self, seen: Fingerprint) -> bool {
        let current = self.current.lock();
        current.loaded == seen && current.trouble.is_none()
    }

    /// One that has ended or has not begun is no better than one that holds. Where that has ended too, the files are taken for what
    /// they say of clients.
    fn usable(&self, content: &Content) -> Result<Loaded, TlsError> {
        let loaded = content.load(&self.files)?;
        let holds = self.not_after() > ASN1Time::now().timestamp();
        match &loaded.facts.invalid_now {
            Some(reason) if holds => Err(self.files.certificate_error(reason.clone())),
            _ => Ok(loaded),
        }
    }
}

/// What became of a look at the files.
enum Look {
    /// They are as they were when they were read last.
    Same,
    /// They are again those of the certificate that holds.
    Back,
    New(Facts),
    Unusable,
}

impl Look {
    fn say(&self, trouble: Option<&str>) {
        match (self, trouble) {
            (Self::New(new), _) => {
                let (subject, not_after) = (&new.subject, &new.end);
                tracing::info!(%subject, %not_after, "a new certificate holds for new connections");
                new.warn();
            }
            (_, Some(error)) => {
                tracing::warn!(%error, "the new certificate cannot be used: the one before goes on");
            }
            (Self::Back, None) => {
                tracing::info!("the files are those of the certificate that holds, again");
            }
            (Self::Same | Self::Unusable, None) => {
                tracing::info!("the files of the certificate have not changed");
            }
        }
    }
}
