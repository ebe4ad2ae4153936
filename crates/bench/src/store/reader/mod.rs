//! The readers of history: they subscribe, read what they are told to expect, and say when it came.
//!
//! - [`sockets`]: one thread, one epoll, frames walked in place.
//! - [`library`]: one subscriber of the client library, which decodes and verifies.

mod library;
mod sockets;

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;

use anyhow::Context as _;
use longlived_api::v1::{Position, Start, SubscribeRequest, Subscription, start};
use longlived_console::open_files;
use serde::{Deserialize, Serialize};
pub(super) use sockets::read;

use super::super::http2::request::Windows;
use super::history;

/// Who reads what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) server: SocketAddr,
    pub(super) subscribers: u32,
    /// How many of them share a connection.
    pub(super) streams: u32,
    /// Each follows its own topic; otherwise all follow all.
    pub(super) own_topics: bool,
    /// Epoch and sequence; `None` = from the earliest.
    pub(super) resume_after: Option<(u64, u64)>,
    /// What each waits for.
    pub(super) events_each: u64,
    pub(super) stream_window_bytes: u32,
    pub(super) connection_window_bytes: u32,
    pub(super) library: bool,
    /// By the clock that processes share.
    pub(super) deadline_ns: u64,
}

/// What came, with times of the clock that processes share; 0 = it did not happen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) began_ns: u64,
    /// All held their Welcome.
    pub(super) welcome_ns: u64,
    pub(super) first_event_ns: u64,
    /// All had what they waited for.
    pub(super) complete_ns: u64,
    pub(super) events: u64,
    pub(super) gaps: u64,
    /// Subscribers that had what they waited for.
    pub(super) complete: u32,
    /// The first thing that went wrong, in words.
    pub(super) trouble: Option<String>,
}

impl Plan {
    fn windows(&self) -> Windows {
        Windows {
            stream_bytes: self.stream_window_bytes,
            connection_bytes: self.connection_window_bytes,
        }
    }

    fn filter(&self, subscriber: u32) -> String {
        if self.own_topics {
            history::own_topic(subscriber)
        } else {
            "bench.>".to_owned()
        }
    }

    fn request(&self, subscriber: u32) -> SubscribeRequest {
        let earliest = Start {
            at: Some(start::At::Earliest(true)),
        };
        let position = |(epoch, sequence)| Position { epoch, sequence };
        SubscribeRequest {
            subscriber_id: format!("bench-{subscriber}"),
            subscriptions: vec![Subscription {
                topic_filter: self.filter(subscriber),
            }],
            resume_after: self.resume_after.map(position),
            start: self.resume_after.is_none().then_some(earliest),
            ..SubscribeRequest::default()
        }
    }
}

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
    // Whoever asked ends this process, and with it the server's streams, when it has read everything it wants.
    line.clear();
    stdin.read_line(&mut line).context("waiting for the end")?;
    Ok(())
}
