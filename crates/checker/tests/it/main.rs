//! What the checker finds, and that it finds nothing in lawful histories.

#![allow(clippy::unwrap_used, reason = "tests")]

mod corrupt;
mod corrupted;
mod damage;
mod hand;
mod large;
mod lawful;
mod model;
