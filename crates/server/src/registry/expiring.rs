//! Sessions of callers whose credential expires, in the order of that moment.
//!
//! Holds: a session is in here once, from its begin to its end or to that moment. Those of callers that do not expire
//! are not.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Session;

/// The sessions of a node that are to end, and when. The generation tells those of one moment apart.
#[derive(Default)]
pub(super) struct Expiring(Mutex<BTreeMap<(Instant, u64), Arc<Session>>>);

impl Expiring {
    /// A session has begun.
    pub(super) fn add(&self, session: &Arc<Session>) {
        if let Some(expires) = session.caller.expires {
            let key = (expires, session.generation);
            self.0.lock().insert(key, session.clone());
        }
    }

    /// A session has ended.
    pub(super) fn remove(&self, session: &Session) {
        if let Some(expires) = session.caller.expires {
            self.0.lock().remove(&(expires, session.generation));
        }
    }

    /// Takes out at most `limit` sessions whose caller has expired.
    pub(super) fn take_expired(&self, now: Instant, limit: usize) -> Vec<Arc<Session>> {
        let mut sessions = self.0.lock();
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(first) = sessions.first_entry()
            && first.key().0 <= now
        {
            expired.push(first.remove());
        }
        expired
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
