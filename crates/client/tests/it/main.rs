//! The client on the wire, against a server that plays by script.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bulk;
mod compression;
mod fleet;
mod legacy;
mod moves;
mod outages;
mod overlap;
mod publishing;
mod real;
mod recording;
mod renewal;
mod scripted;
mod stalled;
mod subscribing;
mod tokens;
