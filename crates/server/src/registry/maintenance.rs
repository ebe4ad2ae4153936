//! Watches sessions from outside their bodies. A body is not polled while its reader takes nothing, so work that
//! depends on time cannot be left to it.
//!
//! Holds: a look goes on in steps and gives way between them, with any number of sessions.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use longlived_broker::Environment;
use parking_lot::Mutex;
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Decision, Registry, STEP, Session, pace::Untaken};
use crate::callers::Callers;
use crate::contract::{Caller, CallerError, CloseReason};

/// How often sessions are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// The watch over sessions whose reader may stall.
pub(crate) struct Maintenance {
    registry: Arc<Registry>,
    callers: Arc<Callers>,
    // Of the callers that were decided last.
    rules: AtomicU64,
    environment: Environment,
    stall_timeout: Duration,
    // Only those that asked to be disconnected when slow.
    watched: Mutex<Vec<Watched>>,
}

struct Watched {
    session: Weak<Session>,
    untaken: Untaken,
}

impl Maintenance {
    /// For the sessions of a registry.
    pub(crate) fn new(
        registry: Arc<Registry>,
        callers: Arc<Callers>,
        environment: Environment,
        stall_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            rules: AtomicU64::new(callers.rules()),
            callers,
            environment,
            stall_timeout,
            watched: Mutex::new(Vec::new()),
        })
    }

    /// Disconnects this session when its reader is slow.
    pub(crate) fn watch(&self, session: &Arc<Session>) {
        self.watched.lock().push(Watched {
            session: Arc::downgrade(session),
            untaken: Untaken::default(),
        });
    }

    /// Runs until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(WATCH_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                now = interval.tick() => self.look(now).await,
            }
        }
    }

    async fn look(&self, now: Instant) {
        self.close_slow(now).await;
        self.decide_again().await;
        let turn = || self.registry.turn(&self.environment);
        if self.callers.are_checked() {
            self.registry.look_ahead(now).await;
        }
        while self.registry.mind_credentials(now, STEP, turn) {
            yield_now().await;
        }
        while self.registry.mind_ages(now, STEP, turn) {
            yield_now().await;
        }
        while let Some(overdue) = self.registry.closing().take_overdue(now, STEP) {
            for session in overdue.iter().filter(|session| session.is_deaf()) {
                session.reset();
            }
            yield_now().await;
        }
        while self.registry.look_again(now, STEP) {
            yield_now().await;
        }
    }

    /// Newer rules hold for live streams too.
    async fn decide_again(&self) {
        let rules = self.callers.rules();
        if self.rules.swap(rules, Ordering::Relaxed) != rules {
            let again = |caller: &Arc<Caller>| self.decide(caller);
            self.registry.decide_again(again).await;
        }
    }

    /// What the present rules make of a caller.
    pub(crate) fn decide(&self, caller: &Arc<Caller>) -> Decision {
        match self.callers.again(caller) {
            Ok(again) if again.rights == caller.rights && again.expires() == caller.expires() => {
                Decision::Same
            }
            Ok(again) => Decision::GoesOn(again),
            Err(CallerError::Refused(refused)) if refused.is_revoked() => {
                Decision::Ends(CloseReason::Revoked)
            }
            // Another credential may do.
            Err(_) => Decision::Ends(CloseReason::CredentialExpired {
                reconnect_after: self.registry.turn(&self.environment),
            }),
        }
    }

    /// Decides a stream that has just begun or was renewed, if its caller is one of older rules: the look at all may have missed it.
    pub(crate) fn decide_new(&self, session: &Arc<Session>) {
        if !session.is_checked() {
            return;
        }
        let caller = session.caller();
        if caller.rules() != self.callers.rules() {
            self.registry.apply(session, &caller, &self.decide(&caller));
        }
    }

    /// Tells slow readers to go. A reader that cannot hear it is reset when its grace is over.
    async fn close_slow(&self, now: Instant) {
        let mut looked_at = std::mem::take(&mut *self.watched.lock());
        let mut kept = 0;
        for index in 0..looked_at.len() {
            if self.stays(&mut looked_at[index], now) {
                looked_at.swap(kept, index);
                kept += 1;
            }
            if (index + 1).is_multiple_of(STEP) {
                yield_now().await;
            }
        }
        looked_at.truncate(kept);
        let mut watched = self.watched.lock();
        // Those that came meanwhile.
        looked_at.append(&mut watched);
        *watched = looked_at;
    }

    fn stays(&self, watched: &mut Watched, now: Instant) -> bool {
        let Some(session) = watched.session.upgrade() else {
            return false;
        };
        let behind = session.behind();
        let slow = watched.untaken.lasts(behind, now, self.stall_timeout);
        if slow {
            session.close(CloseReason::slow(&self.environment));
        }
        !slow
    }
}
