//! The types that threads share of a connection. They are named here, so that `crates/loom` can build the same code
//! on types that try every order of events between threads.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

pub(super) use atomic_waker::AtomicWaker;
