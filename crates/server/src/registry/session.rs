//! The handle of one live call of a subscriber, for the registry, the generator and the drain.
//!
//! The session's body owns the cursor and writes the responses. Holders of a [`Session`] never wait for it: they leave
//! an order and raise its signal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use longlived_broker::{Cursor, Interest, Principal, Sequence, Signal, SlowPolicy, Tails};
use longlived_topic::TopicName;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Registry,
    closing::Closing,
    pace::{Behind, Pace},
    states::SubscriberState,
};
use crate::{
    contract::{
        Attempt, Caller, CloseReason, Contract, Plan, QuotaExhausted, SubscriberKey, Usage,
    },
    layers::CallRecord,
    limits,
};

/// The handle of one live call.
pub(crate) struct Session {
    // Who began it. It may have been decided again since, but its name stays.
    first_caller: Arc<Caller>,
    /// The id of the subscriber.
    pub subscriber: Arc<str>,
    /// Tells the sessions of one subscriber apart, so that a stream that ends late never removes its successor.
    pub generation: u64,
    /// Which run and attempt.
    pub attempt: Attempt,
    /// Which contract it speaks.
    pub contract: Contract,
    signal: Arc<Signal>,
    record: Arc<CallRecord>,
    closing: Arc<Closing>,
    state: Mutex<State>,
    // Written by the body, read by the generator.
    follows_inbox: AtomicBool,
    // Written by the registry: its id is fought over, so its lines are summed up.
    contested: AtomicBool,
    // Written by the registry: others of its id are to end when it has caught up.
    replaces: AtomicBool,
    // Written by the body, read by the registry: all that it had to say, its end too, is with the connection.
    told: AtomicBool,
    // Written by the registry, taken by the body: see `Orders`.
    remind: AtomicBool,
    decide: AtomicBool,
    // How many count for the quota: of a program of the frozen contract, whose filters the operator names, 255 at most. Written by the body.
    filters: AtomicU8,
    // Only of a reader that asked to be disconnected when slow.
    pace: Option<Box<Pace>>,
}

#[derive(Default)]
struct State {
    // In a box, which a stream has none of that nobody wants to end.
    ending: Option<Box<Ending>>,
    // The signal of the shared reader, while the session has nothing of its own to send. Written by the body, read by
    // calls that ask for the position.
    reader: Option<Arc<Signal>>,
    // Those of its filters. Written by the body, read by code that watches the session from outside.
    tails: Tails,
    // The caller, once it has been decided again. Written by the registry.
    caller: Option<Arc<Caller>>,
}

/// How a session is to end.
#[derive(Default)]
struct Ending {
    // Written by code that closes the session; the first reason wins. Read by the body.
    close: Option<CloseReason>,
    // Written by the registry: it goes on until then, so that another stream can take its place.
    moves: Option<(CloseReason, Instant)>,
    // Written by the body: its client knows that.
    knows: bool,
}

/// What the body of a session is to do beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Tell its client when the credential expires.
    pub remind: bool,
    /// Look whether the caller may still follow its filters.
    pub decide: bool,
}

impl Session {
    /// The handle of a call that is about to begin, whose cursor is open and has this signal.
    pub(crate) fn new(
        registry: &Registry,
        plan: &Plan,
        record: Arc<CallRecord>,
        cursor: &Cursor,
        signal: Arc<Signal>,
    ) -> Arc<Self> {
        let watched = plan.options.slow_policy == SlowPolicy::Disconnect;
        let session = Self {
            first_caller: plan.caller.clone(),
            subscriber: plan.subscriber.clone(),
            generation: registry.next_generation(),
            attempt: plan.attempt,
            contract: plan.contract,
            signal,
            record,
            state: Mutex::default(),
            remind: AtomicBool::new(false),
            decide: AtomicBool::new(false),
            filters: AtomicU8::new(u8::try_from(plan.filters.len()).unwrap_or(u8::MAX)),
            follows_inbox: AtomicBool::new(false),
            closing: registry.closing().clone(),
            contested: AtomicBool::new(false),
            replaces: AtomicBool::new(false),
            told: AtomicBool::new(false),
            pace: watched.then(|| Box::new(Pace::new())),
        };
        session.set_filters(cursor);
        Arc::new(session)
    }

    /// Whose stream it is.
    pub(crate) fn key(&self) -> SubscriberKey {
        self.first_caller.subscriber(&self.subscriber)
    }

    /// Whether its caller was checked. One that was not stays as it is.
    pub(super) fn is_checked(&self) -> bool {
        self.first_caller.is_checked()
    }

    /// What its caller uses, where that is counted.
    pub(super) fn usage(&self) -> Option<&Usage> {
        self.first_caller.usage.as_deref()
    }

    /// How many filters count for its caller's quota.
    pub(super) fn filters(&self) -> u64 {
        self.filters.load(Ordering::Acquire).into()
    }

