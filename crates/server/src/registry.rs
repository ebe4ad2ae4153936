//! The live subscribers: principal and id -> the session that is their channel into the node. Decides which of several
//! streams of one id goes on.
//!
//! Holds: streams of one id and instance are ordered by their attempt, however the network delays them; a
//! session that ends late never removes its successor.
//! Does not: speak to anybody; it leaves orders with sessions, which never waits. No guard leaves this file.

mod ages;
mod claim;
mod closing;
mod credentials;
mod expiring;
mod maintenance;
mod marks;
mod pace;
mod session;
mod slot;
mod states;
mod takeovers;
mod timetable;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry, OccupiedEntry};
use longlived_broker::{Environment, Sequence};
use longlived_topic::TopicName;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::claim::Claim;
pub(crate) use self::credentials::Decision;
use self::{
    ages::Ages, closing::Closing, expiring::Expiring, marks::Marks, slot::Slot, takeovers::Fight,
};
pub(crate) use self::{maintenance::Maintenance, session::Session, states::SubscriberStates};
use crate::{
    contract::{CloseReason, RegisterError, SubscriberKey},
    limits,
    throttle::Seldom,
};

/// Sessions or ids looked at before other tasks have their turn: some tens of microseconds.
const STEP: usize = 512;
/// When an id that has something to forget or to end is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Clients come back spread over at least this ...
const RECONNECT_SPREAD_MIN: Duration = Duration::from_secs(1);
/// ... and this much more for each that was live, so that about 2,000 come back in a second ...
const RECONNECT_SPREAD_EACH: Duration = Duration::from_micros(500);
/// ... but not over more than this.
const RECONNECT_SPREAD_MAX: Duration = Duration::from_secs(60);

/// The registry. One per node.
pub(crate) struct Registry {
    slots: DashMap<SubscriberKey, Slot>,
    // How many there are: the map would count all its shards.
    slots_count: AtomicUsize,
    slots_max: usize,
    generations: AtomicU64,
    // Sessions whose registration has not been dropped.
    live: AtomicUsize,
    emptied: Notify,
    // Ids with something to forget or to end, and since when they wait to be looked at. Each at most once, and
    // never those of a quiet live subscriber: there is no need to walk over all.
    unsettled: Mutex<VecDeque<(Instant, SubscriberKey)>>,
    closing: Arc<Closing>,
    expiring: Expiring,
    // Where streams have an age.
    ages: Option<Ages>,
    // Subscribers to be told when they come back.
    marks: Marks,
    fight_lines: Mutex<Seldom>,
}

/// What a look at an id came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// It is not known any more.
    Forgotten,
    /// It is to be looked at again.
    Unsettled,
    Settled,
}

/// A session's place in the registry. Dropping it gives the place back.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    session: Arc<Session>,
}

impl Registry {
    /// An empty registry for at most `slots_max` ids, whose streams become as old as their clients want.
    #[cfg(test)]
    pub(crate) fn new(slots_max: usize) -> Arc<Self> {
        Self::with_ages(slots_max, None)
    }

