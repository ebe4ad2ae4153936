//! The server's end: our connection over a pipe, with a service that follows the plans.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use longlived_http2::{Connection, ErrorCode, Event, Opening, Output, Slot};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Instant, Interval};

use super::ledger::Ledger;
use super::plan::{self, Plan, Run};
use crate::peer::Peer;
use crate::server::{response, trailers};

/// The code of the service's resets, which no other end uses.
pub(super) const SERVER_RESETS: u32 = 0x0bad;

/// A call in the connection.
#[derive(Debug)]
struct Call {
    number: usize,
    plan: Plan,
    untaken: usize,
    answered: bool,
    /// Bytes of the response that were sent.
    sent: usize,
    /// It waits for a window.
    waits: bool,
}

struct Service<'a> {
    io: DuplexStream,
    run: &'a Run,
    ledger: &'a Ledger,
    rng: SmallRng,
    connection: Connection<Call>,
    out: Output,
    /// Bytes of `out` that the judge has seen.
    judged: usize,
    judge: Peer,
    unread: Vec<u8>,
    tick: Interval,
    seen: usize,
    over: bool,
}

/// Serves until the client closes the pipe.
pub(super) async fn serve(io: DuplexStream, run: &Run, ledger: &Ledger, seed: u64) {
    let mut service = Service {
        io,
        run,
        ledger,
        rng: SmallRng::seed_from_u64(seed),
        connection: Connection::new(Arc::new(run.config.clone())),
        out: Output::default(),
        judged: 0,
        judge: Peer::new(),
        unread: Vec::new(),
        tick: tokio::time::interval(Duration::from_millis(3)),
        seen: 0,
        over: false,
    };
    while !service.over {
        poll_fn(|cx| service.poll_io(cx)).await;
        service.turn();
    }
    assert_eq!(service.connection.open_streams(), 0, "streams are left");
    assert_eq!(service.connection.held().half_frames, 0);
}

