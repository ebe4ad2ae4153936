//! The clock of ages: it runs with the time that passes, and asks the wall clock only for the time in which no process
//! counted.
//!
//! An event has two times. It is published at a time that subscribers see, which is never lower than that of an earlier
//! event: a wall clock that was ten years ahead once leaves that ten years ahead. It is taken at a time of this clock.
//! Its age is the time that has passed since then, under any wall clock.
//!
//! Holds: the clock never goes back, and of two events the earlier is never the younger. An event that one process
//! takes and keeps has its exact age. After a restart no time counts as passed in between until it is believed. A claim
//! of the wall clock is believed when it has stood for as long as it claims, at most [`SETTLES`]. So a wall clock that
//! is wrong for a moment, as when a machine has just started, makes nothing old. With a right wall clock no event
//! outlives its age by more than [`SETTLES`]. A wall clock that is behind this one still tells how much time passed, by
//! its distance before the restart.
//! Does not: know that a wall clock that stays ahead for longer than [`SETTLES`] after a restart is wrong; or count
//! time that a process which ended before [`SETTLES`] did not believe yet.

use std::time::Duration;

use parking_lot::Mutex;

use crate::environment::Environment;

/// A time that the wall clock shows for this long is believed. A machine that started with a wrong clock has asked the
/// network for the time by then.
pub(crate) const SETTLES: Duration = Duration::from_secs(600);
/// Clocks are corrected by less than this all the time.
const NOTICED_NANOS: u64 = 1_000_000_000;
/// Each restart can leave one, until no event is left that it concerns. Past this limit the two oldest become one, in a
/// way that makes no event older.
const CORRECTIONS_MAX: usize = 64;

/// The two times of an event, in nanoseconds since 1970. Neither is lower than that of an earlier event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The time that subscribers are told, and that `start.time` is compared with.
    pub(crate) published: i64,
    /// The time of [`AgeClock`].
    pub(crate) taken: i64,
}

/// A restart where the clock has moved by something else than the time that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Correction {
    /// An event that was taken up to here ...
    pub(crate) through: i64,
    /// ... is older than the clock says by this, or younger.
    pub(crate) by: i64,
}

/// A time of the clock and the time of the wall clock at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) clock: i64,
    pub(crate) wall: i64,
}

/// The state that a clock needs after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lasting {
    /// The highest that it has shown.
    pub(crate) last: i64,
    /// The oldest first.
    pub(crate) corrections: Vec<Correction>,
    pub(crate) anchor: Option<Anchor>,
    /// Events taken after this may have been taken later than recorded: time had passed before, which was not known
    /// yet.
    pub(crate) uncertain_since: Option<i64>,
}

/// The ages of events at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Ages {
    now: i64,
    corrections: Vec<Correction>,
}

impl Ages {
    /// The time of an event that is taken now.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// How long ago something was taken.
    pub(crate) fn of(&self, taken: i64) -> Duration {
        let later = self
            .corrections
            .iter()
            .filter(|correction| taken <= correction.through)
            .map(|correction| i128::from(correction.by));
        let age = i128::from(self.now) - i128::from(taken) + later.sum::<i128>();
        Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }
}

/// The clock of one store.
#[derive(Debug)]
pub(crate) struct AgeClock {
    environment: Environment,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Its time when the process began ...
    first: i64,
    /// ... and when that was by the time that passes.
    began: Duration,
    /// The state of an earlier process.
    before: Lasting,
    /// The part of the time in between that is believed.
    believed: i64,
    claim: Option<Claim>,
    distance: Option<Claim>,
    /// Of earlier processes.
    corrections: Vec<Correction>,
    anchor: Option<Anchor>,
    uncertain_since: Option<i64>,
    saved: Lasting,
}

/// A claim of the wall clock that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Claim {
    since: Duration,
    nanos: i64,
}

impl Claim {
    fn has_settled(self, at: Duration) -> bool {
        let long = Duration::from_nanos(self.nanos.unsigned_abs()).min(SETTLES);
        at.saturating_sub(self.since) >= long
    }
}

impl AgeClock {
    /// A clock for a history that begins now.
    pub(crate) fn new(environment: Environment) -> Self {
        let begin = Lasting {
            last: environment.unix_nanos(),
            ..Lasting::default()
        };
        Self {
            state: Mutex::new(State::new(&environment, begin)),
            environment,
        }
    }

    /// Goes on where the clock of an earlier process was.
    pub(crate) fn resume(&self, before: Lasting) {
        *self.state.lock() = State::new(&self.environment, before);
    }

    /// The clock of an earlier process has shown more than it wrote down.
    pub(crate) fn has_shown(&self, last: i64) {
        let state = &mut *self.state.lock();
        let mut before = state.before.clone();
        before.last = before.last.max(last);
        *state = State::new(&self.environment, before);
    }

    /// The ages of now. To be asked for every few seconds: the wall clock is not read in between.
    pub(crate) fn ages(&self) -> Ages {
        let (wall, at) = (self.environment.unix_nanos(), self.environment.elapsed());
        let state = &mut *self.state.lock();
        state.believe(wall, at);
        state.note_distance(wall, at);
        Ages {
            now: state.now(at),
            corrections: state.corrections().collect(),
        }
    }

    /// Nothing is kept any more that was taken before this.
    pub(crate) fn forget_before(&self, taken: i64) {
        let corrections = &mut self.state.lock().corrections;
        corrections.retain(|correction| correction.through >= taken);
    }

    /// The state that is needed after a restart.
    pub(crate) fn lasting(&self) -> Lasting {
        let at = self.environment.elapsed();
        self.state.lock().lasting(at)
    }

    /// That was written down.
    pub(crate) fn saved(&self, lasting: Lasting) {
        self.state.lock().saved = lasting;
    }

