//! Behaviour of the crate, a module each.

mod hpack;
