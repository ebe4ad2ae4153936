//! The live subscribers: id -> the session that is their channel into the node. Decides which of several
//! streams of one id goes on.
//!
//! Holds: streams of one id and instance are ordered by their attempt, however the network delays them; a
//! session that ends late never removes its successor.
//! Does not: speak to anybody; it leaves orders with sessions, which never waits. No guard leaves this file.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use longlived_broker::{
    TopicName,
    faults::{Fault, planted},
};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::{sync::Notify, time::Instant};

use crate::session::{Attempt, CloseReason, Closing, Contract, Session};

/// Longest time an older stream goes on beside its replacement (the contract's number).
const REPLACED_MAX: Duration = Duration::from_secs(30);
/// When an id that has something to forget or to end is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the newest attempt of a subscriber that left is remembered: longer than the network delays the
/// start of a stream.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Instances of one id whose newest attempt is remembered beside the live one's. Programs that fight over an id are few, and a stream
/// is held up for seconds at most.
const INSTANCES_REMEMBERED: usize = 8;
/// A legacy program retries on every end, so two of one id would take over from each other for ever: within
/// this time ...
const LEGACY_TAKEOVER_WINDOW: Duration = Duration::from_secs(60);
/// ... this many takeovers go through, and the next is refused.
const LEGACY_TAKEOVERS_MAX: usize = 2;

/// Why a stream is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AdmitError {
    /// A newer attempt of the same instance was seen.
    #[error("attempt {attempt} of subscriber `{subscriber}` is not the newest; {newest} is")]
    NotNewest {
        /// Whose.
        subscriber: Arc<str>,
        /// Refused.
        attempt: u64,
        /// Seen.
        newest: u64,
    },
    /// Two legacy programs fight over one id.
    #[error("subscriber `{0}` was taken over too often; wait before the next try")]
    TakeoverTooOften(Arc<str>),
    /// No room.
    #[error("the limit subscribers_max of {0} is reached")]
    SubscribersExhausted(usize),
}

/// The registry. One per node.
pub(crate) struct Registry {
    slots: DashMap<Arc<str>, Slot>,
    slots_max: usize,
    generations: AtomicU64,
    // Sessions whose registration has not been dropped.
    live: AtomicUsize,
    emptied: Notify,
    // Ids with something to forget or to end, and since when they wait to be looked at. Each at most once, and
    // never those of a quiet live subscriber: there is no need to walk over all.
    unsettled: Mutex<VecDeque<(Instant, Arc<str>)>>,
    closing: Arc<Closing>,
}

/// What is known of one subscriber id. Small, since a map keeps about twice as many as it has ids.
#[derive(Default)]
struct Slot {
    // The newest attempt of its instance that was let in.
    live: Option<Arc<Session>>,
    // Of most ids there is nothing more to know.
    past: Option<Box<Past>>,
}

/// What was before the live session, or is left of one that has gone.
#[derive(Default)]
struct Past {
    // The newest attempt of each other instance that was let in, the latest instance last; unknown ones are not kept.
    newest: SmallVec<[Attempt; 1]>,
    // When the last live session went, while there is no other.
    left_at: Option<Instant>,
    // Replaced by the live session, but going on until that is current.
    older: Vec<(Arc<Session>, Instant)>,
    legacy_takeovers: Vec<Instant>,
    // Its id is among the unsettled.
    queued: bool,
}

/// A session's place in the registry. Dropping it gives the place back.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    session: Arc<Session>,
}

