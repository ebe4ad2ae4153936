//! Time and randomness, injected, so that one process can replay a seeded run.
//!
//! Holds: nothing else in the broker or the server asks the operating system for wall time or random
//! numbers. Elapsed time is tokio's, which a test can pause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

/// The source of wall time and of every random number. Cheap to clone; clones share the generator.
#[derive(Clone)]
pub struct Environment {
    wall: Wall,
    began: Instant,
    random: Arc<Mutex<StdRng>>,
}

#[derive(Clone)]
enum Wall {
    System,
    // Wall time that moves with tokio's clock, for replays.
    Replay {
        start: SystemTime,
        // Nanoseconds by which it was set forward, or back, since.
        set: Arc<AtomicI64>,
    },
}

impl Environment {
    /// The machine's clock and randomness.
    pub fn system() -> Self {
        Self {
            wall: Wall::System,
            began: Instant::now(),
            random: Arc::new(Mutex::new(rand::make_rng())),
        }
    }

    /// The same random numbers for the same seed, and wall time that begins at `start` and follows tokio's
    /// clock. Must be called inside a tokio runtime.
    pub fn seeded(seed: u64, start: SystemTime) -> Self {
        Self {
            wall: Wall::Replay {
                start,
                set: Arc::default(),
            },
            began: Instant::now(),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
        }
    }

    /// Wall time.
    pub fn now(&self) -> SystemTime {
        match &self.wall {
            Wall::System => SystemTime::now(),
            Wall::Replay { start, set } => {
                let set = set.load(Ordering::Relaxed);
                let by = Duration::from_nanos(set.unsigned_abs());
                let unset = *start + self.elapsed();
                let now = if set < 0 {
                    unset.checked_sub(by)
                } else {
                    unset.checked_add(by)
                };
                now.unwrap_or(UNIX_EPOCH)
            }
        }
    }

    /// How far a time, in nanoseconds since 1970, is ahead of wall time.
    pub fn ahead(&self, unix_nanos: i64) -> Duration {
        let nanos = unix_nanos.saturating_sub(self.unix_nanos());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Elapsed time since some earlier moment. Nobody can set this clock, and it goes on while the machine sleeps.
    pub fn elapsed(&self) -> Duration {
        match self.wall {
            #[cfg(target_os = "linux")]
            Wall::System => {
                let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::try_from(since_boot).unwrap_or_default()
            }
            #[cfg(not(target_os = "linux"))]
            Wall::System => self.began.elapsed(),
            Wall::Replay { .. } => self.began.elapsed(),
        }
    }

    /// Moves the wall clock of a replay by this many nanoseconds, forward or back. The clock of the machine is never
    /// touched.
    pub fn set_clock_by(&self, nanos: i64) {
        if let Wall::Replay { set, .. } = &self.wall {
            set.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Wall time in nanoseconds since 1970; 0 for a clock before that.
    pub fn unix_nanos(&self) -> i64 {
        self.now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_nanos()).ok())
            .unwrap_or(0)
    }

    /// 64 random bits.
    pub fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }

    /// A random number below `bound`; 0 when `bound` is 0.
    pub fn random_below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.random() % bound }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}
