//! The states of the live subscribers.
//!
//! A subscriber follows the live tails or reads history, and its reader takes its bytes or does not. These are two
//! questions with two answers each, so every live subscriber is in one of four states.
//!
//! Holds: states are derived when they are asked for, and nothing is counted meanwhile. So the sum over the states is the
//! number of live sessions, and the path of a delivery does nothing for them.
//! Does not: end slow subscribers; [`Maintenance`](super::Maintenance) does.

use longlived_broker::Log;
use tokio::task::yield_now;

use super::{Registry, STEP};

/// The state of a live subscriber. Its reader takes nothing while flow control holds pending bytes, for
/// [`HELD_TIME_MIN`](crate::limits::HELD_TIME_MIN) or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriberState {
    /// It follows the live tails, and its reader takes its bytes.
    Live,
    /// It reads pages of history, and its reader takes them: its lag shrinks.
    CatchingUp,
    /// Its reader takes nothing. Its position is in the live tails, where it goes on when its reader reads again.
    Stalled,
    /// Its reader takes nothing, and its position is not in the live tails. Only the position is kept, and nothing is read;
    /// it catches up when its reader reads again.
    Parked,
}

impl SubscriberState {
    const ALL: [Self; 4] = [Self::Live, Self::CatchingUp, Self::Stalled, Self::Parked];

    /// Its name in metrics.
    fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::CatchingUp => "catching_up",
            Self::Stalled => "stalled",
            Self::Parked => "parked",
        }
    }
}

/// How many live subscribers are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriberStates([u64; SubscriberState::ALL.len()]);

impl SubscriberStates {
    fn count(&mut self, state: SubscriberState) {
        self.0[state as usize] += 1;
    }

    /// The name of each state, and how many are in it.
    pub(crate) fn named(self) -> [(&'static str, u64); SubscriberState::ALL.len()] {
        SubscriberState::ALL.map(|state| (state.as_str(), self.0[state as usize]))
    }
}

impl Registry {
    /// The states of all live sessions, which read this log. Their handles are copied in one step, a shard of the map at a
    /// time; they are asked in steps, and other tasks have their turn between these.
    pub(crate) async fn states(&self, log: &Log) -> SubscriberStates {
        let mut states = SubscriberStates::default();
        for (step, sessions) in self.sessions().chunks(STEP).enumerate() {
            if step > 0 {
                yield_now().await;
            }
            let now = log.age();
            for session in sessions {
                states.count(session.state(now));
            }
        }
        states
    }
}
