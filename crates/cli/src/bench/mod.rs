//! `longlived bench`: what a server costs, measured from outside.
//!
//! The server is a process of its own, the subscribers are another (or several), and both are pinned to
//! different cores, so that each figure belongs to one of them. The command itself only conducts:
//!
//! ```text
//! measure -> rig        a server with all its subscribers
//!         -> server        the process whose CPU time and memory are read (proc)
//!         -> load_process  `longlived bench load`, told what to do line by line (load::control)
//!              -> load     one epoll loop over all its connections, and the publisher
//!                   -> http2   frames out and in, by hand; wire: the protocols of other servers
//!         -> figures       rows, medians, text and JSON
//! fanout  -> health: checks beside the load; cores: the same load with the server pinned and not
//! publish -> server, load_process (`longlived bench publish-load`), figures
//! against -> the same rig with other servers in turns with ours, and the ratios of their figures
//! slow    -> server, load_process, figures: some that read beside many that do not
//! storm   -> server (killed and started again), load_process, figures; `--library`: `longlived bench storm-library`
//! store   -> commit: the store in this process; reopen, catchup: server, load_process (`longlived bench read-load`)
//! ```
//!
//! Does not: use the client crate. A reader that decodes every event costs more than the server that sent it,
//! and then the load is what is measured. `catchup --library` and `storm --library` measure just that.

#[cfg(target_os = "linux")]
mod against;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "as below: the flags are refused there")
)]
mod against_args;
#[cfg_attr(
    not(target_os = "linux"),
    allow(
        dead_code,
        reason = "the flags are refused where /proc and epoll are missing"
    )
)]
mod args;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod cores;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod health;
#[cfg(target_os = "linux")]
mod http2;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod load_process;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod pin;
#[cfg(target_os = "linux")]
mod proc;
#[cfg(target_os = "linux")]
mod publish;
#[cfg(target_os = "linux")]
mod refuse;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod setting;
#[cfg(target_os = "linux")]
mod slow;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "as above: the flags are refused there")
)]
mod slow_args;
#[cfg(target_os = "linux")]
mod storm;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "as above: the flags are refused there")
)]
mod storm_args;

#[cfg(target_os = "linux")]
mod store;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "as above: the flags are refused there")
)]
mod store_args;
#[cfg(target_os = "linux")]
mod wire;

pub(crate) use args::Args;
#[cfg(target_os = "linux")]
pub(crate) use run::run;

/// Reading another process's CPU time and memory, and holding ten thousand sockets in one loop, is written
/// for Linux alone.
#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_args: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("`longlived bench` needs Linux: it reads /proc and uses epoll")
}
