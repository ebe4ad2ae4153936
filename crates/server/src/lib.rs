//! The transport half of the node.

pub mod acceptor;
pub mod connection;
pub mod layers;
pub mod lifecycle;
pub mod limits;
pub mod tasks;
