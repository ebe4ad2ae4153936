//! The server's parts, run for real on a free port.

mod contract;
mod transport;
