//! A whole node through the wire: every rule of both contracts that a client can see.

mod bad_input;
mod calls;
mod compression;
mod drain;
mod dying;
mod fights;
mod filters;
mod frozen;
mod half_sent;
mod leaving;
mod limits;
mod metrics;
mod opening;
mod paused;
mod publishing;
mod random;
mod sessions;
mod sizes;
mod slow;
mod small_frames;
mod stalled;
mod statuses;
mod store_trouble;
mod support;
mod takeover;
mod topics;
