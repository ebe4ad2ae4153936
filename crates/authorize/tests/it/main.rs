//! Decisions against an oracle: sets of names, written down without the code of the crate.

#![allow(clippy::unwrap_used, reason = "tests")]

mod oracle;
mod random;
