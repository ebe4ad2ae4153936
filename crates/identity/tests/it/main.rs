//! Which caller a credential makes, by the public door of the crate; keys and certificates are real ones.

#![allow(clippy::unwrap_used, reason = "tests")]

mod again;
mod algorithms;
mod certificates;
mod claims;
mod entries;
mod file;
mod issuers;
mod keys;
mod named_grants;
mod quotas;
mod secrets;
mod sign;
mod support;
mod templates;
mod values;
