//! One function for each kind of bytes that come from outside, with what must be true of any of them. The targets in `fuzz/` call it with
//! what libFuzzer makes up, and the tests of this crate with what stands in `fuzz/corpus/`.
//!
//! Holds: a function panics if, and only if, a promise is broken. It gives the same for the same bytes, and asks neither the disk nor the
//! network.

#![cfg(feature = "targets")]

mod auth_file;
mod changes;
mod log_records;
mod proxy_header;
mod sealed_file;
mod store;
mod tokens;

pub use auth_file::auth_file;
pub use log_records::log_records;
pub use proxy_header::{judge, proxy_header, taken};
pub use sealed_file::sealed_file;
pub use tokens::tokens;
