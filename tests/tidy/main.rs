//! What can be checked by reading the repository: sizes of files and functions, sleeps in tests, who builds a status,
//! which module imports which, what crates offer, limits with their reasons, the flags and metrics in the documents,
//! where their links lead, and phrases that leave a noun out.
//!
//! Holds: each list of exceptions is the state of today with a reason, and only shrinks. A test that fails says what to do.
//! Does not: compile anything, or judge what only a reader can.

#![allow(clippy::unwrap_used, reason = "tests")]

mod documents;
mod imports;
mod limits;
mod links;
mod modules;
mod phrases;
mod public;
mod sizes;
mod sleeps;
mod source;
mod stairs;
mod statuses;
