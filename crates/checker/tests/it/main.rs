//! The checker finds each mistake, and none in lawful histories.

#![allow(clippy::unwrap_used, reason = "tests")]

mod corrupt;
mod corrupted;
mod damage;
mod hand;
mod large;
mod lawful;
mod model;
