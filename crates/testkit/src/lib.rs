//! Support that the tests of several crates share.
//!
//! - [`wait`]: one patience for all, and waiting for a condition.
//! - [`grpc`]: the five bytes before each message.
//! - [`frames`]: HTTP/2 frames written by hand.
//! - [`block`]: header blocks written by hand.
//! - `attacks`, a feature: what such frames make a server do, kind by kind.
//! - [`attacker`]: a peer that sends such frames, and notes what it is told.
//! - [`raw`]: an HTTP/2 client that leaves windows and resets to the test.
//! - [`requests`]: requests of the contract with nothing special in them.
//! - [`responses`]: the responses of one subscription, one by one.
//! - [`statuses`]: the details that every status of the contract carries.
//!
//! Does not: know the server or the client. The code that starts one of them stands in the tests of its crate.

pub mod attacker;
#[cfg(feature = "attacks")]
pub mod attacks;
pub mod block;
pub mod frames;
pub mod grpc;
pub mod raw;
pub mod requests;
pub mod responses;
pub mod statuses;
pub mod wait;
