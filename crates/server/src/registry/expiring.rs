//! Sessions of callers whose credential expires, as far as something is to be done about it soon.
//!
//! A place in a timetable takes a tenth of the memory of a stream, and most credentials end in an hour or a day. So only sessions whose
//! moment comes within a minute or two are in it; all sessions are looked through once a minute for the next of them.
//!
//! Holds: a session hears in time that its credential expires, and ends after it. One that has ended stays in here until its moment at most.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Session, timetable::Timetable};
use crate::age;
use crate::contract::Caller;

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It hears when its credential expires, in time to renew it.
    Notice,
    /// It ends.
    End,
}

/// For how long all sessions are looked through at once, and at the latest so long before it begins.
const WINDOW: Duration = Duration::from_secs(60);

/// The sessions of a node whose credential expires soon.
pub(super) struct Expiring {
    soon: Timetable<Stage>,
    // Sessions whose moment comes before this are in it.
    until: Mutex<Instant>,
}

/// A part of the time, for which sessions are to be looked through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    from: Instant,
    until: Instant,
}

impl Default for Expiring {
    fn default() -> Self {
        Self {
            soon: Timetable::default(),
            until: Mutex::new(Instant::now() + 2 * WINDOW),
        }
    }
}

impl Expiring {
    /// A session has begun, and is known to the registry.
    pub(super) fn add(&self, session: &Arc<Session>) {
        if session.is_checked()
            && let Some(moments) = Moments::of(session)
            && moments.notice < *self.until.lock()
        {
            self.soon
                .replace(session, Some((moments.notice, Stage::Notice)));
        }
    }

    /// A session goes on with another caller.
    pub(super) fn renew(&self, session: &Arc<Session>) {
        let until = *self.until.lock();
        let moments = Moments::of(session).filter(|moments| moments.notice < until);
        let next = moments.map(|moments| (moments.notice, Stage::Notice));
        self.soon.replace(session, next);
    }

    /// A session has ended.
    pub(super) fn remove(&self, session: &Session) {
        if !session.is_checked() {
            return;
        }
        self.soon.remove(session);
    }

    /// The next part of the time, if it begins soon: all sessions are to be looked through for it. From here on those that begin are in
    /// here if their moment comes within it.
    pub(super) fn next_window(&self, now: Instant) -> Option<Window> {
        let mut until = self.until.lock();
        if *until > now + WINDOW {
            return None;
        }
        let window = Window {
            from: *until,
            until: now + 2 * WINDOW,
        };
        *until = window.until;
        Some(window)
    }

    /// Adds a session whose moment comes within the window, unless it is in here already.
    pub(super) fn look(&self, session: &Arc<Session>, window: Window) {
        let next = Moments::of(session).and_then(|moments| moments.within(window));
        if let Some((at, stage)) = next {
            self.soon.add_absent(at, session, stage);
        }
    }

    /// Takes what is to be done by now, at most `limit`. A session that hears of its credential comes once more, at its end.
    pub(super) fn take(&self, now: Instant, limit: usize) -> Vec<(Arc<Session>, Stage)> {
        let until = *self.until.lock();
        let next = |session: &Session, stage| match stage {
            Stage::Notice => {
                let end = session.caller().ends().filter(|end| *end < until);
                Some((end?, Stage::End))
            }
            Stage::End => None,
        };
        self.soon.take(now, limit, next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.soon.len()
    }
}

/// When something is to be done about a session.
struct Moments {
    notice: Instant,
    end: Instant,
}

impl Moments {
    /// None of one whose credential does not expire.
    fn of(session: &Session) -> Option<Self> {
        let caller = session.caller();
        let (taken, expires) = (taken(session, &caller)?, caller.expires()?);
        Some(Self {
            notice: notice(taken, expires, session.generation),
            end: caller.ends()?,
        })
    }

    fn within(self, window: Window) -> Option<(Instant, Stage)> {
        let has = |at: Instant| window.from <= at && at < window.until;
        if has(self.notice) {
            Some((self.notice, Stage::Notice))
        } else if has(self.end) {
            Some((self.end, Stage::End))
        } else {
            None
        }
    }
}

/// When the session took the credential that it has: when it began, or when that was verified, if that was later.
fn taken(session: &Session, caller: &Caller) -> Option<Instant> {
    let verified = caller.credential.as_ref()?.verified;
    Some(verified.max(session.record().started()))
}

/// When 75 to 85 % of the time that is left have passed. Which of them is the session's own, so that a fleet that came together does not
/// renew together.
fn notice(taken: Instant, expires: Instant, generation: u64) -> Instant {
    let left = expires.saturating_duration_since(taken);
    let share = 0.75 + 0.10 * age::share(generation);
    taken + Duration::from_secs_f64(left.as_secs_f64() * share)
}
