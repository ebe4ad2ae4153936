//! The server's parts, run for real on a free port.

mod by_hand;
mod contract;
mod stairs;
mod transport;
