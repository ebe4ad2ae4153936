//! Behaviour of the crate, a module each.

#![allow(
    clippy::disallowed_types,
    reason = "the crate takes the caller's clock; here it is a first moment, and time is added to it"
)]
#![allow(
    clippy::struct_excessive_bools,
    reason = "in models and plans each says a thing of its own"
)]

mod anything;
mod blocks;
mod closing;
mod corpus;
mod credit;
mod cuts;
mod dialogue;
mod fixed_elsewhere;
mod hpack;
mod in_step;
mod messages;
mod peer;
mod responses;
mod server;
mod settings;
mod states;
mod windows;
mod wire;
