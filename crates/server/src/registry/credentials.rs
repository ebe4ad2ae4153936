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
    /// It is not let in any more.
    Revoked,
    /// Its credential has expired.
    Expired,
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
                Stage::End => {
                    let reconnect_after = turn();
                    session.close(CloseReason::CredentialExpired { reconnect_after });
                }
            }
        }
        due.len() == limit
    }

    /// A session goes on with this caller, of the same principal: of another credential, or of other rules.
    pub(crate) fn renew(&self, session: &Arc<Session>, caller: Arc<Caller>) {
        self.expiring.remove(session);
        session.set_caller(caller);
        self.expiring.add(session, Instant::now());
    }

    /// Decides all live callers again, by `again`. A caller that is not let in again has its streams ended.
    pub(crate) async fn decide_again(&self, again: impl Fn(&Arc<Caller>) -> Decision) {
        // Most streams share their caller with others, which is known by its address. It is kept, so that no other comes to lie there.
        let mut decided: FxHashMap<usize, (Arc<Caller>, Decision)> = FxHashMap::default();
        for (index, session) in self.sessions().iter().enumerate() {
            let caller = session.caller();
            let (_, decision) = decided
                .entry(Arc::as_ptr(&caller).addr())
                .or_insert_with(|| {
                    let decision = again(&caller);
                    (caller, decision)
                });
            self.apply(session, decision);
            if (index + 1).is_multiple_of(STEP) {
                yield_now().await;
            }
        }
    }

    /// The same of one that has just begun.
    pub(crate) fn apply(&self, session: &Arc<Session>, decision: &Decision) {
        match decision {
            Decision::GoesOn(caller) => self.renew(session, caller.clone()),
            Decision::Revoked => session.close(CloseReason::Revoked),
            // An expired one ends at its time.
            Decision::Same | Decision::Expired => {}
        }
    }
}