    /// The same, whose streams become about as old as `age_max`, if there is one.
    pub(crate) fn with_ages(slots_max: usize, age_max: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            slots: DashMap::new(),
            slots_count: AtomicUsize::new(0),
            slots_max,
            generations: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            emptied: Notify::new(),
            unsettled: Mutex::default(),
            closing: Arc::default(),
            expiring: Expiring::default(),
            ages: age_max.map(Ages::new),
            marks: Marks::default(),
            fight_lines: Mutex::new(Seldom::new(limits::FIGHT_LINES_INTERVAL)),
        })
    }

    /// A number for the next session.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether a session would be let in now, before anything is done for it.
    pub(crate) fn check(&self, claim: Claim<'_>) -> Result<(), RegisterError> {
        let now = Instant::now();
        let key = claim.key();
        let Some(mut slot) = self.slots.get_mut(&key) else {
            return claim.check_quota();
        };
        if slot.has_no_session() {
            claim.check_quota()?;
        }
        let checked = slot.check(claim, now);
        let fight = slot.tell_fight(now);
        drop(slot);
        self.log_fight(&key, fight);
        checked
    }

    /// Makes a session the live one of its subscriber, if it is the newest. The session that it displaces is told to
    /// end: at once if it belongs to another instance, otherwise when [`Registration::became_current`] is called.
    pub(crate) fn register(
        self: &Arc<Self>,
        session: Arc<Session>,
    ) -> Result<Registration, RegisterError> {
        let key = session.key();
        let mut entry = loop {
            match self.slots.entry(key.clone()) {
                Entry::Occupied(entry) => break entry.into_ref(),
                Entry::Vacant(entry) if self.count_one_more() => {
                    break entry.insert(Slot::default());
                }
                // Its guard goes before another id is looked at, which may be in another shard.
                Entry::Vacant(_) => {}
            }
            if !self.make_room() {
                return Err(RegisterError::SubscribersExhausted(self.slots_max));
            }
        };
        let slot = entry.value_mut();
        let now = Instant::now();
        let unaware = slot.is_unaware(session.attempt);
        if let Err(refused) = slot.register(&session, now) {
            drop(entry);
            self.forget_empty(&key);
            return Err(refused);
        }
        self.live.fetch_add(1, Ordering::AcqRel);
        let unsettled = slot.is_newly_unsettled();
        let fight = slot.tell_fight(now);
        drop(entry);
        self.log_fight(&key, fight);
        self.expiring.add(&session);
        if let Some(ages) = &self.ages {
            ages.add(&session, now);
        }
        // Checked when the session is in its place: a caller that sets a mark looks there afterwards.
        if self.marks.meets(&key, session.attempt, now) || unaware {
            session.close(CloseReason::Unsubscribed);
        }
        if unsettled {
            self.queue(key);
        }
        Ok(Registration {
            registry: self.clone(),
            session,
        })
    }

    fn count_one_more(&self) -> bool {
        let one_more = |count| (count < self.slots_max).then_some(count + 1);
        let counted = self
            .slots_count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        counted.is_ok()
    }

    /// Forgets the id that has waited longest of those that have left, although it may come back. `false` if there is none among the next
    /// [`STEP`] that wait to be looked at.
    fn make_room(&self) -> bool {
        for _ in 0..STEP {
            let Some((_, key)) = self.unsettled.lock().pop_front() else {
                return false;
            };
            match self.look_at(&key, Instant::now(), Slot::is_unclaimed) {
                Looked::Forgotten => return true,
                Looked::Unsettled => self.queue(key),
                Looked::Settled => {}
            }
        }
        false
    }

    /// The live sessions of a subscriber, the newest first; the older ones are about to be replaced.
    pub(crate) fn sessions_of(&self, subscriber: &SubscriberKey) -> Vec<Arc<Session>> {
        self.slots
            .get(subscriber)
            .map_or_else(Vec::new, |slot| slot.sessions().cloned().collect())
    }

    /// Unsubscribes a subscriber that is expected back; it is told when it comes. Returns the last sequence that it was
    /// sent, or `None` if it is not expected.
    pub(crate) fn unsubscribe_away(&self, subscriber: &SubscriberKey) -> Option<Sequence> {
        let away = self.slots.get(subscriber).and_then(|slot| slot.away())?;
        let now = Instant::now();
        self.marks.set(subscriber.clone(), away.instance, now);
        // A subscriber that came back before the mark was set has not met it.
        for session in self.sessions_of(subscriber) {
            session.close(CloseReason::Unsubscribed);
        }
        Some(away.sequence)
    }

    /// The inboxes that are followed now. Holds one shard of the map at a time.
    pub(crate) fn followed_inboxes(&self) -> Vec<(TopicName, SubscriberKey)> {
        self.slots
            .iter()
            .filter_map(|slot| {
                let session = slot.live()?;
                let inbox = session.followed_inbox()?;
                Some((inbox, session.key()))
            })
            .collect()
    }

    /// How many sessions are live.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// All live sessions, in no order. Holds one shard of the map at a time.
    fn sessions(&self) -> Vec<Arc<Session>> {
        let all = self.slots.iter();
        all.flat_map(|slot| slot.sessions().cloned().collect::<SmallVec<[_; 1]>>())
            .collect()
    }

    /// Tells every session to end; `reason` is asked once for each. In the order in which they came, which a
    /// replay repeats; the order of the map differs from process to process.
    pub(crate) fn close_all(&self, mut reason: impl FnMut() -> CloseReason) {
        for session in self.sessions_in_order() {
            session.close(reason());
        }
    }

    fn sessions_in_order(&self) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions();
        sessions.sort_unstable_by_key(|session| session.generation);
        sessions
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

    /// When a client that is sent away comes back, so that not all return at once.
    pub(crate) fn turn(&self, environment: &Environment) -> Duration {
        self.turn_within(Duration::MAX, environment)
    }

    /// The same, for a client that shall be back within this time.
    pub(crate) fn turn_within(&self, within: Duration, environment: &Environment) -> Duration {
        let spread = self.spread().min(within).max(Duration::from_nanos(1));
        Duration::from_nanos(environment.random_below(spread.as_nanos() as u64))
    }

    /// All turns lie within this time.
    fn spread(&self) -> Duration {
        let live = u32::try_from(self.live()).unwrap_or(u32::MAX);
        (RECONNECT_SPREAD_MIN + RECONNECT_SPREAD_EACH.saturating_mul(live))
            .min(RECONNECT_SPREAD_MAX)
    }

    /// Ends streams that were replaced long ago, and forgets ids whose subscriber left long ago, of at most `limit`
    /// ids. Returns whether there are more.
    pub(crate) fn look_again(&self, now: Instant, limit: usize) -> bool {
        self.marks.forget(now);
        let keys: Vec<_> = {
            let mut unsettled = self.unsettled.lock();
            let is_time =
                |(since, _): &(Instant, _)| now.saturating_duration_since(*since) >= LOOK_AGAIN;
            let count = unsettled
                .iter()
                .take(limit)
                .take_while(|one| is_time(one))
                .count();
            if unsettled.is_empty() {
                unsettled.shrink_to(64);
            }
            unsettled.drain(..count).map(|(_, key)| key).collect()
        };
        let more = keys.len() == limit;
        for key in keys {
            let looked = self.look_at(&key, now, |slot| slot.is_forgettable(now));
            if looked == Looked::Unsettled {
                self.queue(key);
            }
        }
        more
    }

    fn queue(&self, key: SubscriberKey) {
        let mut unsettled = self.unsettled.lock();
        // Under the lock, so that the order is that of time.
        unsettled.push_back((Instant::now(), key));
    }

    /// Looks at an id that was queued, and forgets it if that may be.
    fn look_at(
        &self,
        key: &SubscriberKey,
        now: Instant,
        is_forgettable: impl FnOnce(&Slot) -> bool,
    ) -> Looked {
        let Entry::Occupied(mut entry) = self.slots.entry(key.clone()) else {
            return Looked::Settled;
        };
        let slot = entry.get_mut();
        let fight = slot.tell_refused(now);
        slot.look_again(now);
        let looked = if is_forgettable(slot) {
            self.remove(entry);
            Looked::Forgotten
        } else {
            let unsettled = slot.is_newly_unsettled();
            slot.shrink_if_empty();
            drop(entry);
            if unsettled {
                Looked::Unsettled
            } else {
                Looked::Settled
            }
        };
        self.log_fight(key, fight);
        looked
    }

    /// Of an id that was not let in.
    fn forget_empty(&self, key: &SubscriberKey) {
        if let Entry::Occupied(entry) = self.slots.entry(key.clone())
            && entry.get().is_empty()
        {
            self.remove(entry);
        }
    }

    fn remove(&self, entry: OccupiedEntry<'_, SubscriberKey, Slot>) {
        entry.remove();
        self.slots_count.fetch_sub(1, Ordering::AcqRel);
    }

    /// One line for many: the streams that end in a fight are not logged one by one, nor are fights over very many ids.
    fn log_fight(&self, key: &SubscriberKey, fight: Option<Fight>) {
        if let Some(Fight { takeovers, refused }) = fight
            && let Some(unlogged) = self.fight_lines.lock().now()
        {
            let window = limits::TAKEOVER_WINDOW;
            tracing::warn!(
                principal = key.principal.name(),
                subscriber = &*key.id,
                takeovers,
                ?window,
                refused,
                unlogged,
                "programs keep taking over a subscriber id from each other"
            );
        }
    }

    fn is_live(&self, session: &Session) -> bool {
        let slot = self.slots.get(&session.key());
        slot.is_some_and(|slot| {
            let live = slot.live();
            live.is_some_and(|live| live.generation == session.generation)
        })
    }

    fn leave(&self, session: &Session) {
        let key = session.key();
        if let Some(ages) = &self.ages {
            ages.remove(session);
        }
        if session.attempt.instance != 0
            && session.closing() == Some(CloseReason::Unsubscribed)
            && self.is_live(session)
        {
            // Before the session is gone, so that a subscriber that comes back then meets the mark.
            if session.is_unaware() {
                let instance = session.attempt.instance;
                self.marks.set(key.clone(), instance, Instant::now());
            } else {
                self.marks.clear(&key);
            }
        }
        let mut unsettled = false;
        if let Entry::Occupied(mut entry) = self.slots.entry(key.clone()) {
            let slot = entry.get_mut();
            slot.leave(session);
            if slot.is_empty() {
                self.remove(entry);
            } else {
                unsettled = slot.is_newly_unsettled();
                slot.shrink_if_empty();
            }
        }
        // When it is in its place no more: see `expire`.
        self.expiring.remove(session);
        if unsettled {
            self.queue(key);
        }
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }
}

impl Registration {
    /// The session that is registered.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The session has caught up: the streams it replaces end.
    pub(crate) fn became_current(&self) {
        if self.session.replaces()
            && let Some(slot) = self.registry.slots.get(&self.session.key())
        {
            slot.end_replaced_by(&self.session);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.leave(&self.session);
    }
}

#[cfg(test)]
mod tests;
