//! The real binary, as a process of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cli_bad_input;
#[cfg(target_os = "linux")]
mod cli_bench;
mod cli_check;
mod cli_demo;
mod cli_healthcheck;
mod cli_publish;
mod cli_record;
mod cli_simulate;
mod cli_subscribe;
mod cli_support;
mod cli_topics;
mod image;
mod server_flags;
mod server_kill;
mod server_log;
mod server_peers;
mod server_signals;
mod support;