impl Service<'_> {
    /// Writes, reads, or lets time pass.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = self.tick.poll_tick(cx).is_ready();
        while !self.out.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, self.out.bytes()) {
                Poll::Ready(Ok(n)) => {
                    self.out.written(n);
                    self.judged -= n;
                    moved = true;
                }
                // The client has gone; what it sent before is still read.
                Poll::Ready(Err(_)) => {
                    self.judged = 0;
                    self.out.written(self.out.len());
                }
                Poll::Pending => break,
            }
        }
        let is_done = self.connection.is_last_stream_said() && self.connection.open_streams() == 0;
        if is_done && self.out.is_empty() {
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
        if self.unread.is_empty() {
            let mut bytes = vec![0; self.rng.random_range(1..20_000)];
            let mut buf = ReadBuf::new(&mut bytes);
            if Pin::new(&mut self.io).poll_read(cx, &mut buf).is_ready() {
                self.unread = buf.filled().to_vec();
                self.over = self.unread.is_empty();
                moved = true;
            }
        }
        if moved {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn turn(&mut self) {
        let now = Instant::now().into_std();
        if self.connection.deadline().is_some_and(|at| at <= now) {
            let expired = self.connection.expire(now, &mut self.out);
            expired.expect("the client is in time");
        }
        self.receive();
        while let Some(slot) = self.connection.next_writable() {
            self.connection.value_mut(slot).waits = false;
        }
        let slots: Vec<Slot> = self.connection.slots().collect();
        for slot in slots {
            self.step(slot);
        }
        match self.rng.random_range(0..40) {
            0 => self.connection.hold_connection_credit(true, &mut self.out),
            1..6 => (self.connection).hold_connection_credit(false, &mut self.out),
            _ => {}
        }
        if self
            .run
            .go_away_after
            .is_some_and(|after| self.seen > after)
        {
            self.connection.go_away(now, &mut self.out);
        }
        self.judge();
    }

    fn judge(&mut self) {
        self.judge.received(&self.out.bytes()[self.judged..]);
        self.judged = self.out.len();
        self.judge.inbox.clear();
    }

    fn receive(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        while !rest.is_empty() {
            let now = Instant::now().into_std();
            let size = self.rng.random_range(1..=rest.len());
            let received = self.connection.receive(&rest[..size], now, &mut self.out);
            let received = received.expect("the client keeps to the rules");
            if received.consumed == 0 {
                break;
            }
            self.judge.sent(&rest[..received.consumed]);
            rest = &rest[received.consumed..];
            if let Some(event) = received.event {
                self.event(event);
            }
            self.judge();
        }
        self.unread = rest.to_vec();
    }

    fn event(&mut self, event: Event<'_, Call>) {
        match event {
            Event::Request(request, opening) => self.request(&request, opening),
            Event::Data { slot, bytes, end } => {
                let call = self.connection.value_mut(slot);
                let slow = call.plan.slow;
                call.untaken += bytes.len();
                self.ledger.note(call.number, |it| {
                    let from = it.server.received;
                    assert!(plan::is_content(call.number, from, bytes), "other content");
                    it.server.received += bytes.len();
                    if end {
                        it.server.received_end = Some(false);
                    }
                });
                if !slow {
                    let untaken = std::mem::take(&mut call.untaken);
                    self.connection.taken(slot, untaken, &mut self.out);
                }
            }
            Event::Trailers { slot, trailers, .. } => {
                let call = self.connection.value(slot);
                assert_eq!(trailers["x-call"], call.number.to_string());
                let note = |it: &mut super::ledger::Call| it.server.received_end = Some(true);
                self.ledger.note(call.number, note);
            }
            Event::Reset { value, code } => {
                let note = |it: &mut super::ledger::Call| it.server.received_reset = Some(code.0);
                self.ledger.note(value.number, note);
            }
            Event::Refused | Event::WindowUpdate { .. } | Event::GoAway(_) => {}
            event => panic!("the client keeps to the rules: {event:?}"),
        }
    }

    fn request(&mut self, request: &http::Request<()>, opening: Opening) {
        let number = request.headers()["x-call"].to_str().ok();
        let number = number.and_then(|it| it.parse().ok());
        let number: usize = number.expect("as the client sent it");
        self.seen += 1;
        if opening.is_request_ended() {
            let note = |it: &mut super::ledger::Call| it.server.received_end = Some(false);
            self.ledger.note(number, note);
        }
        let again = self
            .ledger
            .note(number, |it| std::mem::replace(&mut it.served, true));
        assert!(!again, "a request twice");
        let call = Call {
            number,
            plan: self.run.plan(number),
            untaken: 0,
            answered: false,
            sent: 0,
            waits: false,
        };
        self.connection.open(opening, call);
    }

    /// A call goes on, as far as it can.
    fn step(&mut self, slot: Slot) {
        let (connection, out) = (&mut self.connection, &mut self.out);
        let ended = connection.is_request_ended(slot);
        let call = connection.value_mut(slot);
        let (number, ledger) = (call.number, self.ledger);
        if call.untaken > 0 && self.rng.random_bool(0.3) {
            let taken = self.rng.random_range(1..=call.untaken);
            call.untaken -= taken;
            connection.taken(slot, taken, out);
        }
        let call = connection.value_mut(slot);
        let received = ledger.note(number, |it| it.server.received);
        let resets = call
            .plan
            .server_resets_receiving
            .is_some_and(|at| received >= at)
            || call.answered
                && call
                    .plan
                    .server_resets_sending
                    .is_some_and(|at| call.sent >= at);
        if resets {
            ledger.note(number, |it| it.server.sent_reset = Some(SERVER_RESETS));
            connection.reset(slot, ErrorCode(SERVER_RESETS), out);
            return;
        }
        if !ended && !call.plan.early {
            return;
        }
        if !connection.is_response_ended(slot) && !connection.value(slot).waits {
            self.respond(slot);
        }
        let (connection, out) = (&mut self.connection, &mut self.out);
        let early = connection.value(slot).plan.complete_early;
        if connection.is_response_ended(slot) && (ended || early) {
            if !ended {
                ledger.note(number, |it| it.server.sent_reset = Some(0));
            }
            connection.close(slot, out);
        }
    }

    fn respond(&mut self, slot: Slot) {
        let (connection, out) = (&mut self.connection, &mut self.out);
        let call = connection.value_mut(slot);
        let number = call.number;
        let (total, with_trailers) = (call.plan.response.iter().sum(), call.plan.response_trailers);
        if !std::mem::replace(&mut call.answered, true) {
            let only = call.plan.head || total == 0 && !with_trailers;
            connection.respond(slot, &response("200"), only, out);
            if only {
                self.ledger
                    .note(number, |it| it.server.sent_end = Some(false));
                return;
            }
        }
        // A piece at a time, so that streams take turns.
        let call = connection.value(slot);
        let piece = self.rng.random_range(1..20_000).min(total - call.sent);
        let from = call.sent;
        let end = !with_trailers && from + piece == total;
        let bytes = plan::content(number, from, piece);
        let sent = connection.data(slot, &bytes, end, out);
        let call = connection.value_mut(slot);
        call.sent += sent;
        call.waits = sent < piece;
        self.ledger.note(number, |it| it.server.sent += sent);
        if call.sent == total {
            if with_trailers {
                connection.trailers(slot, &trailers(), out);
            }
            let note = |it: &mut super::ledger::Call| it.server.sent_end = Some(with_trailers);
            self.ledger.note(number, note);
        }
    }
}
