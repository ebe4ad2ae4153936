//! What holds for every store, and stores to try the log with.

pub(crate) mod gate;
pub(crate) mod many;
pub(crate) mod properties;
