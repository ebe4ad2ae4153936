//! Sessions of callers whose credential expires, in the order of what is to be done about it.
//!
//! Holds: a session is in here once, from its begin to its end or to that of its credential. Those of callers that do not expire
//! are not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::Session;

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It hears when its credential expires, in time to renew it.
    Notice,
    /// It ends.
    End,
}

/// The sessions of a node whose credential expires.
#[derive(Default)]
pub(super) struct Expiring(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    // The generation tells those of one moment apart.
    in_order: BTreeMap<(Instant, u64), (Arc<Session>, Stage)>,
    // When a session, by its generation, comes next.
    next: HashMap<u64, Instant, FxBuildHasher>,
}

impl Sessions {
    fn remove(&mut self, generation: u64) {
        if let Some(at) = self.next.remove(&generation) {
            self.in_order.remove(&(at, generation));
        }
    }

    fn insert(&mut self, at: Instant, session: Arc<Session>, stage: Stage) {
        self.next.insert(session.generation, at);
        let key = (at, session.generation);
        self.in_order.insert(key, (session, stage));
    }
}

impl Expiring {
    /// A session has begun.
    pub(super) fn add(&self, session: &Arc<Session>, now: Instant) {
        if !session.is_checked() {
            return;
        }
        let caller = session.caller();
        if let Some(expires) = caller.expires() {
            let notice = notice(now, expires, session.generation);
            let mut sessions = self.0.lock();
            sessions.insert(notice, session.clone(), Stage::Notice);
        }
    }

    /// A session goes on with another caller.
    pub(super) fn renew(&self, session: &Arc<Session>, now: Instant) {
        let expires = session.caller().expires();
        let mut sessions = self.0.lock();
        sessions.remove(session.generation);
        if let Some(expires) = expires {
            let notice = notice(now, expires, session.generation);
            sessions.insert(notice, session.clone(), Stage::Notice);
        }
    }

    /// A session has ended.
    pub(super) fn remove(&self, session: &Session) {
        if !session.is_checked() {
            return;
        }
        self.0.lock().remove(session.generation);
    }

    /// Takes what is to be done by now, at most `limit`. A session that hears of its credential comes once more, at its end.
    pub(super) fn take(&self, now: Instant, limit: usize) -> Vec<(Arc<Session>, Stage)> {
        let mut sessions = self.0.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(first) = sessions.in_order.first_entry()
            && first.key().0 <= now
        {
            let (session, stage) = first.remove();
            sessions.next.remove(&session.generation);
            if stage == Stage::Notice
                && let Some(ends) = session.caller().ends()
            {
                sessions.insert(ends, session.clone(), Stage::End);
            }
            taken.push((session, stage));
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let sessions = self.0.lock();
        assert_eq!(sessions.next.len(), sessions.in_order.len());
        sessions.next.len()
    }
}

/// When 75 to 85 % of the time that is left have passed. Which of them is the session's own, so that a fleet that came together does not
/// renew together.
fn notice(now: Instant, expires: Instant, generation: u64) -> Instant {
    // The golden ratio spreads numbers that follow each other (Knuth, The Art of Computer Programming 3, 6.4).
    let spread = generation.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
    let left = expires.saturating_duration_since(now);
    let share = 0.75 + 0.10 * (spread as f64 / 1_024.0);
    now + Duration::from_secs_f64(left.as_secs_f64() * share)
}
