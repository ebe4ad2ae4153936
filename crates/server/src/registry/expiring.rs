//! Sessions of callers whose credential expires, in the order of what is to be done about it.
//!
//! Holds: a session is in here once, from its begin to its end or to that of its credential. Those of callers that do not expire
//! are not.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Session, timetable::Timetable};
use crate::age;

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
pub(super) struct Expiring(Timetable<Stage>);

impl Expiring {
    /// A session has begun.
    pub(super) fn add(&self, session: &Arc<Session>, now: Instant) {
        if !session.is_checked() {
            return;
        }
        let caller = session.caller();
        if let Some(expires) = caller.expires() {
            let notice = notice(now, expires, session.generation);
            self.0.add(notice, session, Stage::Notice);
        }
    }

    /// A session goes on with another caller.
    pub(super) fn renew(&self, session: &Arc<Session>, now: Instant) {
        let expires = session.caller().expires();
        let notice = expires.map(|at| notice(now, at, session.generation));
        let next = notice.map(|at| (at, Stage::Notice));
        self.0.replace(session, next);
    }

    /// A session has ended.
    pub(super) fn remove(&self, session: &Session) {
        if !session.is_checked() {
            return;
        }
        self.0.remove(session);
    }

    /// Takes what is to be done by now, at most `limit`. A session that hears of its credential comes once more, at its end.
    pub(super) fn take(&self, now: Instant, limit: usize) -> Vec<(Arc<Session>, Stage)> {
        let next = |session: &Session, stage| match stage {
            Stage::Notice => Some((session.caller().ends()?, Stage::End)),
            Stage::End => None,
        };
        self.0.take(now, limit, next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// When 75 to 85 % of the time that is left have passed. Which of them is the session's own, so that a fleet that came together does not
/// renew together.
fn notice(now: Instant, expires: Instant, generation: u64) -> Instant {
    let left = expires.saturating_duration_since(now);
    let share = 0.75 + 0.10 * age::share(generation);
    now + Duration::from_secs_f64(left.as_secs_f64() * share)
}
