//! The readers of history: they subscribe, read the events that they are told to expect, and report the times.
//!
//! - [`sockets`]: one thread, one epoll, frames walked in place.
//! - [`library`]: one subscriber of the client library, which decodes and verifies.

mod control;
mod library;
mod sockets;

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
pub(super) use control::{Done, Plan};
use longlived_console::open_files;
pub(super) use sockets::read;

/// `longlived bench read-load`: reads as the line on its standard input says and reports in one line.
pub(crate) fn read_load() -> anyhow::Result<()> {
    let mut line = String::new();
    let mut stdin = std::io::stdin().lock();
    stdin.read_line(&mut line).context("reading the plan")?;
    let plan: Plan = serde_json::from_str(&line).context("this line is no plan")?;
    open_files::raise();
    let done = if plan.library {
        library::read(&plan)?
    } else {
        read(&plan)?
    };
    let mut report = serde_json::to_vec(&done)?;
    report.push(b'\n');
    std::io::stdout().write_all(&report).context("reporting")?;
    // The parent ends this process, and with it the server's streams, when it has read everything it wants.
    line.clear();
    stdin.read_line(&mut line).context("waiting for the end")?;
    Ok(())
}
