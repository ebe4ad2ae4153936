//! The places of connections that ask for metrics. Of too many one gives its own up.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio_util::sync::CancellationToken;

use crate::limits;

/// The places of connections, the oldest first.
#[derive(Default)]
pub(super) struct Places(VecDeque<Weak<Place>>);

/// The place of a connection. Dropping it gives it back.
#[derive(Default)]
pub(super) struct Place {
    asked: AtomicBool,
    /// Cancelled when another connection gets it.
    pub(super) given_up: CancellationToken,
}

impl Places {
    /// A place for one more. If there is none, the oldest that has asked for nothing gives its own up, or else the oldest.
    pub(super) fn take(&mut self) -> Arc<Place> {
        self.0.retain(|place| place.strong_count() > 0);
        if self.0.len() >= limits::METRICS_CONNECTIONS_MAX {
            let is_silent = |place: &Weak<Place>| {
                let place = place.upgrade();
                place.is_some_and(|place| !place.asked.load(Relaxed))
            };
            let oldest = self.0.iter().position(is_silent).unwrap_or(0);
            let given_up = self.0.remove(oldest).and_then(|place| place.upgrade());
            if let Some(place) = given_up {
                place.given_up.cancel();
            }
        }
        let place = Arc::default();
        self.0.push_back(Arc::downgrade(&place));
        place
    }
}

impl Place {
    /// The head of its request has come.
    pub(super) fn has_asked(&self) {
        self.asked.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_has_asked_for_nothing_gives_its_place_up() {
        let mut places = Places::default();
        let taken: Vec<_> = (0..limits::METRICS_CONNECTIONS_MAX)
            .map(|_| places.take())
            .collect();
        taken[0].has_asked();
        let gone = |places: &[Arc<Place>]| {
            let gone =
                |(at, place): (usize, &Arc<Place>)| place.given_up.is_cancelled().then_some(at);
            places
                .iter()
                .enumerate()
                .filter_map(gone)
                .collect::<Vec<_>>()
        };
        let one = places.take();
        assert_eq!(gone(&taken), [1]);
        for place in &taken {
            place.has_asked();
        }
        one.has_asked();
        let another = places.take();
        assert_eq!(gone(&taken), [0, 1], "all have asked: the oldest");
        drop(one);
        let _last = places.take();
        assert_eq!(gone(&taken), [0, 1], "a place was free");
        assert!(!another.given_up.is_cancelled());
    }
}
