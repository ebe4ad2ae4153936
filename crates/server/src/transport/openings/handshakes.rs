//! Handshakes under way: of TLS, and of HTTP/2 where a peer's first bytes come in parts.
//!
//! Holds: there are so few of them that their memory is bounded. A peer that keeps its turn does not keep others waiting for
//! longer than a moment.
//! Does not: know what a handshake is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, interval_at};

use crate::limits;

/// What is said of a handshake that has had its turn.
pub(crate) const TURN_OVER: &str = "it took too long while others waited";

/// The turns of a node. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Handshakes(Arc<Turns>);

#[derive(Debug)]
struct Turns {
    free: Semaphore,
    waiting: AtomicUsize,
}

/// The turn of a handshake, until dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    _permit: SemaphorePermit<'a>,
}

/// One that waits, until dropped.
struct Waiting<'a>(&'a Turns);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    /// This many at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Turns {
            free: Semaphore::new(max),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Returns when it is the caller's turn.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let turns = &*self.0;
        turns.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(turns);
        let permit = turns.free.acquire().await.expect("it is never closed");
        drop(waiting);
        Turn {
            turns,
            _permit: permit,
        }
    }
}

impl Turn<'_> {
    /// Returns when the turn has lasted for [`HANDSHAKE_TURN`](limits::HANDSHAKE_TURN) and another waits.
    pub(crate) async fn is_over(&self) {
        let first = Instant::now() + limits::HANDSHAKE_TURN;
        let mut looks = interval_at(first, limits::HANDSHAKE_TURN / 8);
        loop {
            looks.tick().await;
            if self.turns.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_lasts_until_it_was_long_enough_and_another_waits() {
        let handshakes = Handshakes::new(1);
        let turn = handshakes.turn().await;
        let alone = timeout(Duration::from_secs(60), turn.is_over()).await;
        assert!(alone.is_err(), "nobody waits");
        assert!(handshakes.turn().now_or_never().is_none());
        let begun = Instant::now();
        tokio::select! {
            biased;
            _ = handshakes.turn() => panic!("there is no other"),
            () = turn.is_over() => {}
        }
        assert!(begun.elapsed() >= limits::HANDSHAKE_TURN);
        // The one that waited has gone.
        let alone = timeout(Duration::from_secs(60), turn.is_over()).await;
        assert!(alone.is_err(), "nobody waits");
        drop(turn);
        assert!(handshakes.turn().now_or_never().is_some());
    }
}
