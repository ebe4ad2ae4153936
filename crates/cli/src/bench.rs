//! `longlived bench`, which is a crate of its own and for Linux alone.

#[cfg(target_os = "linux")]
pub(crate) use longlived_bench::{Args, run};

/// Measures a server from outside; on Linux alone.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[expect(dead_code, reason = "every request gets the same answer")]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<std::ffi::OsString>,
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn run(_args: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("`longlived bench` needs Linux: it reads /proc and uses epoll")
}
