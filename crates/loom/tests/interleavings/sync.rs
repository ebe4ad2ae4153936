//! The types of the `sync` modules of broker and server, as loom has them, and the mistakes that models have to find.

use std::env;
use std::sync::LazyLock;
use std::task::Waker;

use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::Ordering;

/// A mistake that a model has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Atomic types order nothing: each ordering is `Relaxed`.
    Relaxed,
    /// A read-modify-write of an atomic type is done in two steps.
    TwoSteps,
    /// A subscriber leaves its waker after it has looked.
    RegistersLate,
    /// A subscriber that a live tail has left out does not join it again.
    LeftOutForGood,
    /// A task sleeps without a look at the state.
    SleepsWithoutAsking,
}

/// Names the mistake that is made in a process.
pub(crate) const VARIABLE: &str = "LONGLIVED_LOOM_MISTAKE";

static PLANTED: LazyLock<String> = LazyLock::new(|| env::var(VARIABLE).unwrap_or_default());

impl Mistake {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::TwoSteps => "two-steps",
            Self::RegistersLate => "registers-late",
            Self::LeftOutForGood => "left-out-for-good",
            Self::SleepsWithoutAsking => "sleeps-without-asking",
        }
    }

    pub(crate) fn is_planted(self) -> bool {
        *PLANTED == self.name()
    }
}

fn as_planted(order: Ordering) -> Ordering {
    if Mistake::Relaxed.is_planted() {
        Ordering::Relaxed
    } else {
        order
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "each type has the same methods")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(as_planted(order))
            }

            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, as_planted(order));
            }

            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                if Mistake::TwoSteps.is_planted() {
                    return self.in_two_steps(|_| value);
                }
                self.0.swap(value, as_planted(order))
            }

            pub(crate) fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                if Mistake::TwoSteps.is_planted() {
                    return self.in_two_steps(|before| before | value);
                }
                self.0.fetch_or(value, as_planted(order))
            }

            pub(crate) fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                if Mistake::TwoSteps.is_planted() {
                    return self.in_two_steps(|before| before & value);
                }
                self.0.fetch_and(value, as_planted(order))
            }

            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                if Mistake::TwoSteps.is_planted() {
                    let before = self.0.load(Ordering::Acquire);
                    let after = change(before).ok_or(before)?;
                    self.0.store(after, Ordering::Release);
                    return Ok(before);
                }
                self.0
                    .fetch_update(as_planted(set), as_planted(fetch), change)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let (success, failure) = (as_planted(success), as_planted(failure));
                self.0.compare_exchange(current, new, success, failure)
            }

            fn in_two_steps(&self, change: impl Fn($value) -> $value) -> $value {
                let before = self.0.load(Ordering::Acquire);
                self.0.store(change(before), Ordering::Release);
                before
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU64, u64);

#[derive(Debug, Default)]
pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        self.0.load(as_planted(order))
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        self.0.store(value, as_planted(order));
    }
}

#[derive(Debug)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self(loom::future::AtomicWaker::new())
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

impl Default for AtomicWaker {
    fn default() -> Self {
        Self::new()
    }
}

/// As the one of `parking_lot`, which knows no poison.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no model goes on after a panic")
    }
}
