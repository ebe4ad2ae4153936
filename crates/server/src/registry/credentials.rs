//! What the credentials of callers, and newer rules, mean for live sessions.
//!
//! Holds: a session keeps its principal; only the rights of its caller and the end of its credential change.

use std::{sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use tokio::{task::yield_now, time::Instant};

use super::{Registry, STEP, Session, expiring::Stage};
use crate::contract::{Caller, CloseReason};

/// What newer rules make of a live caller.
pub(crate) enum Decision {
    /// It may do what it might do before: no stream is disturbed.
    Same,
    /// Its streams go on as this one's, with those of their filters that it may follow.
    GoesOn(Arc<Caller>),
    /// Its streams end.
    Ends(CloseReason),
}

impl Registry {
    /// Does what the credentials of callers ask for by now, at most `limit` times: a stream hears that its own expires, and ends when it has.
    /// `turn` is asked for each that ends, when its client shall come back. Returns whether there is more.
    pub(crate) fn mind_credentials(
        &self,
        now: Instant,
        limit: usize,
        turn: impl Fn() -> Duration,
    ) -> bool {
        let due = self.expiring.take(now, limit);
        for (session, stage) in &due {
            match stage {
                Stage::Notice => session.remind(),
                // It may have another credential since it was looked through.
                Stage::End if session.caller().ends().is_none_or(|end| end > now) => {}
                Stage::End => {
                    let reconnect_after = turn();
                    session.close(CloseReason::CredentialExpired { reconnect_after });
                }
            }
        }
        due.len() == limit
    }

    /// Looks all sessions through for those whose credential ends within the next while, once in a while.
    pub(crate) async fn look_ahead(&self, now: Instant) {
        let Some(window) = self.expiring.next_window(now) else {
            return;
        };
        for (index, session) in self.sessions().iter().enumerate() {
            if session.is_checked() {
                self.expiring.look(session, window);
            }
            if (index + 1).is_multiple_of(STEP) {
                yield_now().await;
            }
        }
    }

    /// A session goes on with this caller, of the same principal and another credential, as its client has asked.
    pub(crate) fn renew(&self, session: &Arc<Session>, caller: Arc<Caller>) {
        session.set_caller(caller);
        self.expire(session);
    }

    /// Its place among those that expire is that of its caller now.
    fn expire(&self, session: &Arc<Session>) {
        self.expiring.renew(session);
        // One that has ended meanwhile has left that place before, or does so after it has left its own.
        let sessions = self.sessions_of(&session.key());
        if !sessions
            .iter()
            .any(|one| one.generation == session.generation)
        {
            self.expiring.remove(session);
        }
    }

    /// Decides all live callers again, by `again`.
    pub(crate) async fn decide_again(&self, again: impl Fn(&Arc<Caller>) -> Decision) {
        // Most streams share their caller with others, which is known by its address. It is kept, so that no other comes to lie there.
        let mut decided: FxHashMap<usize, (Arc<Caller>, Decision)> = FxHashMap::default();
        for (index, session) in self.sessions().iter().enumerate() {
            let caller = session.caller();
            let (caller, decision) =
                decided
                    .entry(Arc::as_ptr(&caller).addr())
                    .or_insert_with(|| {
                        let decision = again(&caller);
                        (caller, decision)
                    });
            self.apply(session, caller, decision);
            if (index + 1).is_multiple_of(STEP) {
                yield_now().await;
            }
        }
    }

    /// Applies what was decided of a session's caller, unless it has another by now, whose token was verified under the new rules.
    pub(super) fn apply(&self, session: &Arc<Session>, of: &Arc<Caller>, decision: &Decision) {
        match decision {
            Decision::Same => {}
            Decision::GoesOn(caller) => {
                if session.replace_caller(of, caller) {
                    self.expire(session);
                    // A reader that takes nothing cannot be told, and may have lost all its filters.
                    self.closing.note(session);
                }
            }
            Decision::Ends(reason) => {
                if Arc::ptr_eq(&session.caller(), of) {
                    session.close(*reason);
                }
            }
        }
    }
}