impl Registry {
    /// An empty registry for at most so many ids.
    pub(crate) fn new(slots_max: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: DashMap::new(),
            slots_max,
            generations: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            emptied: Notify::new(),
            unsettled: Mutex::default(),
            closing: Arc::default(),
        })
    }

    /// A number for the next session.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes a session the live one of its subscriber, if it is the newest. What it displaces is told to end:
    /// at once if it belongs to another instance, otherwise when [`Registration::became_current`] is called.
    pub(crate) fn admit(
        self: &Arc<Self>,
        session: Arc<Session>,
    ) -> Result<Registration, AdmitError> {
        let now = Instant::now();
        let full = self.slots.len() >= self.slots_max;
        let mut entry = match self.slots.entry(session.subscriber.clone()) {
            Entry::Vacant(_) if full => {
                return Err(AdmitError::SubscribersExhausted(self.slots_max));
            }
            entry => entry.or_default(),
        };
        let slot = entry.value_mut();
        slot.check_newest(&session)?;
        slot.displace(&session, now)?;
        slot.begin(session.clone());
        self.live.fetch_add(1, Ordering::AcqRel);
        let unsettled = slot.is_newly_unsettled();
        drop(entry);
        if unsettled {
            self.queue(session.subscriber.clone());
        }
        Ok(Registration {
            registry: self.clone(),
            session,
        })
    }

    /// The live sessions of a subscriber, the newest first; the older ones are about to be replaced.
    pub(crate) fn sessions_of(&self, subscriber: &str) -> Vec<Arc<Session>> {
        self.slots
            .get(subscriber)
            .map_or_else(Vec::new, |slot| slot.sessions().cloned().collect())
    }

    /// The inboxes somebody follows now. Holds one shard of the map at a time.
    pub(crate) fn followed_inboxes(&self) -> Vec<(TopicName, Arc<str>)> {
        self.slots
            .iter()
            .filter_map(|slot| {
                let session = slot.live.as_ref()?;
                let inbox = session.followed_inbox()?;
                Some((inbox, session.subscriber.clone()))
            })
            .collect()
    }

    /// How many sessions are live.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// Tells every session to end; `reason` is asked once for each. In the order in which they came, which a
    /// replay repeats; the order of the map differs from process to process.
    pub(crate) fn close_all(&self, mut reason: impl FnMut() -> CloseReason) {
        let all = self.slots.iter();
        let mut sessions: Vec<_> = all
            .flat_map(|slot| slot.sessions().cloned().collect::<SmallVec<[_; 1]>>())
            .collect();
        sessions.sort_unstable_by_key(|session| session.generation);
        for session in sessions {
            session.close(reason());
        }
    }

    /// Returns when no session is live.
    pub(crate) async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Streams that were told to end.
    pub(crate) fn closing(&self) -> &Arc<Closing> {
        &self.closing
    }

    /// Ends what was replaced long ago and forgets who left long ago, of at most `limit` ids; whether others are due.
    pub(crate) fn look_again(&self, now: Instant, limit: usize) -> bool {
        let due: Vec<_> = {
            let mut unsettled = self.unsettled.lock();
            let is_due =
                |(since, _): &(Instant, _)| now.saturating_duration_since(*since) >= LOOK_AGAIN;
            let due = unsettled
                .iter()
                .take(limit)
                .take_while(|one| is_due(one))
                .count();
            if unsettled.is_empty() {
                unsettled.shrink_to(64);
            }
            unsettled.drain(..due).map(|(_, id)| id).collect()
        };
        let more = due.len() == limit;
        for id in due {
            if self.is_still_unsettled(&id, now) {
                self.queue(id);
            }
        }
        more
    }

    fn queue(&self, id: Arc<str>) {
        let mut unsettled = self.unsettled.lock();
        // Under the lock, so that the order is that of time.
        unsettled.push_back((Instant::now(), id));
    }

    fn is_still_unsettled(&self, id: &Arc<str>, now: Instant) -> bool {
        let Entry::Occupied(mut entry) = self.slots.entry(id.clone()) else {
            return false;
        };
        let slot = entry.get_mut();
        for (session, replaced_at) in slot.older() {
            if now.duration_since(*replaced_at) >= REPLACED_MAX {
                session.close(CloseReason::Replaced);
            }
        }
        slot.forget_takeovers(now);
        if let Some(past) = &mut slot.past {
            past.queued = false;
        }
        if slot.is_forgettable(now) {
            entry.remove();
            return false;
        }
        let unsettled = slot.is_newly_unsettled();
        slot.forget_nothing();
        unsettled
    }

    fn leave(&self, session: &Session) {
        let mut unsettled = false;
        if let Entry::Occupied(mut entry) = self.slots.entry(session.subscriber.clone()) {
            let slot = entry.get_mut();
            if let Some(past) = &mut slot.past {
                let others =
                    |(older, _): &(Arc<Session>, _)| older.generation != session.generation;
                past.older.retain(others);
            }
            let is_live = |live: &Arc<Session>| live.generation == session.generation;
            if slot.live.as_ref().is_some_and(is_live) || planted(Fault::LateLeaverEvictsSuccessor)
            {
                slot.end(Instant::now());
            }
            if slot.is_empty() {
                entry.remove();
            } else {
                unsettled = slot.is_newly_unsettled();
                slot.forget_nothing();
            }
        }
        if unsettled {
            self.queue(session.subscriber.clone());
        }
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }
}

