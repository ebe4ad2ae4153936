//! The real binary, as a process of its own.

mod image;
mod server_flags;
mod server_kill;
mod server_log;
mod server_peers;
mod server_signals;
mod support;
