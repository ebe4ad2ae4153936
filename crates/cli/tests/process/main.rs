//! The real binary, as a process of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod auth_support;
mod cli_auth;
mod cli_bad_input;
#[cfg(target_os = "linux")]
mod cli_bench;
#[cfg(target_os = "linux")]
mod cli_bench_against;
#[cfg(target_os = "linux")]
mod cli_bench_secure;
mod cli_check;
#[cfg(target_os = "linux")]
mod cli_closed_pipe;
mod cli_demo;
mod cli_durable;
mod cli_healthcheck;
mod cli_publish;
mod cli_record;
mod cli_simulate;
#[cfg(target_os = "linux")]
mod cli_sinks;
mod cli_strangers;
mod cli_subscribe;
mod cli_support;
mod cli_terminal;
mod cli_token;
mod cli_topics;
mod data_dir;
mod data_dir_mishaps;
mod image;
#[cfg(target_os = "linux")]
mod mounted;
mod server_auth;
mod server_auth_callers;
mod server_auth_clients;
mod server_auth_quotas;
mod server_auth_table;
mod server_clock;
#[cfg(target_os = "linux")]
mod server_disk_full;
mod server_durable_kill;
#[cfg(target_os = "linux")]
mod server_failed_sync;
mod server_flags;
#[cfg(target_os = "linux")]
mod server_haproxy;
#[cfg(target_os = "linux")]
mod server_hoarders;
mod server_kill;
mod server_log;
mod server_log_bounded;
mod server_lost_reply;
mod server_metrics;
mod server_moves;
#[cfg(target_os = "linux")]
mod server_neighbours;
mod server_neighbours_tls;
mod server_open_files;
mod server_openings;
mod server_peers;
#[cfg(target_os = "linux")]
mod server_power_cut;
mod server_proxy;
mod server_retention;
mod server_segment_kill;
mod server_signals;
#[cfg(target_os = "linux")]
mod server_sinks;
mod server_start;
mod server_tls;
mod server_tls_clients;
mod server_unix;
#[cfg(target_os = "linux")]
mod sinks;
mod support;
mod tape;
