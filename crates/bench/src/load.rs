//! The load generator: a process that holds subscribers and, if told, publishes.
//!
//! - [`control`]: the commands and answers of the conducting process, one JSON object a line.
//! - [`owed`]: the answers that are not given yet.
//! - [`event_loop`]: one thread, one epoll, every socket.
//! - [`tcp`]: sockets; [`session`]: TLS on one of them; [`trust`], [`tickets`]: what all sessions share; [`socket`]:
//!   a connection to the server with TLS or without, and how it is dialled.
//! - [`authorization`]: the tokens of its callers.
//! - [`connection`]: a socket and its subscribers; [`wire`]: their protocols.
//! - [`comeback`]: how connections are opened again when their server was killed.
//! - [`publisher`]: messages at a rate, on a connection of its own; [`voice`]: how it sends them, and [`voices`] in
//!   each protocol.
//! - [`tally`]: the counts; [`message`]: where the timestamp is.

mod authorization;
mod comeback;
mod connection;
pub(super) mod control;
mod event_loop;
mod json;
mod message;
pub(super) mod owed;
mod publisher;
mod session;
mod socket;
mod tally;
mod tcp;
mod tickets;
mod trust;
mod voice;
mod voices;
mod wire;

use anyhow::Context as _;
pub(super) use comeback::REFUSED_PAUSE;
pub(super) use connection::inbox;
use longlived_console::open_files;
pub(super) use message::{Kind, publish_request};
pub(super) use session::RECORD_BYTES_MAX;
pub(super) use socket::{Dialer, Socket};
pub(super) use tally::describe;
pub(super) use tcp::{Output, receive, start_connecting};
pub(super) use trust::authorities;

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;

/// `longlived bench load`: obeys standard input, reports on standard output, ends with either.
pub(super) fn run() -> anyhow::Result<()> {
    // Past `Stdin`'s own buffer, which epoll cannot see.
    let stdin = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut commands = BufReader::with_capacity(64 * 1024, stdin);
    let mut line = String::new();
    commands.read_line(&mut line).context("reading the plan")?;
    let plan =
        serde_json::from_str(&line).context("the first line of standard input is not a plan")?;
    // A refusal shows itself with the first socket that cannot be opened.
    open_files::raise();
    event_loop::Load::new(plan, commands, std::io::stdout())?.run()
}

#[cfg(test)]
mod tests;
