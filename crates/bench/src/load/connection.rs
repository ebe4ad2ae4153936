//! One connection of the load: socket, reader, subscribers.
//!
//! Holds: nothing here waits. Bytes that the socket does not take are kept and tried again when epoll says so; an idle
//! connection keeps no buffer.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;

use longlived_api::v1::{Position, SubscribeRequest, Subscription};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::control::{Plan, SHARED_TOPIC};
use super::tally::{Subscriber, Tally};
use super::wire::{Seen, Wire};
use crate::args::Topics;
use crate::clock::monotonic_ns;
use crate::http2::WINDOW_DEFAULT;
use crate::http2::request::{self, Windows};

#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once it is lost.
    socket: Option<TcpStream>,
    established: bool,
    wire: Wire,
    output: Output,
    subscribers: Vec<Subscriber>,
    /// Its subscribers are to go on after this.
    resume_after: Option<Position>,
}

/// Bytes the socket has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// True when nothing is left.
    pub(crate) fn flush(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.bytes.clear();
        Ok(true)
    }
}

/// Reads what the socket has; nothing when it has nothing for now. Its end is an error.
pub(crate) fn receive(socket: &mut TcpStream, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.read(scratch) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the server closed a connection",
                ));
            }
            Ok(length) => return Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Begins to connect, without waiting for it.
pub(crate) fn start_connecting(server: SocketAddr) -> io::Result<TcpStream> {
    start_connecting_from(None, server)
}

/// The same from an address of this machine; without one the kernel chooses.
fn start_connecting_from(local: Option<Ipv4Addr>, server: SocketAddr) -> io::Result<TcpStream> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket: OwnedFd = socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    if let Some(local) = local {
        bind(&socket, &SocketAddr::from((local, 0)))?;
    }
    match connect(&socket, &server) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = TcpStream::from(socket);
    // A WINDOW_UPDATE that waits for an acknowledgement would hold the server back.
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Connection {
    pub(super) fn open(plan: &Plan, subscribers: Range<u64>) -> io::Result<Self> {
        Ok(Self {
            socket: Some(start_connecting_from(
                plan.local_address(&subscribers),
                plan.server,
            )?),
            established: false,
            wire: Wire::new(plan, subscribers),
            output: Output::default(),
            subscribers: vec![Subscriber::default(); plan.streams as usize],
            resume_after: None,
        })
    }

    /// Takes the place of a connection that was lost. An error may be known at once, or come later.
    pub(super) fn reopen(
        &mut self,
        plan: &Plan,
        subscribers: Range<u64>,
        resume_after: Option<Position>,
    ) -> io::Result<()> {
        let local = plan.local_address(&subscribers);
        let socket = start_connecting_from(local, plan.server)?;
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        self.socket = Some(socket);
        self.established = false;
        self.wire = Wire::new(plan, subscribers);
        self.output = Output::default();
        self.resume_after = resume_after;
        Ok(())
    }

    pub(super) fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// The server's windows are used up and not filled again.
    pub(super) fn stop_crediting(&mut self) {
        self.wire.stop_crediting();
    }

    pub(super) fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    /// The socket can take bytes: the first time it is connected and every subscriber calls. True when
    /// nothing is left to write.
    pub(super) fn writable(&mut self, plan: &Plan) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(true);
        };
        if !self.established {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            self.established = true;
            let out = &mut self.output.bytes;
            self.wire.open(plan, self.resume_after, out);
        }
        let done = self.output.flush(socket)?;
        if done {
            self.output = Output::default();
        }
        Ok(done)
    }

    /// The socket has bytes, or has ended. True when there is nothing left to write in answer.
    pub(super) fn readable(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(true);
        };
        let Some(length) = receive(socket, scratch)? else {
            return Ok(true);
        };
        let mut seen = Seen {
            subscribers: &mut self.subscribers,
            tally,
            now_ns: monotonic_ns(),
        };
        self.wire
            .read(&scratch[..length], &mut seen, &mut self.output.bytes)?;
        self.output.flush(socket)
    }

    /// The connection is gone and will be opened again. True when a subscriber was back on it.
    pub(super) fn lose_for_now(&mut self, tally: &mut Tally) -> bool {
        self.socket = None;
        self.established = false;
        self.output = Output::default();
        let was_back = self.subscribers.iter().any(|one| one.back_ns > 0);
        for subscriber in &mut self.subscribers {
            tally.stream_lost(subscriber);
        }
        was_back
    }

    /// The connection is gone, and with it the streams that had not ended.
    pub(super) fn lose(&mut self, tally: &mut Tally, why: &io::Error) {
        self.socket = None;
        self.output = Output::default();
        for subscriber in &mut self.subscribers {
            tally.stream_ended(subscriber, || why.to_string());
        }
    }
}

impl Plan {
    /// Of the connection of these subscribers.
    fn local_address(&self, subscribers: &Range<u64>) -> Option<Ipv4Addr> {
        let number = subscribers.start / u64::from(self.streams);
        Some(self.local_addresses?.address(number))
    }

    pub(super) fn windows(&self) -> Windows {
        Windows {
            stream_bytes: self.stream_window_bytes,
            connection_bytes: self.connection_window_bytes,
        }
    }

    pub(super) fn subscribe_request(
        &self,
        number: u64,
        resume_after: Option<Position>,
    ) -> SubscribeRequest {
        let subscriber_id = format!("bench-{number}");
        SubscribeRequest {
            subscriber_id,
            subscriptions: vec![Subscription {
                topic_filter: self.topic(number),
            }],
            resume_after,
            ..SubscribeRequest::default()
        }
    }

    /// The filter of subscriber `number`.
    pub(super) fn topic(&self, number: u64) -> String {
        match self.topics {
            Topics::One => SHARED_TOPIC.to_owned(),
            Topics::Inbox => inbox(number),
        }
    }

    /// Before the server's windows are known, all first requests of a connection must fit the default one.
    pub(crate) fn streams_max(&self) -> u32 {
        let mut bytes = Vec::new();
        let request = self.subscribe_request(self.subscribers_total, None);
        request::call_message(&mut bytes, 1, &request, true);
        WINDOW_DEFAULT / u32::try_from(bytes.len()).expect("a request of the load is small")
    }
}

pub(crate) fn inbox(number: u64) -> String {
    format!("inbox.bench-{number}")
}
