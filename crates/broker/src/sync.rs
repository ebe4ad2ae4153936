//! The types that threads share without a lock. They are named here, so that `crates/loom` can build the same code
//! on types that try every order of events between threads.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

pub(crate) use atomic_waker::AtomicWaker;
