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
/// Instances of one id whose newest attempt is remembered. Programs that fight over an id are few, and a stream
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
    // The newest attempt of each instance that was let in, the latest instance last; unknown ones are not kept.
    newest: SmallVec<[Attempt; 1]>,
    place: Place,
    // Only while several streams want the id.
    contest: Option<Box<Contest>>,
    // Its id is among the unsettled.
    queued: bool,
}

/// Who has the id.
#[derive(Default)]
enum Place {
    #[default]
    Free,
    Live(Arc<Session>),
    LeftAt(Instant),
}

#[derive(Default)]
struct Contest {
    // Replaced by the live session, but going on until that is current.
    older: Vec<(Arc<Session>, Instant)>,
    legacy_takeovers: Vec<Instant>,
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
        slot.remember(session.attempt);
        slot.place = Place::Live(session.clone());
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
                let session = slot.live()?;
                let inbox = session.followed_inbox()?;
                Some((inbox.clone(), session.subscriber.clone()))
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
        slot.queued = false;
        if slot.is_forgettable(now) {
            entry.remove();
            return false;
        }
        slot.is_newly_unsettled()
    }

    fn leave(&self, session: &Session) {
        let mut unsettled = false;
        if let Entry::Occupied(mut entry) = self.slots.entry(session.subscriber.clone()) {
            let slot = entry.get_mut();
            slot.settle(|contest| {
                let others =
                    |(older, _): &(Arc<Session>, _)| older.generation != session.generation;
                contest.older.retain(others);
            });
            let is_live = |live: &Arc<Session>| live.generation == session.generation;
            if slot.live().is_some_and(is_live) || planted(Fault::LateLeaverEvictsSuccessor) {
                slot.place = Place::LeftAt(Instant::now());
            }
            // Nothing to remember of those whose attempts have no order.
            if slot.newest.is_empty() && slot.is_unclaimed() {
                entry.remove();
            } else {
                unsettled = slot.is_newly_unsettled();
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
    fn live(&self) -> Option<&Arc<Session>> {
        match &self.place {
            Place::Live(session) => Some(session),
            Place::Free | Place::LeftAt(_) => None,
        }
    }

    fn older(&self) -> &[(Arc<Session>, Instant)] {
        self.contest.as_ref().map_or(&[], |contest| &contest.older)
    }

    /// Those that are here, the newest first.
    fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        let older = self.older().iter().rev().map(|(session, _)| session);
        self.live().into_iter().chain(older)
    }

    /// Forgets of a contest what need not be remembered, and the contest when that was all.
    fn settle(&mut self, forget: impl FnOnce(&mut Contest)) {
        if let Some(contest) = &mut self.contest {
            forget(contest);
            if contest.older.is_empty() && contest.legacy_takeovers.is_empty() {
                self.contest = None;
            }
        }
    }

    /// Neither live nor contested.
    fn is_unclaimed(&self) -> bool {
        self.live().is_none() && self.contest.is_none()
    }

    /// Whether there is something to forget or to end and nobody knows yet; from now on somebody does.
    fn is_newly_unsettled(&mut self) -> bool {
        let settled = self.contest.is_none() && matches!(self.place, Place::Free | Place::Live(_));
        !settled && !std::mem::replace(&mut self.queued, true)
    }

    fn check_newest(&self, session: &Session) -> Result<(), AdmitError> {
        let same = |seen: &&Attempt| seen.same_instance(session.attempt);
        match self.newest.iter().find(same) {
            Some(newest) if session.attempt.number < newest.number => Err(AdmitError::NotNewest {
                subscriber: session.subscriber.clone(),
                attempt: session.attempt.number,
                newest: newest.number,
            }),
            _ => Ok(()),
        }
    }

    fn remember(&mut self, attempt: Attempt) {
        self.newest.retain(|seen| !seen.same_instance(attempt));
        if attempt.instance == 0 {
            return;
        }
        if self.newest.len() == INSTANCES_REMEMBERED {
            self.newest.remove(0);
        }
        self.newest.push(attempt);
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
            let contest = self.contest.get_or_insert_default();
            if contest.legacy_takeovers.len() >= LEGACY_TAKEOVERS_MAX {
                return Err(AdmitError::TakeoverTooOften(session.subscriber.clone()));
            }
            contest.legacy_takeovers.push(now);
        }
        for stream in displaced {
            stream.close(CloseReason::TakenOver);
        }
        if let Place::Live(live) = std::mem::take(&mut self.place) {
            let contest = self.contest.get_or_insert_default();
            contest.older.push((live, now));
        }
        Ok(())
    }

    fn forget_takeovers(&mut self, now: Instant) {
        let recent = |at: &Instant| now.duration_since(*at) < LEGACY_TAKEOVER_WINDOW;
        self.settle(|contest| contest.legacy_takeovers.retain(recent));
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        let long_gone = match self.place {
            Place::LeftAt(left) => now.duration_since(left) >= REMEMBERED,
            Place::Free | Place::Live(_) => true,
        };
        self.is_unclaimed() && long_gone
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
        if slot.live().is_some_and(is_newest) {
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
        assert!(size_of::<Slot>() <= 56, "{}", size_of::<Slot>());
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
