//! One function for each kind of bytes that come from outside, with what must be true of any of them. The targets in `fuzz/` call it with
//! what libFuzzer makes up, and the tests of this crate with what stands in `fuzz/corpus/`.
//!
//! Holds: a function panics if, and only if, a promise is broken. It gives the same for the same bytes, and asks neither the disk nor the
//! network nor the clock.

#![cfg(feature = "targets")]

mod auth_file;
mod proxy_header;
mod tokens;

pub use auth_file::auth_file;
pub use proxy_header::{judge, proxy_header, taken};
pub use tokens::tokens;
