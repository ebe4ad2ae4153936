//! Sessions in the order of the moments at which something is to be done about them.
//!
//! Holds: a session is in a timetable once, until it is taken or removed.
//! Does not: have a timer; [`Maintenance`](super::Maintenance) looks at it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::Session;

/// Sessions with a moment each, and what is to be done then.
pub(super) struct Timetable<S>(Mutex<Sessions<S>>);

struct Sessions<S> {
    // The generation tells those of one moment apart.
    in_order: BTreeMap<(Instant, u64), (Arc<Session>, S)>,
    // When a session, by its generation, comes next.
    next: HashMap<u64, Instant, FxBuildHasher>,
}

impl<S> Default for Timetable<S> {
    fn default() -> Self {
        Self(Mutex::new(Sessions {
            in_order: BTreeMap::new(),
            next: HashMap::default(),
        }))
    }
}

impl<S> Sessions<S> {
    fn remove(&mut self, generation: u64) {
        if let Some(at) = self.next.remove(&generation) {
            self.in_order.remove(&(at, generation));
        }
    }

    fn insert(&mut self, at: Instant, session: Arc<Session>, stage: S) {
        self.next.insert(session.generation, at);
        let key = (at, session.generation);
        self.in_order.insert(key, (session, stage));
    }
}

impl<S: Copy> Timetable<S> {
    /// It is not in here.
    pub(super) fn add(&self, at: Instant, session: &Arc<Session>, stage: S) {
        self.0.lock().insert(at, session.clone(), stage);
    }

    /// Unless it is in here.
    pub(super) fn add_absent(&self, at: Instant, session: &Arc<Session>, stage: S) {
        let mut sessions = self.0.lock();
        if !sessions.next.contains_key(&session.generation) {
            sessions.insert(at, session.clone(), stage);
        }
    }

    pub(super) fn remove(&self, session: &Session) {
        self.0.lock().remove(session.generation);
    }

    /// In the place of what was to be done about it.
    pub(super) fn replace(&self, session: &Arc<Session>, next: Option<(Instant, S)>) {
        let mut sessions = self.0.lock();
        sessions.remove(session.generation);
        if let Some((at, stage)) = next {
            sessions.insert(at, session.clone(), stage);
        }
    }

    /// Takes what is to be done by now, at most `limit`. A session for which `next` names another moment comes again then.
    pub(super) fn take(
        &self,
        now: Instant,
        limit: usize,
        next: impl Fn(&Session, S) -> Option<(Instant, S)>,
    ) -> Vec<(Arc<Session>, S)> {
        let mut sessions = self.0.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(first) = sessions.in_order.first_entry()
            && first.key().0 <= now
        {
            let (session, stage) = first.remove();
            sessions.next.remove(&session.generation);
            if let Some((at, stage)) = next(&session, stage) {
                sessions.insert(at, session.clone(), stage);
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
