//! One thread that owns every socket of a load process.
//!
//! Holds: one read call for a connection that became readable, into one buffer that all share; the publisher's
//! turn comes after each round of readers; nothing waits except in epoll.

use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::{EventData, EventFlags};
use rustix::time::Timespec;

use super::authorization::Authorization;
use super::comeback::Comeback;
use super::connection::Connection;
use super::control::{Command, Connected, Plan, Published, Report, Stall};
use super::owed::Owed;
use super::publisher::Publisher;
use super::socket::Dialer;
use super::tally::{Returning, Tally};
use crate::clock::monotonic_ns;

const CONTROL: u64 = u64::MAX;
const PUBLISHER: u64 = u64::MAX - 1;
/// One read takes all bytes that a busy connection can hold; it still fits the second-level cache.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Connections begun between two looks at those that are already open.
const CONNECT_BATCH: usize = 256;
const EVENTS_MAX: usize = 1024;
/// Deadlines are looked at this often.
const WAIT_MAX_NS: u64 = 20_000_000;

pub(super) struct Load<R, W> {
    plan: Plan,
    dialer: Dialer,
    authorization: Authorization,
    epoll: OwnedFd,
    commands: BufReader<R>,
    line: Vec<u8>,
    reports: W,
    connections: Vec<Connection>,
    publisher: Option<Publisher>,
    tally: Tally,
    scratch: Vec<u8>,
    owed: Owed,
    connecting: bool,
    /// Set by Return: lost connections are opened again.
    comeback: Option<Comeback>,
    control_closed: bool,
}

