//! Properties of every store, and stores to test the log with.

pub(crate) mod gate;
pub(crate) mod many;
pub(crate) mod properties;