    /// Whether something has to be written down before its time.
    pub(crate) fn is_unsaved(&self) -> bool {
        let at = self.environment.elapsed();
        let state = self.state.lock();
        let lasting = state.lasting(at);
        // Its time is in every batch.
        let last = state.saved.last;
        Lasting { last, ..lasting } != state.saved
    }
}

/// The joined correction makes no event older.
fn at_most(count: usize, mut corrections: Vec<Correction>) -> Vec<Correction> {
    while corrections.len() > count.max(1) {
        let oldest = corrections.remove(0);
        let next = &mut corrections[0];
        next.by = next.by.min(next.by.saturating_add(oldest.by));
    }
    corrections
}

impl State {
    fn new(environment: &Environment, before: Lasting) -> Self {
        Self {
            // Above: an event that is taken now is told apart from those of an earlier process.
            first: (environment.unix_nanos()).max(before.last.saturating_add(1)),
            began: environment.elapsed(),
            believed: 0,
            claim: None,
            distance: None,
            corrections: at_most(CORRECTIONS_MAX - 2, before.corrections.clone()),
            anchor: before.anchor,
            // Not when it begins where the wall clock is.
            uncertain_since: (environment.unix_nanos() < before.last).then_some(before.last),
            saved: before.clone(),
            before,
        }
    }

    fn now(&self, at: Duration) -> i64 {
        let passed = at.saturating_sub(self.began).as_nanos();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.first.saturating_add(passed)
    }

    fn lasting(&self, at: Duration) -> Lasting {
        Lasting {
            last: self.now(at),
            corrections: self.corrections().collect(),
            anchor: self.anchor,
            uncertain_since: self.uncertain_since,
        }
    }

    /// Those of earlier processes, and that of the beginning of this one.
    fn corrections(&self) -> impl Iterator<Item = Correction> {
        let last = self.before.last;
        let jumped = self.first.saturating_sub(last);
        let own = match self.before.uncertain_since {
            None => [(last, self.believed.saturating_sub(jumped)), (last, 0)],
            // Events of the process before may be younger by the time that passed before it, which is part of the time
            // believed now.
            Some(certain) => [(certain, self.believed), (last, -jumped)],
        };
        let own = own.map(|(through, by)| Correction { through, by });
        let own = own.into_iter();
        let own = own.filter(|own| own.by.unsigned_abs() >= NOTICED_NANOS);
        self.corrections.iter().copied().chain(own)
    }

    /// The time that passed before this process, by the wall clock: the least that it can mean. The wall clock may be
    /// right now and have been right before, or be as wrong as it was.
    fn downtime(&self, wall: i64, at: Duration) -> i64 {
        let uptime = self.now(at).saturating_sub(self.first);
        let began = wall.saturating_sub(uptime);
        let as_before = self.before.anchor.and_then(|anchor| {
            let passed = began.saturating_sub(anchor.wall);
            // Set further back than that it says nothing.
            (passed >= 0).then(|| anchor.clock.saturating_add(passed))
        });
        let meant = [Some(began), as_before].into_iter().flatten();
        let passed = meant.map(|began| began.saturating_sub(self.before.last));
        passed.filter(|&passed| passed >= 0).min().unwrap_or(0)
    }

    /// Believes a claim of the wall clock that has stood for long enough, but never that less time has passed.
    fn believe(&mut self, wall: i64, at: Duration) {
        let more = self.downtime(wall, at).saturating_sub(self.believed);
        if more <= 0 {
            self.claim = None;
            return;
        }
        let claim = self.claim.get_or_insert(Claim {
            since: at,
            nanos: more,
        });
        claim.nanos = claim.nanos.min(more);
        if claim.has_settled(at) {
            self.believed = self.believed.saturating_add(claim.nanos);
            self.claim = None;
        }
    }

    /// Notes how far the wall clock is from this one, once that has been so for long enough.
    fn note_distance(&mut self, wall: i64, at: Duration) {
        let nanos = wall.saturating_sub(self.now(at));
        let is_noticed = |nanos: i64| nanos.unsigned_abs() >= NOTICED_NANOS;
        if !is_noticed(nanos) {
            (self.distance, self.anchor) = (None, None);
            self.uncertain_since = None;
            return;
        }
        let knows = |anchor: Anchor| {
            let known = anchor.wall.saturating_sub(anchor.clock);
            !is_noticed(known.saturating_sub(nanos))
        };
        if self.anchor.is_some_and(knows) {
            (self.distance, self.uncertain_since) = (None, None);
            return;
        }
        // A wall clock that was set back further says nothing, and may come back to where it was.
        if self.anchor.is_some_and(|anchor| wall < anchor.wall) {
            self.distance = None;
            return;
        }
        let same = |claim: &mut Claim| !is_noticed(claim.nanos.saturating_sub(nanos));
        let claim = self.distance.take_if(same);
        let claim = claim.unwrap_or(Claim { since: at, nanos });
        if claim.has_settled(at) {
            self.uncertain_since = None;
            self.anchor = Some(Anchor {
                clock: self.now(at),
                wall,
            });
        } else {
            self.distance = Some(claim);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joined_corrections_make_no_event_older(
            by in prop::collection::vec(-1_000_000_i64..1_000_000, 1..20),
            count in 1..20_usize,
            taken in 0..25_i64,
        ) {
            let all: Vec<_> = (1..).zip(by).map(|(through, by)| Correction { through, by }).collect();
            let joined = at_most(count, all.clone());
            prop_assert!(joined.len() <= count);
            let now = 1_000_000_000;
            let age = |corrections| Ages { now, corrections }.of(taken);
            prop_assert!(age(joined) <= age(all));
        }
    }
}