impl<R: Read + AsFd, W: Write> Load<R, W> {
    pub(super) fn new(plan: Plan, commands: BufReader<R>, reports: W) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
        epoll::add(
            &epoll,
            commands.get_ref(),
            EventData::new_u64(CONTROL),
            EventFlags::IN,
        )
        .context("standard input of the load must be a pipe")?;
        Ok(Self {
            dialer: Dialer::new(plan.server, plan.tls.as_ref(), plan.connections)?,
            authorization: Authorization::of(&plan)?,
            tally: Tally::new(&plan),
            epoll,
            commands,
            line: Vec::new(),
            reports,
            connections: Vec::with_capacity(plan.connections as usize),
            publisher: None,
            scratch: vec![0; SCRATCH_BYTES],
            owed: Owed::default(),
            connecting: false,
            comeback: None,
            control_closed: false,
            plan,
        })
    }

    /// Until the last word is said, or nobody listens any more.
    pub(super) fn run(mut self) -> anyhow::Result<()> {
        self.report(&Report::Ready)?;
        self.obey_buffered()?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !self.control_closed {
            self.connect_some()?;
            self.redial_some()?;
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for sockets"),
            }
            for event in &events {
                match event.data.u64() {
                    CONTROL => self.obey()?,
                    PUBLISHER => self.serve_publisher(event.flags)?,
                    index => self.serve_connection(index, event.flags)?,
                }
            }
            self.tick_publisher()?;
            if self.answer()? {
                break;
            }
        }
        Ok(())
    }

    fn timeout(&self) -> Timespec {
        let now = monotonic_ns();
        let mut wait = if self.connecting { 0 } else { WAIT_MAX_NS };
        if let Some(due) = self.publisher.as_ref().and_then(Publisher::due_ns) {
            wait = wait.min(due.saturating_sub(now));
        }
        if let Some(due) = self.comeback.as_ref().and_then(Comeback::due_ns) {
            wait = wait.min(due.saturating_sub(now));
        }
        Timespec {
            tv_sec: 0,
            tv_nsec: wait.cast_signed(),
        }
    }

    fn connect_some(&mut self) -> anyhow::Result<()> {
        if !self.connecting {
            return Ok(());
        }
        let wanted = self.plan.connections as usize;
        for index in self.connections.len()..wanted.min(self.connections.len() + CONNECT_BATCH) {
            let numbers = numbers_of(&self.plan, index as u64);
            let connection = Connection::open(&self.plan, &self.dialer, numbers)
                .with_context(|| format!("opening connection {} of {wanted}", index + 1))?;
            watch_new(&self.epoll, &connection, index)?;
            self.connections.push(connection);
        }
        self.connecting = self.connections.len() < wanted;
        Ok(())
    }

    /// Opens connections that were lost, if they are to come back.
    fn redial_some(&mut self) -> anyhow::Result<()> {
        let Some(comeback) = &mut self.comeback else {
            return Ok(());
        };
        for _ in 0..CONNECT_BATCH {
            let Some(index) = comeback.next(monotonic_ns()) else {
                break;
            };
            let numbers = numbers_of(&self.plan, index as u64);
            let connection = &mut self.connections[index];
            match connection.reopen(&self.plan, &self.dialer, numbers, comeback.resume_after()) {
                Ok(()) => watch_new(&self.epoll, connection, index)?,
                Err(error) if is_refused(&error) => {
                    comeback.refused(index, monotonic_ns());
                }
                Err(error) => return Err(error).context("opening a connection again"),
            }
        }
        Ok(())
    }

    fn serve_connection(&mut self, index: u64, flags: EventFlags) -> anyhow::Result<()> {
        // None if it was closed in the same round of the loop.
        let Some(connection) = self.connections.get_mut(index as usize) else {
            return Ok(());
        };
        let mut result = Ok(true);
        if flags.contains(EventFlags::OUT) {
            result = connection.writable(&self.plan, &self.authorization);
        }
        if result.is_ok() && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            result = connection.readable(&mut self.scratch, &mut self.tally);
        }
        match result {
            Ok(all_written) => {
                let Some(socket) = connection.socket() else {
                    return Ok(());
                };
                watch_writable(&self.epoll, socket, index, flags, all_written)
            }
            // Closing the socket also takes it out of the epoll.
            Err(error) => {
                match &mut self.comeback {
                    Some(comeback) if !comeback.is_over() => {
                        let was_back = connection.lose_for_now(&mut self.tally);
                        if error.kind() == io::ErrorKind::ConnectionRefused {
                            comeback.refused(index as usize, monotonic_ns());
                        } else {
                            comeback.lost(index as usize, was_back);
                        }
                    }
                    _ => connection.lose(&mut self.tally, &error),
                }
                Ok(())
            }
        }
    }

    fn serve_publisher(&mut self, flags: EventFlags) -> anyhow::Result<()> {
        let Some(publisher) = &mut self.publisher else {
            return Ok(());
        };
        let mut result = Ok(true);
        if flags.contains(EventFlags::OUT) {
            result = publisher.writable();
        }
        if result.is_ok() && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            result = publisher.readable(&mut self.scratch);
        }
        match result {
            Ok(all_written) => watch_writable(
                &self.epoll,
                publisher.socket(),
                PUBLISHER,
                flags,
                all_written,
            ),
            Err(error) => {
                publisher.fail(&error);
                // Its socket would be reported as ended for ever.
                epoll::delete(&self.epoll, publisher.socket())
                    .context("forgetting the publisher's socket")
            }
        }
    }

    fn tick_publisher(&mut self) -> anyhow::Result<()> {
        let Some(publisher) = &mut self.publisher else {
            return Ok(());
        };
        let now = monotonic_ns();
        match publisher.tick(now) {
            Ok(true) => {}
            Ok(false) => watch_writable(
                &self.epoll,
                publisher.socket(),
                PUBLISHER,
                EventFlags::IN,
                false,
            )?,
            Err(error) => publisher.fail(&error),
        }
        if let Some(published) = publisher.take_result() {
            self.report(&Report::Published(published))?;
        }
        Ok(())
    }

    /// True when that was the last word.
    fn answer(&mut self) -> anyhow::Result<bool> {
        let now = monotonic_ns();
        let all_decided = || self.tally.all_decided();
        if self.owed.connected_is_due(now, all_decided) {
            let resumed = self.connections.iter().filter(|one| one.is_resumed());
            let connected = Connected {
                sessions_resumed: resumed.count() as u64,
                ..self.tally.connected()
            };
            self.report(&Report::Connected(connected))?;
        }
        let is_complete = |published: &Published| self.tally.is_complete(&self.plan, published);
        if self.owed.arrived_is_due(now, is_complete) {
            let delivered = self.tally.delivered();
            self.report(&Report::Arrived { delivered })?;
        }
        let each = self.connections.iter().flat_map(Connection::subscribers);
        let subscribers = u64::from(self.plan.connections) * u64::from(self.plan.streams);
        let comeback = self.comeback.as_mut();
        if let Some(returned) =
            comeback.and_then(|comeback| comeback.returned(&self.tally, now, subscribers, each))
        {
            self.report(&Report::Returned(returned))?;
        }
        let is_complete = |published: &Published| self.tally.is_complete(&self.plan, published);
        let last_event_ns = self.tally.last_event_ns;
        let Some(published) = self.owed.finished_is_due(now, last_event_ns, is_complete) else {
            return Ok(false);
        };
        let subscribers = self.connections.iter().flat_map(Connection::subscribers);
        let finished = self.tally.finished(&self.plan, published, subscribers);
        self.report(&Report::Finished(finished))?;
        Ok(true)
    }

    fn report(&mut self, report: &Report) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.reports, report).context("writing a report")?;
        self.reports.write_all(b"\n")?;
        self.reports.flush().context("writing a report")
    }

    /// Standard input is readable: one read, then every complete line.
    fn obey(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 4096];
        let length = self
            .commands
            .get_mut()
            .read(&mut chunk)
            .context("reading commands")?;
        self.control_closed = length == 0;
        self.line.extend_from_slice(&chunk[..length]);
        self.obey_lines()
    }

    /// The bytes that came with the plan in one read.
    fn obey_buffered(&mut self) -> anyhow::Result<()> {
        self.line.extend_from_slice(self.commands.buffer());
        self.obey_lines()
    }

    fn obey_lines(&mut self) -> anyhow::Result<()> {
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let command = serde_json::from_slice(&self.line[..end])
                .context("a line that is not a command")?;
            self.line.drain(..=end);
            self.carry_out(command)?;
        }
        Ok(())
    }

    fn stall(&mut self, stall: Stall) -> anyhow::Result<()> {
        for connection in &mut self.connections {
            let Some(socket) = connection.socket() else {
                continue;
            };
            match stall {
                Stall::Window => connection.stop_crediting(),
                Stall::Socket => {
                    epoll::delete(&self.epoll, socket).context("leaving a socket alone")?;
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Connect { deadline_ns } => {
                self.owed.owe_connected(deadline_ns);
                self.connecting = true;
            }
            Command::Close => {
                for connection in self.connections.drain(..) {
                    connection.abort();
                }
                self.tally = Tally::new(&self.plan);
                self.dialer.resume_sessions();
                self.report(&Report::Ready)?;
            }
            Command::Stall(stall) => self.stall(stall)?,
            Command::Await {
                published,
                deadline_ns,
            } => self.owed.owe_arrived(published, deadline_ns),
            Command::Return(asked) => {
                self.tally.returning = Some(Returning::default());
                self.comeback = Some(Comeback::new(asked));
                self.report(&Report::Ready)?;
            }
            Command::Window { start_ns, end_ns } => self.tally.open_window(start_ns, end_ns),
            Command::Publish(publish) => {
                let publisher =
                    Publisher::connect(&self.plan, &self.dialer, &self.authorization, publish)
                        .context("connecting the publisher")?;
                let flags = EventFlags::IN | EventFlags::OUT;
                epoll::add(
                    &self.epoll,
                    publisher.socket(),
                    EventData::new_u64(PUBLISHER),
                    flags,
                )
                .context("adding the publisher's socket")?;
                self.publisher = Some(publisher);
            }
            Command::Finish {
                published,
                quiet_ns,
                deadline_ns,
            } => self.owed.owe_finished(published, quiet_ns, deadline_ns),
        }
        Ok(())
    }
}

/// Of the subscribers of a connection.
fn numbers_of(plan: &Plan, index: u64) -> Range<u64> {
    let streams = u64::from(plan.streams);
    let first = plan.subscriber_first + index * streams;
    first..first + streams
}

/// Whether no server listened where a connection was to be opened, or the server was killed meanwhile.
fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionRefused | ConnectionReset | ConnectionAborted
    )
}

/// A connection that was just opened: it says by "writable" that it is established.
fn watch_new(epoll: &OwnedFd, connection: &Connection, index: usize) -> anyhow::Result<()> {
    let socket = connection.socket().expect("it was just opened");
    let flags = EventFlags::IN | EventFlags::OUT;
    epoll::add(epoll, socket, EventData::new_u64(index as u64), flags).context("adding a socket")
}

/// Asks for "writable" exactly while something waits to be written.
fn watch_writable(
    epoll: &OwnedFd,
    socket: &std::net::TcpStream,
    token: u64,
    seen: EventFlags,
    all_written: bool,
) -> anyhow::Result<()> {
    // `seen` has OUT only if it was asked for; without it and with nothing left there is nothing to change.
    if all_written && !seen.contains(EventFlags::OUT) {
        return Ok(());
    }
    let flags = if all_written {
        EventFlags::IN
    } else {
        EventFlags::IN | EventFlags::OUT
    };
    match epoll::modify(epoll, socket, EventData::new_u64(token), flags) {
        // The publisher's failed socket was taken out already.
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::from(error)).context("watching a socket"),
    }
}
