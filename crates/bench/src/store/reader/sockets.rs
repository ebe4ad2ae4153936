//! The minimal reader: counts events by the first byte of each message.
//!
//! Holds: a stream's windows are filled again as its bytes arrive, so the server is measured.

use std::io;
use std::net::TcpStream;

use anyhow::Context as _;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use super::control::{Done, Plan};
use crate::clock::monotonic_ns;
use crate::http2::reader::{Reader, Sink, StreamEnd};
use crate::http2::{request, stream_id};
use crate::load::{Kind, Output, describe, receive, start_connecting};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
const WAIT_MAX: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Opens everything, reads until all have their events, and closes.
pub(in crate::store) fn read(plan: &Plan) -> anyhow::Result<Done> {
    let mut seen = Seen {
        events_each: plan.events_each,
        subscribers: plan.subscribers,
        welcomed: 0,
        now_ns: monotonic_ns(),
        done: Done {
            began_ns: monotonic_ns(),
            ..Done::default()
        },
    };
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("creating an epoll")?;
    let mut connections = Vec::new();
    let subscribers: Vec<u32> = (0..plan.subscribers).collect();
    for (index, numbers) in (0_u64..).zip(subscribers.chunks(plan.streams as usize)) {
        let connection = Connection::open(plan, numbers).context("opening a connection")?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&epoll, &connection.socket, EventData::new_u64(index), flags)
            .context("adding a socket")?;
        connections.push(connection);
    }
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    while !seen.is_over() {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), Some(&WAIT_MAX)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets"),
        }
        seen.now_ns = monotonic_ns();
        if seen.now_ns > plan.deadline_ns {
            seen.trouble(|| "the time was up".to_owned());
        }
        for event in &events {
            // Indices of a vector.
            let connection = &mut connections[event.data.u64() as usize];
            if let Err(error) = connection.serve(event.flags, &mut scratch, &mut seen) {
                seen.trouble(|| error.to_string());
            }
        }
    }
    Ok(seen.done)
}

struct Connection {
    socket: TcpStream,
    established: bool,
    reader: Reader,
    output: Output,
    // Events of each stream.
    counts: Vec<u64>,
}

struct Seen {
    events_each: u64,
    subscribers: u32,
    welcomed: u32,
    now_ns: u64,
    done: Done,
}

impl Connection {
    fn open(plan: &Plan, subscribers: &[u32]) -> io::Result<Self> {
        let streams = u32::try_from(subscribers.len()).map_err(io::Error::other)?;
        let mut output = Output::default();
        let authority = plan.server.to_string();
        request::open_connection(&mut output.bytes, plan.windows());
        for (index, &number) in (0..).zip(subscribers) {
            let stream = stream_id(index);
            request::call_headers(&mut output.bytes, stream, &authority, SUBSCRIBE);
            request::call_message(&mut output.bytes, stream, &plan.request(number), true);
        }
        Ok(Self {
            socket: start_connecting(plan.server)?,
            established: false,
            reader: Reader::new(streams, plan.windows()),
            output,
            counts: vec![0; subscribers.len()],
        })
    }

    fn serve(&mut self, flags: EventFlags, scratch: &mut [u8], seen: &mut Seen) -> io::Result<()> {
        if flags.contains(EventFlags::OUT) && !self.established {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.established = true;
        }
        if !self.established {
            return Ok(());
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive(scratch, seen)?;
        }
        self.output.flush(&mut self.socket)?;
        Ok(())
    }

    fn receive(&mut self, scratch: &mut [u8], seen: &mut Seen) -> io::Result<()> {
        while let Some(length) = receive(&mut self.socket, scratch)? {
            let mut sink = Counting {
                counts: &mut self.counts,
                seen,
            };
            let reply = &mut self.output.bytes;
            self.reader
                .read(&scratch[..length], &mut sink, reply)
                .map_err(io::Error::other)?;
            // The server may be waiting for the window.
            self.output.flush(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Seen {
    fn is_over(&self) -> bool {
        self.done.complete == self.subscribers || self.done.trouble.is_some()
    }

    fn trouble(&mut self, what: impl FnOnce() -> String) {
        if !self.is_over() {
            self.done.trouble = Some(what());
        }
    }
}

struct Counting<'a> {
    counts: &'a mut [u64],
    seen: &'a mut Seen,
}

impl Sink for Counting<'_> {
    fn message(&mut self, stream: u32, _length: u32, head: &[u8]) {
        let seen = &mut *self.seen;
        match Kind::of(head) {
            Kind::Event => {
                if seen.done.events == 0 {
                    seen.done.first_event_ns = seen.now_ns;
                }
                seen.done.events += 1;
                let count = &mut self.counts[stream as usize];
                *count += 1;
                if *count == seen.events_each {
                    seen.done.complete += 1;
                    if seen.done.complete == seen.subscribers {
                        seen.done.complete_ns = monotonic_ns();
                    }
                }
            }
            Kind::Welcome => {
                seen.welcomed += 1;
                if seen.welcomed == seen.subscribers {
                    seen.done.welcome_ns = seen.now_ns;
                }
            }
            Kind::Gap => {
                seen.done.gaps += 1;
                seen.trouble(|| "a gap".to_owned());
            }
            Kind::Other => {}
        }
    }

    fn stream_ended(&mut self, _stream: u32, end: StreamEnd) {
        self.seen.trouble(|| describe(end));
    }

    fn setting(&mut self, _id: u16, _value: u32) {}

    // All requests of a connection fit the first window; more streams than that show as silence.
    fn window_update(&mut self, _stream: Option<u32>, _increment: u32) {}

    fn going_away(&mut self, code: u32) {
        self.seen
            .trouble(|| format!("GOAWAY with HTTP/2 code {code}"));
    }
}
