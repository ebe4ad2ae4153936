//! The real binary, as people and containers run it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cli_bad_input;
mod cli_demo;
mod cli_healthcheck;
mod cli_publish;
mod cli_simulate;
mod cli_subscribe;
mod cli_support;