impl Slot {
    fn older(&self) -> &[(Arc<Session>, Instant)] {
        self.past.as_ref().map_or(&[], |past| &past.older)
    }

    /// Those that are here, the newest first.
    fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        let older = self.older().iter().rev().map(|(session, _)| session);
        self.live.iter().chain(older)
    }

    /// Whether others than the live session want the id, or did lately.
    fn is_contested(&self) -> bool {
        let contested = |past: &Past| !past.older.is_empty() || !past.legacy_takeovers.is_empty();
        self.past.as_deref().is_some_and(contested)
    }

    /// Neither live nor contested.
    fn is_unclaimed(&self) -> bool {
        self.live.is_none() && !self.is_contested()
    }

    /// Unclaimed, and nothing to remember: attempts of an unknown instance have no order.
    fn is_empty(&self) -> bool {
        let newest = self.past.as_ref().map_or(&[][..], |past| &past.newest);
        newest.is_empty() && self.is_unclaimed()
    }

    /// Gives the room of a past back in which there is nothing.
    fn forget_nothing(&mut self) {
        let is_nothing = |past: &mut Box<Past>| {
            past.newest.is_empty()
                && past.left_at.is_none()
                && past.older.is_empty()
                && past.legacy_takeovers.is_empty()
                && !past.queued
        };
        self.past.take_if(is_nothing);
    }

    /// Whether there is something to forget or to end and nobody knows yet; from now on somebody does.
    fn is_newly_unsettled(&mut self) -> bool {
        let contested = self.is_contested();
        let Some(past) = &mut self.past else {
            return false;
        };
        let settled = !contested && past.left_at.is_none();
        !settled && !std::mem::replace(&mut past.queued, true)
    }

    fn check_newest(&self, session: &Session) -> Result<(), AdmitError> {
        let past = self.past.iter().flat_map(|past| &past.newest);
        let live = self.live.iter().map(|live| &live.attempt);
        let same = |seen: &&Attempt| seen.same_instance(session.attempt);
        match live.chain(past).find(same) {
            Some(newest) if session.attempt.number < newest.number => Err(AdmitError::NotNewest {
                subscriber: session.subscriber.clone(),
                attempt: session.attempt.number,
                newest: newest.number,
            }),
            _ => Ok(()),
        }
    }

    /// Makes room for `session`. An instance's own older streams go on for a while; another's end now, also
    /// those whose replacement has left.
    fn displace(&mut self, session: &Session, now: Instant) -> Result<(), AdmitError> {
        let others = |stream: &&Arc<Session>| {
            !stream.attempt.same_instance(session.attempt) && stream.closing().is_none()
        };
        let displaced: SmallVec<[_; 1]> = self.sessions().filter(others).cloned().collect();
        if session.contract == Contract::Legacy && !displaced.is_empty() {
            self.forget_takeovers(now);
            let past = self.past.get_or_insert_default();
            if past.legacy_takeovers.len() >= LEGACY_TAKEOVERS_MAX {
                return Err(AdmitError::TakeoverTooOften(session.subscriber.clone()));
            }
            past.legacy_takeovers.push(now);
        }
        for stream in displaced {
            stream.close(CloseReason::TakenOver);
        }
        if let Some(live) = self.live.take() {
            let past = self.past.get_or_insert_default();
            past.remember(live.attempt);
            past.older.push((live, now));
        }
        Ok(())
    }

    /// The id is this session's from now on.
    fn begin(&mut self, session: Arc<Session>) {
        if let Some(past) = &mut self.past {
            past.forget(session.attempt);
            past.left_at = None;
        }
        self.live = Some(session);
        self.forget_nothing();
    }

    /// The live session has gone.
    fn end(&mut self, now: Instant) {
        let past = self.past.get_or_insert_default();
        if let Some(live) = self.live.take() {
            past.remember(live.attempt);
        }
        past.left_at = Some(now);
    }

    fn forget_takeovers(&mut self, now: Instant) {
        let recent = |at: &Instant| now.duration_since(*at) < LEGACY_TAKEOVER_WINDOW;
        if let Some(past) = &mut self.past {
            past.legacy_takeovers.retain(recent);
        }
    }

    fn is_forgettable(&self, now: Instant) -> bool {
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

impl Registration {
    /// The session that is registered.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session has caught up: the streams it replaces end.
    pub(crate) fn became_current(&self) {
        let older = self.registry.slots.get(&self.session.subscriber);
        let Some(slot) = older else { return };
        let is_newest = |live: &Arc<Session>| live.generation == self.session.generation;
        if slot.live.as_ref().is_some_and(is_newest) {
            for (session, _) in slot.older() {
                session.close(CloseReason::Replaced);
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.leave(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(registry: &Arc<Registry>, number: u64) -> Registration {
        let attempt = Attempt {
            instance: 7,
            number,
        };
        let session = Session::of("s", registry.next_generation(), attempt);
        registry.admit(session).expect("it is the newest")
    }

    #[tokio::test]
    async fn the_sessions_of_an_id_are_named_newest_first_also_when_the_newest_has_left() {
        let registry = Registry::new(10);
        let mut admitted: Vec<_> = (1..=4).map(|number| admit(&registry, number)).collect();
        let numbers = || -> Vec<u64> {
            let sessions = registry.sessions_of("s");
            sessions.iter().map(|one| one.attempt.number).collect()
        };
        assert_eq!(numbers(), [4, 3, 2, 1]);
        admitted.pop();
        assert_eq!(numbers(), [3, 2, 1]);
    }

    #[test]
    fn what_is_known_of_an_id_stays_small() {
        // A map keeps about twice as many as it has ids.
        assert!(size_of::<Slot>() <= 16, "{}", size_of::<Slot>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_left_long_ago_is_forgotten_a_few_at_a_time_and_who_is_there_is_not_looked_at() {
        let registry = Registry::new(100);
        let admit = |id: usize| {
            let attempt = Attempt {
                instance: 7,
                number: 1,
            };
            let session = Session::of(&id.to_string(), registry.next_generation(), attempt);
            registry.admit(session).expect("it is the newest")
        };
        let stays = admit(0);
        drop((1..=10).map(admit).collect::<Vec<_>>());
        assert_eq!(registry.unsettled.lock().len(), 10);
        // Coming and going does not wait twice.
        drop(admit(1));
        assert_eq!(registry.unsettled.lock().len(), 10);
        let mut steps = 0;
        for _ in 0..20 {
            tokio::time::advance(LOOK_AGAIN).await;
            loop {
                steps += 1;
                if !registry.look_again(Instant::now(), 4) {
                    break;
                }
            }
        }
        assert_eq!(registry.slots.len(), 1);
        assert!(registry.unsettled.lock().is_empty());
        assert!(steps > 20, "several steps a look: {steps}");
        drop(stays);
    }
}
