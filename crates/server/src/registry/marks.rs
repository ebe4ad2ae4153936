//! Subscribers that were unsubscribed while they were away, until they come back and are told.
//!
//! Holds: at most [`UNSUBSCRIBED_AWAY_MAX`](limits::UNSUBSCRIBED_AWAY_MAX) of them, the oldest goes first, and none for
//! longer than [`UNSUBSCRIBED_AWAY_KEPT`](limits::UNSUBSCRIBED_AWAY_KEPT).
//! Does not: know which subscribers are away; the registry's slots do.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    contract::{Attempt, SubscriberKey},
    limits,
};

/// The marks of a node.
#[derive(Default)]
pub(super) struct Marks(Mutex<State>);

#[derive(Default)]
struct State {
    by_key: HashMap<SubscriberKey, Mark>,
    // By their numbers, which is the order in which they were set.
    order: BTreeMap<u64, (Instant, SubscriberKey)>,
    numbers: u64,
}

struct Mark {
    // The run of a program that was unsubscribed; never 0.
    instance: u64,
    number: u64,
}

impl Marks {
    /// The next stream of this instance is told.
    pub(super) fn set(&self, key: SubscriberKey, instance: u64, now: Instant) {
        let mut state = self.0.lock();
        state.remove(&key);
        state.numbers += 1;
        let number = state.numbers;
        state.by_key.insert(key.clone(), Mark { instance, number });
        state.order.insert(number, (now, key));
        while state.order.len() > limits::UNSUBSCRIBED_AWAY_MAX {
            state.remove_oldest();
        }
    }

    /// Whether a stream that begins is to be told. A stream of another instance, or of an unknown one, is a new
    /// subscriber: its id is not marked from now on.
    pub(super) fn meets(&self, key: &SubscriberKey, attempt: Attempt, now: Instant) -> bool {
        let mut state = self.0.lock();
        state.forget(now);
        let Some(mark) = state.by_key.get(key) else {
            return false;
        };
        let same = mark.instance == attempt.instance;
        if !same {
            state.remove(key);
        }
        same
    }

    /// It was told.
    pub(super) fn clear(&self, key: &SubscriberKey) {
        self.0.lock().remove(key);
    }

    /// Forgets old marks.
    pub(super) fn forget(&self, now: Instant) {
        self.0.lock().forget(now);
    }
}

impl State {
    fn remove(&mut self, key: &SubscriberKey) {
        if let Some(mark) = self.by_key.remove(key) {
            self.order.remove(&mark.number);
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, (_, key))) = self.order.pop_first() {
            self.by_key.remove(&key);
        }
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |(since, _): &(Instant, SubscriberKey)| {
            now.saturating_duration_since(*since) >= limits::UNSUBSCRIBED_AWAY_KEPT
        };
        while self
            .order
            .first_key_value()
            .is_some_and(|(_, one)| is_old(one))
        {
            self.remove_oldest();
        }
        if self.by_key.is_empty() {
            self.by_key.shrink_to(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longlived_broker::Principal;

    use super::*;

    fn of(instance: u64) -> Attempt {
        Attempt {
            instance,
            number: 2,
        }
    }

    fn id(id: &str) -> SubscriberKey {
        SubscriberKey::anonymous(id)
    }

    #[test]
    fn only_the_instance_that_was_unsubscribed_is_told_and_any_other_clears_the_mark() {
        let now = Instant::now();
        let marks = Marks::default();
        assert!(!marks.meets(&id("s"), of(7), now));
        marks.set(id("s"), 7, now);
        assert!(!marks.meets(&id("other"), of(7), now));
        assert!(marks.meets(&id("s"), of(7), now));
        assert!(marks.meets(&id("s"), of(7), now), "until it was told");
        marks.clear(&id("s"));
        assert!(!marks.meets(&id("s"), of(7), now));
        for other in [8, 0] {
            marks.set(id("s"), 7, now);
            assert!(!marks.meets(&id("s"), of(other), now));
            assert!(!marks.meets(&id("s"), of(7), now), "{other} has cleared it");
        }
    }

    #[test]
    fn the_mark_of_an_id_is_met_by_its_principal_only() {
        let now = Instant::now();
        let marks = Marks::default();
        marks.set(SubscriberKey::of("ann", "s"), 7, now);
        for other in [SubscriberKey::of("bob", "s"), id("s")] {
            assert!(!marks.meets(&other, of(7), now));
            assert!(!marks.meets(&other, of(8), now));
            marks.clear(&other);
        }
        assert!(marks.meets(&SubscriberKey::of("ann", "s"), of(7), now));
    }

    #[test]
    fn marks_are_kept_for_their_time_and_the_oldest_gives_way() {
        let begin = Instant::now();
        let marks = Marks::default();
        let principal = Principal::anonymous();
        let id = |n: usize| SubscriberKey {
            principal: principal.clone(),
            id: n.to_string().into(),
        };
        for n in 0..limits::UNSUBSCRIBED_AWAY_MAX {
            marks.set(id(n), 7, begin);
        }
        // Set again, it is the newest.
        marks.set(id(0), 7, begin + Duration::from_secs(1));
        marks.set(id(limits::UNSUBSCRIBED_AWAY_MAX), 7, begin);
        assert!(marks.meets(&id(0), of(7), begin));
        assert!(!marks.meets(&id(1), of(7), begin), "it was the oldest");
        assert!(marks.meets(&id(2), of(7), begin));
        let before = begin + limits::UNSUBSCRIBED_AWAY_KEPT - Duration::from_millis(1);
        assert!(marks.meets(&id(2), of(7), before));
        let after = begin + limits::UNSUBSCRIBED_AWAY_KEPT;
        assert!(!marks.meets(&id(2), of(7), after));
        assert!(marks.meets(&id(0), of(7), after), "it was set later");
        marks.forget(after + Duration::from_secs(1));
        assert!(marks.0.lock().order.is_empty() && marks.0.lock().by_key.is_empty());
    }
}