    /// Counts another filter, before it is there.
    pub(crate) fn count_filter(&self) -> Result<(), QuotaExhausted> {
        if let Some(usage) = self.usage() {
            usage.add_filters(1)?;
        }
        self.filters.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// A filter that was counted is gone, or did not come.
    pub(crate) fn uncount_filter(&self) {
        let fewer = |filters: u8| filters.checked_sub(1);
        let order = Ordering::AcqRel;
        let counted = self.filters.fetch_update(order, Ordering::Acquire, fewer);
        if let (Ok(_), Some(usage)) = (counted, self.usage()) {
            usage.remove_filters(1);
        }
    }

    /// The principal of its caller.
    pub(crate) fn principal(&self) -> &Principal {
        &self.first_caller.principal
    }

    /// The caller, as it is decided now.
    pub(crate) fn caller(&self) -> Arc<Caller> {
        let again = self.state.lock().caller.clone();
        again.unwrap_or_else(|| self.first_caller.clone())
    }

    /// It goes on with this caller; the filters that this one may not follow end.
    pub(super) fn set_caller(&self, caller: Arc<Caller>) {
        self.state.lock().caller = Some(caller);
        self.decide.store(true, Ordering::Release);
        self.signal.raise(Interest::Control);
    }

    /// The same, if its caller is still this one.
    pub(super) fn replace_caller(&self, of: &Arc<Caller>, caller: &Arc<Caller>) -> bool {
        {
            let mut state = self.state.lock();
            let present = state.caller.as_ref().unwrap_or(&self.first_caller);
            if !Arc::ptr_eq(present, of) {
                return false;
            }
            state.caller = Some(caller.clone());
        }
        self.decide.store(true, Ordering::Release);
        self.signal.raise(Interest::Control);
        true
    }

    /// Whether it was told something that it must not overlook, and has not heard it.
    pub(super) fn is_deaf(&self) -> bool {
        self.closing().is_some() || self.decide.load(Ordering::Acquire)
    }

    /// Its client is to hear when the credential expires.
    pub(super) fn remind(&self) {
        self.remind.store(true, Ordering::Release);
        self.signal.raise(Interest::Control);
    }

    /// What the body is to do; it is said once.
    pub(crate) fn take_orders(&self) -> Orders {
        Orders {
            remind: self.remind.swap(false, Ordering::AcqRel),
            decide: self.decide.swap(false, Ordering::AcqRel),
        }
    }

    /// The record of its call.
    pub(crate) fn record(&self) -> &CallRecord {
        &self.record
    }

    /// Asks the stream to end; the first reason holds.
    pub(crate) fn close(self: &Arc<Self>, reason: CloseReason) {
        let first = {
            let mut state = self.state.lock();
            let close = &mut state.ending.get_or_insert_default().close;
            let first = close.is_none();
            close.get_or_insert(reason);
            first
        };
        if first {
            self.closing.note(self);
        }
        self.signal.raise(Interest::Control);
    }

    /// Whether its client can open another stream beside it.
    pub(super) fn can_move(&self) -> bool {
        self.attempt.instance != 0
    }

    /// Tells its client to open another stream, and goes on until `ends` for that. The word of a drain holds.
    pub(super) fn move_on(&self, reason: CloseReason, ends: Instant) {
        {
            let mut state = self.state.lock();
            let ending = state.ending.get_or_insert_default();
            if let Some((CloseReason::Draining { .. }, _)) = ending.moves {
                return;
            }
            ending.moves = Some((reason, ends));
            ending.knows = false;
        }
        self.signal.raise(Interest::Control);
    }

    /// That its client is to be told to move, and until when it goes on; it is said once.
    pub(crate) fn take_move(&self) -> Option<(CloseReason, Instant)> {
        let mut state = self.state.lock();
        let ending = state.ending.as_mut()?;
        let moves = ending.moves?;
        (!std::mem::replace(&mut ending.knows, true)).then_some(moves)
    }

    /// Whether its client knows that it ends about now, for about this reason.
    pub(crate) fn knows_of(&self, reason: CloseReason) -> bool {
        let state = self.state.lock();
        let ending = state.ending.as_ref().filter(|ending| ending.knows);
        let moves = ending.and_then(|ending| ending.moves);
        moves.is_some_and(|(told, _)| told.is_same_kind(reason))
    }

    /// Its id is fought over.
    pub(crate) fn set_contested(&self) {
        self.contested.store(true, Ordering::Relaxed);
    }

    /// Whether its id is fought over.
    pub(crate) fn is_contested(&self) -> bool {
        self.contested.load(Ordering::Relaxed)
    }

    /// Others of its id are to end when it has caught up.
    pub(crate) fn set_replaces(&self) {
        self.replaces.store(true, Ordering::Relaxed);
    }

    /// Whether others of its id are to end when it has caught up.
    pub(crate) fn replaces(&self) -> bool {
        self.replaces.load(Ordering::Relaxed)
    }

    /// The line of its end is one of many, which are summed up.
    pub(crate) fn set_quiet(&self) {
        self.record.set_quiet();
    }

    /// All that it had to say, its end too, is with the connection.
    pub(crate) fn set_told(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// Whether it was unsubscribed and has not heard of it.
    pub(crate) fn is_unaware(&self) -> bool {
        self.closing() == Some(CloseReason::Unsubscribed) && !self.told.load(Ordering::Acquire)
    }

    /// Whether its client comes back when it has ended, as far as is known.
    pub(crate) fn comes_back(&self) -> bool {
        self.closing().is_none_or(CloseReason::retryable)
    }

    /// Why it was asked to end, if it was.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.state.lock().ending.as_ref()?.close
    }

    /// Resets the stream, for a reader that takes nothing and so cannot be told anything.
    pub(super) fn reset(&self) {
        self.record.set_end(match self.closing() {
            Some(reason) => format!("{}; reset, the reader takes nothing", reason.as_str()),
            None => "reset".to_owned(),
        });
        self.record.abort();
    }

    /// The inbox, if the subscriber has one and follows it.
    pub(crate) fn followed_inbox(&self) -> Option<TopicName> {
        let follows = self.follows_inbox.load(Ordering::Relaxed);
        follows.then(|| TopicName::inbox(&self.subscriber))?
    }

    /// The last sequence handed to the connection, or passed.
    pub(crate) fn sequence(&self) -> Sequence {
        let state = self.state.lock();
        let read = state.reader.as_ref().map_or(0, |reader| reader.sequence());
        read.max(self.signal.sequence())
    }

    /// Another reader reads for it from now on, or none does.
    pub(crate) fn set_reader(&self, reader: Option<Arc<Signal>>) {
        self.state.lock().reader = reader;
    }

    /// The filters of its cursor are these now.
    pub(crate) fn set_filters(&self, cursor: &Cursor) {
        let mut filters = cursor.filters();
        let follows = filters.any(|filter| filter.is_inbox_of(&self.subscriber));
        self.follows_inbox.store(follows, Ordering::Relaxed);
        self.state.lock().tails = cursor.tails();
    }

    /// Its body was polled, and had nothing to say if `at_rest`.
    pub(crate) fn polled(&self, at_rest: bool) {
        if let Some(pace) = &self.pace {
            pace.polled(Instant::now(), at_rest);
        }
    }

    /// It has caught up.
    pub(crate) fn set_current(&self) {
        if let Some(pace) = &self.pace {
            pace.set_current();
        }
    }

    /// Whether it follows the live tails or reads history, and whether its reader takes its bytes; `now` is the age of
    /// the log.
    pub(super) fn state(&self, now: Duration) -> SubscriberState {
        let reader = self.state.lock().reader.clone();
        let signal = reader.as_ref().unwrap_or(&self.signal);
        let held = (signal.held_since())
            .is_some_and(|since| now.saturating_sub(since) >= limits::HELD_TIME_MIN);
        // While its reader takes its bytes, a cursor that has left the tails says so itself.
        let left_the_tails = || held && !self.tails().reach(signal.sequence());
        match (held, signal.is_catching_up() || left_the_tails()) {
            (false, false) => SubscriberState::Live,
            (false, true) => SubscriberState::CatchingUp,
            (true, false) => SubscriberState::Stalled,
            (true, true) => SubscriberState::Parked,
        }
    }

    /// A copy, so that no lock is held while they are looked at.
    fn tails(&self) -> Tails {
        self.state.lock().tails.clone()
    }

    /// How its reader falls behind, if that matters to anybody.
    pub(super) fn behind(&self) -> Option<Behind> {
        self.pace.as_ref()?.behind(&self.signal, || self.tails())
    }
}

#[cfg(test)]
impl Session {
    /// One without a stream.
    pub(crate) fn of(key: &SubscriberKey, generation: u64, attempt: Attempt) -> Arc<Self> {
        let caller = Caller {
            principal: key.principal.clone(),
            ..Caller::anonymous()
        };
        Self::of_caller(caller, key.id.clone(), generation, attempt)
    }

    /// The same of a caller.
    pub(crate) fn of_caller(
        caller: Caller,
        subscriber: Arc<str>,
        generation: u64,
        attempt: Attempt,
    ) -> Arc<Self> {
        let of_node = Arc::new(crate::layers::OfNode {
            drain: crate::lifecycle::Drain::new(),
            sums: crate::layers::Sums::default(),
        });
        Arc::new(Self {
            first_caller: Arc::new(caller),
            subscriber,
            generation,
            attempt,
            contract: Contract::V1,
            signal: Arc::default(),
            record: Arc::new(CallRecord::new("/test", None, None, None, of_node)),
            state: Mutex::default(),
            remind: AtomicBool::new(false),
            decide: AtomicBool::new(false),
            filters: AtomicU8::new(0),
            follows_inbox: AtomicBool::new(false),
            closing: Arc::default(),
            contested: AtomicBool::new(false),
            replaces: AtomicBool::new(false),
            told: AtomicBool::new(false),
            pace: None,
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("subscriber", &self.subscriber)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
