//! `longlived bench reopen`: a server with much history is killed while it takes messages, and started again.
//!
//! Holds: the last part of the history is published through the server, so that the killed server has segments in every
//! state; the clock runs from before the process is started.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::history;
use super::reader::{self, Done, Plan};
use super::scratch::Scratch;
use crate::args::{CommonArgs, ReopenArgs};
use crate::clock::{monotonic_ns, nanoseconds};
use crate::figures::Figures;
use crate::pin::Pinning;
use crate::publish::Background;
use crate::refuse::refuse;
use crate::repeat::repeat;
use crate::server::Server;
use crate::stop::Stop;

/// How long a subscriber may wait for its first event.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Topic, numbers, time and prefix of an event, about.
const BESIDE_PAYLOAD_BYTES: u64 = 55;
/// The server is killed this long after it began to take the last messages.
const UNDER_WAY: Duration = Duration::from_millis(150);
/// More than it can take in that time.
const UNDER_WAY_MESSAGES: u64 = 5_000_000;

pub(crate) fn reopen(args: &ReopenArgs, stop: &Stop) -> anyhow::Result<ExitCode> {
    refuse(
        "reopen",
        &[
            ("--server", args.common.server.is_some()),
            ("--server-pid", args.common.server_pid.is_some()),
            ("--load-processes", args.common.load_processes > 0),
        ],
        "kills its server and starts it again, and has one process of load",
    )?;
    let event_bytes = u64::from(args.payload_bytes) + BESIDE_PAYLOAD_BYTES;
    let published = args.published_bytes.min(args.bytes) / event_bytes;
    let filled = (args.bytes / event_bytes).saturating_sub(published).max(1);
    let load = format!(
        "reopen: {} events of {} bytes in {} topics ({} MiB), {published} of them published through the server, which is \
         killed while it takes more; a subscriber resumes in the middle",
        filled + published,
        args.payload_bytes,
        args.topics,
        args.bytes >> 20,
    );
    repeat(load, &args.common, |cores| {
        run(args, filled, published, cores, stop)
    })
}

fn run(
    args: &ReopenArgs,
    filled: u64,
    published: u64,
    cores: &Pinning,
    stop: &Stop,
) -> anyhow::Result<Figures> {
    let scratch = Scratch::new(&args.dir)?;
    let plan = history::Plan {
        events: filled,
        payload_bytes: args.payload_bytes,
        topics: args.topics,
        own_topics: 0,
        own_events: 0,
    };
    let made = history::fill(scratch.path(), &plan, stop)?;
    let mut common = args.common.clone();
    common
        .server_args
        .splice(..0, history::serve_flags(scratch.path())?);

    let server = Server::for_run(&common, &cores.server)?;
    let mut load = Background::start(&server, &common, args.topics, args.payload_bytes, cores)?;
    load.begin(published)?;
    load.finish(stop)?;
    load.begin(UNDER_WAY_MESSAGES)?;
    std::thread::sleep(UNDER_WAY);
    // SIGKILL.
    drop(server);
    drop(load);

    let began = monotonic_ns();
    let server = Server::for_run(&common, &cores.server)?;
    let listening = monotonic_ns();
    let done = resumed(&server, &common, (made.epoch, made.last / 2), listening)?;
    ensure!(
        done.complete == 1,
        "nothing came: {}{}",
        done.trouble.as_deref().unwrap_or("no reason known"),
        server.last_words()
    );
    // The last message that was acknowledged before the kill.
    let acknowledged = (made.epoch, made.last + published - 1);
    let last = resumed(&server, &common, acknowledged, monotonic_ns());
    let last = last.context("reading the message that was acknowledged last")?;
    let mut figures = Figures::default();
    if last.complete != 1 {
        let why = last.trouble.unwrap_or_default();
        let trouble = format!("the last acknowledged event cannot be read: {why}");
        figures.troubles.push(trouble);
    }
    let seconds = |then: u64| (then - began) as f64 / 1e9;
    figures.add(
        "listening_s",
        "from the start to listening (s)",
        seconds(listening),
    );
    figures.add(
        "first_event_s",
        "from the start to the first resumed event (s)",
        seconds(done.first_event_ns),
    );
    Ok(figures)
}

/// The events of one subscriber that resumes after a position, given by epoch and sequence.
fn resumed(
    server: &Server,
    common: &CommonArgs,
    after: (u64, u64),
    began_ns: u64,
) -> anyhow::Result<Done> {
    reader::read(&Plan {
        server: server.address,
        subscribers: 1,
        streams: 1,
        own_topics: false,
        resume_after: Some(after),
        events_each: 1,
        stream_window_bytes: common.stream_window,
        connection_window_bytes: common.connection_window,
        library: false,
        deadline_ns: began_ns + nanoseconds(TIMEOUT),
    })
}
