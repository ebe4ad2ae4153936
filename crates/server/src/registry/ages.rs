//! Streams that move to another server or connection as planned: one by one at their age, or all that can at a drain.
//!
//! Holds: a stream of a client with an instance goes on beside the one that is to replace it until that is current, or for as
//! long as it was told. A stream of another client would be taken over by its successor, so it ends when it is told.
//! Does not: hear that a stream was replaced on another node; its client leaves it then.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Registry, Session, slot::REPLACED_MAX, timetable::Timetable};
use crate::{age, contract::CloseReason};

/// What is to be done about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has reached its age, and is told to move.
    Move,
    /// It has had its time to.
    End,
}

/// The sessions of a node whose streams have an age.
pub(super) struct Ages {
    max: Duration,
    sessions: Timetable<Stage>,
}

impl Ages {
    /// Streams become about so old.
    pub(super) fn new(max: Duration) -> Self {
        Self {
            max,
            sessions: Timetable::default(),
        }
    }

    /// A session has begun.
    pub(super) fn add(&self, session: &Arc<Session>, now: Instant) {
        let at = age::reached(now, self.max, session.generation);
        self.sessions.add(at, session, Stage::Move);
    }

    /// A session has ended.
    pub(super) fn remove(&self, session: &Session) {
        self.sessions.remove(session);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }
}

impl Registry {
    /// Tells streams that have reached their age to move, and ends those that had their time to, at most `limit` of both together.
    /// `turn` is asked for each, when its client shall open the next. Returns whether there is more.
    pub(crate) fn mind_ages(
        &self,
        now: Instant,
        limit: usize,
        turn: impl Fn() -> Duration,
    ) -> bool {
        let Some(ages) = &self.ages else {
            return false;
        };
        // The latest turn, and then as long as any stream goes on beside its replacement.
        let ends = now + self.spread() + REPLACED_MAX;
        let taken = ages.sessions.take(now, limit, |session, stage| {
            let moves = stage == Stage::Move && session.can_move();
            moves.then_some((ends, Stage::End))
        });
        for (session, stage) in &taken {
            let reconnect_after = turn();
            let reason = CloseReason::StreamAge { reconnect_after };
            if *stage == Stage::Move && session.can_move() {
                session.move_on(reason, ends);
            } else {
                session.close(reason);
            }
        }
        taken.len() == limit
    }

    /// At a drain: tells streams to move until `ends`, and those to end that cannot. `reason` is asked once for each, in the order in which
    /// they came.
    pub(crate) fn move_all(&self, ends: Instant, mut reason: impl FnMut() -> CloseReason) {
        for session in self.sessions_in_order() {
            if session.can_move() {
                session.move_on(reason(), ends);
            } else {
                session.close(reason());
            }
        }
    }
}
