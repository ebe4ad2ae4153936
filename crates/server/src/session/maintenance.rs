//! Watches sessions from outside their bodies: a body is not polled while its reader takes nothing, so what
//! depends on time cannot be left to it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{CloseReason, Session};
use crate::registry::Registry;

/// How often sessions are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// How often the registry is swept, in looks.
const SWEEP_IN: u32 = 10;

/// The watch over sessions whose reader may stall.
pub(crate) struct Maintenance {
    registry: Arc<Registry>,
    stall_timeout: Duration,
    // Only those that asked to be disconnected when slow.
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    session: Weak<Session>,
    // Its last poll, and when something was first seen to be due since.
    untaken: Option<(u64, Instant)>,
}

impl Watched {
    /// Whether the reader has taken nothing for so long. A reader that was idle is not slow when something becomes
    /// due: time counts from where the watch first saw it.
    fn has_stalled(&mut self, session: &Session, now: Instant, limit: Duration) -> bool {
        let since = match (session.untaken_since_poll(), self.untaken) {
            (None, _) => {
                self.untaken = None;
                return false;
            }
            (Some(poll), Some((seen, since))) if poll == seen => since,
            (Some(poll), _) => {
                self.untaken = Some((poll, now));
                now
            }
        };
        now.saturating_duration_since(since) >= limit
    }
}

impl Maintenance {
    /// For the sessions of a registry.
    pub(crate) fn new(registry: Arc<Registry>, stall_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            registry,
            stall_timeout,
            watched: Mutex::new(Vec::new()),
        })
    }

    /// Disconnects this session when its reader stalls.
    pub(crate) fn watch(&self, session: &Arc<Session>) {
        self.watched.lock().push(Watched {
            session: Arc::downgrade(session),
            untaken: None,
        });
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(WATCH_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0u32;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                now = interval.tick() => {
                    self.disconnect_stalled(now);
                    looks += 1;
                    if looks.is_multiple_of(SWEEP_IN) {
                        self.registry.sweep(now);
                    }
                }
            }
        }
    }

    fn disconnect_stalled(&self, now: Instant) {
        let limit = self.stall_timeout;
        self.watched.lock().retain_mut(|watched| {
            let Some(session) = watched.session.upgrade() else {
                return false;
            };
            let stalled = watched.has_stalled(&session, now, limit);
            if stalled {
                session.close(CloseReason::slow());
                session.reset();
            }
            !stalled
        });
    }
}
