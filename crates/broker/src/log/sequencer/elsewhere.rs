//! The events that other nodes append to the same log, as the store hands them out.
//!
//! Holds: a failure that passes is counted, logged and followed by another attempt after a pause that doubles up to a
//! limit; a failure that is final ends the log.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, pending},
};
use tokio::time::{Instant, sleep};

use crate::{
    frame::Frames,
    log::{Shared, warnings},
    store::{AppendError, ElsewhereError},
};

/// The pause after the first failure in a row; each further one doubles it ...
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Elsewhere {
    shared: Arc<Shared>,
    waiting: BoxFuture<'static, Result<Arc<Frames>, ElsewhereError>>,
    // The pause before the attempt that runs; zero when the last one succeeded.
    pause: Duration,
    // When the attempt that runs began, or will after its pause.
    since: Instant,
    warned: Option<Instant>,
}

impl Elsewhere {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            waiting: shared.store.appended_elsewhere(),
            shared,
            pause: Duration::ZERO,
            since: Instant::now(),
            warned: None,
        }
    }

    /// The next events of other nodes. They have to be shown before it is polled again.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arc<Frames>, AppendError>> {
        loop {
            match ready!(self.waiting.poll_unpin(cx)) {
                Ok(frames) => {
                    if !std::mem::take(&mut self.pause).is_zero() {
                        tracing::info!("events of other nodes arrive again");
                    }
                    self.waiting = self.shared.store.appended_elsewhere();
                    self.since = Instant::now();
                    return Poll::Ready(Ok(frames));
                }
                Err(ElsewhereError::Broken(why)) => {
                    return Poll::Ready(Err(AppendError::Broken(why)));
                }
                Err(error @ ElsewhereError::Unavailable(_)) => self.try_again(&error),
            }
        }
    }

    /// There is nothing more. A failure that was final must be followed by this if the log goes on for a while.
    pub(super) fn end(&mut self) {
        self.waiting = pending().boxed();
    }

    fn try_again(&mut self, error: &ElsewhereError) {
        let failures = &self.shared.elsewhere_failures;
        failures.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        // An attempt that waited for long is no failure in a row with the one before it.
        if now.saturating_duration_since(self.since) > PAUSE_MAX {
            self.pause = Duration::ZERO;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        if warnings::may_warn(&mut self.warned, now) {
            tracing::warn!(%error, again_in = ?self.pause, "events of other nodes do not arrive");
        }
        self.since = now + self.pause;
        let (shared, pause) = (self.shared.clone(), self.pause);
        let waiting = async move {
            sleep(pause).await;
            shared.store.appended_elsewhere().await
        };
        self.waiting = waiting.boxed();
    }
}
