//! A whole node through the wire: every rule of both contracts that a client can see.

mod filters;
mod frozen;
mod leaving;
mod opening;
mod sessions;
mod support;
mod takeover;
