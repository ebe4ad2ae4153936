//! One connection of the load: socket, reader, subscribers.
//!
//! Holds: nothing here waits. Bytes that the socket does not take are kept and tried again when epoll says so; an idle
//! connection keeps no buffer.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use longlived_api::v1::{Position, SubscribeRequest, Subscription};
use rustix::net::sockopt::set_socket_linger;

use super::authorization::Authorization;
use super::control::{Plan, SHARED_TOPIC, subscriber_id};
use super::socket::{Dialer, Socket};
use super::tally::{Subscriber, Tally};
use super::tcp::Output;
use super::wire::{Seen, Wire};
use crate::args::Topics;
use crate::clock::monotonic_ns;
use crate::http2::WINDOW_DEFAULT;
use crate::http2::request::{self, Windows};

#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once it is lost.
    socket: Option<Socket>,
    established: bool,
    wire: Wire,
    output: Output,
    subscribers: Vec<Subscriber>,
    /// Its subscribers are to go on after this.
    resume_after: Option<Position>,
}

impl Connection {
    pub(super) fn open(plan: &Plan, dialer: &Dialer, subscribers: Range<u64>) -> io::Result<Self> {
        Ok(Self {
            socket: Some(dialer.dial(plan.local_address(&subscribers))?),
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
        dialer: &Dialer,
        subscribers: Range<u64>,
        resume_after: Option<Position>,
    ) -> io::Result<()> {
        let socket = dialer.dial(plan.local_address(&subscribers))?;
        if let Some(error) = socket.tcp().take_error()? {
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
        self.socket.as_ref().map(Socket::tcp)
    }

    /// Whether it stands on a TLS session of an earlier connection.
    pub(super) fn is_resumed(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::is_resumed)
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
    pub(super) fn writable(
        &mut self,
        plan: &Plan,
        authorization: &Authorization,
    ) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(true);
        };
        if !self.established {
            if let Some(error) = socket.tcp().take_error()? {
                return Err(error);
            }
            self.established = true;
            let out = &mut self.output.bytes;
            self.wire.open(plan, authorization, self.resume_after, out);
        }
        let done = socket.send(&mut self.output)?;
        self.output.release();
        Ok(done)
    }

    /// The socket has bytes, or has ended. True when there is nothing left to write in answer.
    pub(super) fn readable(&mut self, scratch: &mut [u8], tally: &mut Tally) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(true);
        };
        let mut seen = Seen {
            subscribers: &mut self.subscribers,
            tally,
            now_ns: 0,
        };
        let (wire, reply) = (&mut self.wire, &mut self.output.bytes);
        socket.receive(scratch, |bytes| {
            seen.now_ns = monotonic_ns();
            wire.read(bytes, &mut seen, reply)
        })?;
        let done = socket.send(&mut self.output)?;
        self.output.release();
        Ok(done)
    }

    /// Closes the connection without waiting, so that its port is free at once.
    pub(super) fn abort(self) {
        if let Some(socket) = self.socket {
            // Where that cannot be set, the port is free a minute later.
            let _ = set_socket_linger(socket.tcp(), Some(Duration::ZERO));
        }
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
        SubscribeRequest {
            subscriber_id: subscriber_id(number),
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
