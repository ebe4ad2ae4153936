//! The state of one subscriber id: its live streams, its earlier ones, and which of them goes on.
//!
//! Does not: know other ids, or when it is looked at again.

use std::{sync::Arc, time::Duration};

use longlived_broker::{
    Sequence,
    faults::{Fault, planted},
};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    Claim, Session,
    takeovers::{Fight, Takeovers},
};
use crate::contract::{Attempt, CloseReason, RegisterError};

/// Longest time an older stream goes on beside its replacement (the contract's number).
pub(super) const REPLACED_MAX: Duration = Duration::from_secs(30);
/// How long a subscriber that left and its newest attempt are remembered. That is longer than the network delays the
/// start of a stream, and than a client waits before it comes back (120 s by the contract's advice).
const REMEMBERED: Duration = Duration::from_secs(130);
/// Instances of one id whose newest attempt is remembered beside the live one's. Programs that fight over an id are few, and a stream
/// is held up for seconds at most.
const INSTANCES_REMEMBERED: usize = 8;

/// The state of one subscriber id. Small, since a map keeps about twice as many as it has ids.
#[derive(Default)]
pub(super) struct Slot {
    // The newest attempt of its instance that was let in.
    live: Option<Arc<Session>>,
    // Of most ids there is nothing more to know.
    past: Option<Box<Past>>,
}

/// The sessions before the live one, or the memory of one that has gone.
#[derive(Default)]
struct Past {
    // The newest attempt of each other instance that was let in, the latest instance last; unknown ones are not kept.
    newest: SmallVec<[Attempt; 1]>,
    // When the last live session went, while there is no other.
    left_at: Option<Instant>,
    // Replaced by the live session, but going on until that is current.
    older: Vec<(Arc<Session>, Instant)>,
    // A subscriber whose last session has gone and that comes back, as far as is known.
    away: Option<Away>,
    takeovers: Option<Box<Takeovers>>,
    // Its id is among the unsettled.
    queued: bool,
}

/// A subscriber that is expected back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// Never 0: a process that cannot be told from others is not expected.
    pub(super) instance: u64,
    /// The last sequence it was sent.
    pub(super) sequence: Sequence,
}

impl Away {
    fn of(session: &Session) -> Option<Self> {
        let expected = session.attempt.instance != 0 && session.comes_back();
        expected.then(|| Self {
            instance: session.attempt.instance,
            sequence: session.sequence(),
        })
    }
}

impl Slot {
    /// Whether a session would be let in: it is the newest of its instance, and the id is not fought over.
    pub(super) fn check(&mut self, claim: Claim<'_>, now: Instant) -> Result<(), RegisterError> {
        self.check_newest(claim)?;
        if !self.others(claim.attempt).any(|_| true) {
            return Ok(());
        }
        let takeovers = self.past.as_mut().and_then(|past| past.takeovers.as_mut());
        match takeovers.and_then(|takeovers| takeovers.refuse(claim.contract, now)) {
            None => Ok(()),
            Some(wait) => Err(RegisterError::TakeoverTooOften {
                subscriber: claim.subscriber.clone(),
                wait,
            }),
        }
    }

    /// Lets a session in, if it may. The session that it displaces ends at once, or goes on for a while.
    pub(super) fn register(
        &mut self,
        session: &Arc<Session>,
        now: Instant,
    ) -> Result<(), RegisterError> {
        self.check(Claim::of(session), now)?;
        self.count(session)?;
        self.displace(session, now);
        if !self.older().is_empty() {
            session.set_replaces();
        }
        self.begin(session.clone());
        Ok(())
    }

    /// The log line about a fight over the id.
    pub(super) fn tell_fight(&mut self, now: Instant) -> Option<Fight> {
        let past = self.past.as_mut()?;
        past.takeovers.as_mut()?.tell(now)
    }

    /// The log line about a fight that has ended since it was last logged.
    pub(super) fn tell_refused(&mut self, now: Instant) -> Option<Fight> {
        let past = self.past.as_mut()?;
        past.takeovers.as_mut()?.tell_refused(now)
    }

    fn is_fought_over(&self) -> bool {
        let takeovers = self.past.as_ref().and_then(|past| past.takeovers.as_ref());
        takeovers.is_some_and(|takeovers| takeovers.is_fight())
    }

