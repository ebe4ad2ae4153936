//! The load generator: a process that holds subscribers and, if told, publishes.
//!
//! - [`control`]: what the conducting process says and hears, one JSON object a line.
//! - [`owed`]: what was asked for and is not said yet.
//! - [`event_loop`]: one thread, one epoll, every socket.
//! - [`connection`]: a socket and its subscribers; [`wire`]: how they speak to the server.
//! - [`comeback`]: how connections are opened again when their server was killed.
//! - [`publisher`]: messages at a rate, on a connection of its own; [`voice`]: how it says them.
//! - [`tally`]: what was seen; [`message`]: where the timestamp is.

mod comeback;
mod connection;
pub(super) mod control;
mod event_loop;
mod json;
mod message;
pub(super) mod owed;
mod publisher;
mod tally;
mod voice;
mod wire;

pub(super) use comeback::REFUSED_PAUSE;
pub(super) use connection::{Output, inbox, start_connecting};
pub(super) use message::{Kind, publish_request};
pub(super) use tally::describe;

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;

use anyhow::Context as _;

/// `longlived bench load`: obeys standard input, reports on standard output, ends with either.
pub(super) fn run() -> anyhow::Result<()> {
    // Past `Stdin`'s own buffer, which epoll cannot see.
    let stdin = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut commands = BufReader::with_capacity(64 * 1024, stdin);
    let mut line = String::new();
    commands.read_line(&mut line).context("reading the plan")?;
    let plan =
        serde_json::from_str(&line).context("the first line of standard input is not a plan")?;
    raise_open_files();
    event_loop::Load::new(plan, commands, std::io::stdout())?.run()
}

/// To the hard limit; what that allows is the conductor's to plan with.
pub(in crate::bench) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // A refusal shows itself with the first socket that cannot be opened.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests;