    /// The subscriber that is expected back: its last session has gone, or was told to go and come back.
    pub(super) fn away(&self) -> Option<Away> {
        match &self.live {
            Some(live) if live.closing().is_none() => None,
            Some(live) => Away::of(live),
            None => self.past.as_ref()?.away,
        }
    }

    /// Whether a stream of this attempt's instance was unsubscribed and has not heard of it.
    pub(super) fn is_unaware(&self, attempt: Attempt) -> bool {
        self.live()
            .is_some_and(|live| live.attempt.same_instance(attempt) && live.is_unaware())
    }

    /// Streams that an attempt takes the id from.
    fn others(&self, attempt: Attempt) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions().filter(move |stream| {
            !stream.attempt.same_instance(attempt) && stream.closing().is_none()
        })
    }

    /// Counts a stream for its caller's quotas. Of the streams of an id one is free beside another: it takes the place of that one, which
    /// ends. Its filters are as free as that one's.
    fn count(&self, session: &Session) -> Result<(), RegisterError> {
        let Some(usage) = session.usage() else {
            return Ok(());
        };
        let here = self.sessions().count();
        let filters = session.filters();
        let free = match (here, self.live()) {
            (1, Some(live)) => filters.min(live.filters()),
            _ => 0,
        };
        if here != 1 {
            usage.add_stream()?;
        }
        if let Err(exhausted) = usage.add_filters(filters - free) {
            if here != 1 {
                usage.remove_stream();
            }
            return Err(exhausted.into());
        }
        usage.add_filters_of_successor(free);
        Ok(())
    }

    fn uncount(&self, session: &Session) {
        if let Some(usage) = session.usage() {
            usage.remove_filters(session.filters());
            if self.sessions().count() != 1 {
                usage.remove_stream();
            }
        }
    }

    /// Whether no stream of the id is here.
    pub(super) fn has_no_session(&self) -> bool {
        self.sessions().next().is_none()
    }

    /// A session has gone: the live one, or one that was replaced.
    pub(super) fn leave(&mut self, session: &Session) {
        if let Some(past) = &mut self.past {
            let others = |(older, _): &(Arc<Session>, _)| older.generation != session.generation;
            past.older.retain(others);
        }
        if self.is_live(session) || planted(Fault::LateEndEvictsSuccessor) {
            self.end(Instant::now());
        }
        self.uncount(session);
    }

    /// A session has caught up: those that it replaces end, unless another has replaced it meanwhile.
    pub(super) fn end_replaced_by(&self, session: &Session) {
        if self.is_live(session) {
            for (older, _) in self.older() {
                older.close(CloseReason::Replaced);
            }
        }
    }

    /// Ends streams that were replaced long ago and forgets old takeovers. From now on the slot is not queued.
    pub(super) fn look_again(&mut self, now: Instant) {
        for (session, replaced_at) in self.older() {
            if now.duration_since(*replaced_at) >= REPLACED_MAX {
                session.close(CloseReason::Replaced);
            }
        }
        self.forget_takeovers(now);
        if let Some(past) = &mut self.past {
            past.queued = false;
        }
    }

    /// The newest attempt of its instance that was let in, while it is here.
    pub(super) fn live(&self) -> Option<&Arc<Session>> {
        self.live.as_ref()
    }

    fn is_live(&self, session: &Session) -> bool {
        self.live()
            .is_some_and(|live| live.generation == session.generation)
    }

    fn older(&self) -> &[(Arc<Session>, Instant)] {
        self.past.as_ref().map_or(&[], |past| &past.older)
    }

    /// Those that are here, the newest first.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        let older = self.older().iter().rev().map(|(session, _)| session);
        self.live.iter().chain(older)
    }

    /// Whether others than the live session want the id, or did lately.
    fn is_contested(&self) -> bool {
        let contested = |past: &Past| !past.older.is_empty() || past.takeovers.is_some();
        self.past.as_deref().is_some_and(contested)
    }

    /// Neither live nor contested.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.live.is_none() && !self.is_contested()
    }

    /// Unclaimed, and nothing to remember: attempts of an unknown instance have no order.
    pub(super) fn is_empty(&self) -> bool {
        let newest = self.past.as_ref().map_or(&[][..], |past| &past.newest);
        newest.is_empty() && self.is_unclaimed()
    }

    /// Frees the record of the past if there is nothing in it.
    pub(super) fn shrink_if_empty(&mut self) {
        let is_nothing = |past: &mut Box<Past>| {
            past.newest.is_empty()
                && past.left_at.is_none()
                && past.older.is_empty()
                && past.away.is_none()
                && past.takeovers.is_none()
                && !past.queued
        };
        self.past.take_if(is_nothing);
    }

    /// Whether there is something to forget or to end that is not queued yet; from now on it is.
    pub(super) fn is_newly_unsettled(&mut self) -> bool {
        let contested = self.is_contested();
        let Some(past) = &mut self.past else {
            return false;
        };
        let settled = !contested && past.left_at.is_none();
        !settled && !std::mem::replace(&mut past.queued, true)
    }

    fn check_newest(&self, claim: Claim<'_>) -> Result<(), RegisterError> {
        let past = self.past.iter().flat_map(|past| &past.newest);
        let live = self.live.iter().map(|live| &live.attempt);
        let same = |seen: &&Attempt| seen.same_instance(claim.attempt);
        match live.chain(past).find(same) {
            Some(newest) if claim.attempt.number < newest.number => Err(RegisterError::NotNewest {
                subscriber: claim.subscriber.clone(),
                attempt: claim.attempt.number,
                newest: newest.number,
            }),
            _ => Ok(()),
        }
    }

    /// Makes way for `session`. An instance's own older streams go on for a while; another's end now, also those whose
    /// replacement has left.
    fn displace(&mut self, session: &Session, now: Instant) {
        let displaced: SmallVec<[_; 1]> = self.others(session.attempt).cloned().collect();
        if !displaced.is_empty() {
            let past = self.past.get_or_insert_default();
            let takeovers = past.takeovers.get_or_insert_default();
            takeovers.note(session.contract, now);
        }
        if self.is_fought_over() {
            session.set_contested();
            displaced.iter().for_each(|stream| stream.set_quiet());
        }
        for stream in displaced {
            stream.close(CloseReason::TakenOver);
        }
        if let Some(live) = self.live.take() {
            let past = self.past.get_or_insert_default();
            past.remember(live.attempt);
            past.older.push((live, now));
        }
    }

    /// The id is this session's from now on.
    fn begin(&mut self, session: Arc<Session>) {
        if let Some(past) = &mut self.past {
            past.forget(session.attempt);
            past.left_at = None;
            past.away = None;
        }
        self.live = Some(session);
        self.shrink_if_empty();
    }

    /// The live session has gone.
    fn end(&mut self, now: Instant) {
        let past = self.past.get_or_insert_default();
        if let Some(live) = self.live.take() {
            past.remember(live.attempt);
            past.away = Away::of(&live);
        }
        past.left_at = Some(now);
    }

    fn forget_takeovers(&mut self, now: Instant) {
        if let Some(past) = &mut self.past {
            past.takeovers.take_if(|takeovers| {
                takeovers.forget(now);
                takeovers.is_empty()
            });
        }
    }

    /// Whether the id has no stream and no fight, and its last stream left long ago.
    pub(super) fn is_forgettable(&self, now: Instant) -> bool {
        let left_at = self.past.as_ref().and_then(|past| past.left_at);
        let long_gone = left_at.is_none_or(|left| now.duration_since(left) >= REMEMBERED);
        self.is_unclaimed() && long_gone
    }
}

impl Past {
    fn forget(&mut self, attempt: Attempt) {
        self.newest.retain(|seen| !seen.same_instance(attempt));
    }

    fn remember(&mut self, attempt: Attempt) {
        self.forget(attempt);
        if attempt.instance == 0 {
            return;
        }
        if self.newest.len() == INSTANCES_REMEMBERED {
            self.newest.remove(0);
        }
        self.newest.push(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_id_stays_small() {
        // A map keeps about twice as many as it has ids.
        assert!(size_of::<Slot>() <= 16, "{}", size_of::<Slot>());
    }
}
