//! The task of a connection, which drives the socket and all its streams.
//!
//! A round is: what the peer sent, then the streams that were woken and the groups that read for several of them, then one write. While the
//! peer has more to say, the write may wait for the next turns. So answers to the peer's frames stand before content, bytes leave in as
//! few writes as possible, and a wake-up costs the runtime one poll for any number of streams. A poll has several rounds, and takes one
//! portion of what the peer sent.
//!
//! Holds: when the peer goes, or falls silent, or the server is killed, every call and body of the connection is dropped at once; what a
//! peer sends is handled in portions, and other connections have their turn between them.
//! Does not: know gRPC.

mod caps;
mod incoming;

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use longlived_http2::ConnectionError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::Instant;
use tower::Service;

use self::incoming::Taken;
use super::account::OwnAccount;
use super::followers::{Detached, Followers};
use super::heartbeats::Heartbeats;
use super::io::Io;
use super::keepalive::{Keepalive, Traffic, Verdict};
use super::policy::Policy;
use super::response_body::ResponseBody;
use super::service::ConnectionService;
use super::stream::Stream;
use super::stream_set::{StreamSet, Turn};
use super::timer::Timer;
use super::wakes::{CONTROL, GROUPS, SOCKET, STREAMS, Wakes};
use super::wire::{Frames, Wire};
use super::{ConnectionContext, ConnectionEnd, SendQueue};
use crate::lifecycle::Drain;
use crate::limits;
use crate::transport::connection_counts::Full;
use crate::transport::context::AcceptContext;

/// One waiter for the connection's window is woken for each of these bytes in it; a waiter that needs less leaves the rest to the next.
const SHARE_BYTES: u32 = 1024;

/// The payload of our keepalive's PING.
const KEEPALIVE_PING: [u8; 8] = *b"keep up?";

/// A connection whose preface has come.
pub(super) struct Begun<T> {
    pub(super) socket: T,
    pub(super) context: Arc<ConnectionContext>,
    pub(super) queue: Option<SendQueue>,
    /// Read already.
    pub(super) preface: &'static [u8],
    /// When the peer's SETTINGS must have come.
    pub(super) until: Instant,
}

/// What the node wants of a connection.
pub(super) enum Order {
    /// No more calls, and an end with the last one.
    GoAway,
    /// An end at once.
    End,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each says a thing of its own"
)]
pub(super) struct Connection<T, S, B>
where
    S: Service<Request<tonic::body::Body>>,
    B: ResponseBody,
{
    wakes: Wakes,
    wire: Wire<T, B::Reader>,
    shared: Arc<AcceptContext<S>>,
    context: Arc<ConnectionContext>,
    account: OwnAccount,
    /// How often there was one.
    account_made: u8,
    /// While as many streams are open as may be.
    full: Option<Full>,
    streams: StreamSet<Stream<S::Future, B>>,
    keepalive: Keepalive,
    /// Where the kernel's counts of the peer are to be had.
    queue: Option<SendQueue>,
    timer: Timer,
    /// When the peer's SETTINGS must have come; `None` when they have.
    begin_until: Option<Instant>,
    /// Until the peer is told to go: when the connection has its age. After GOAWAY and the last stream: for how long the peer is waited
    /// for.
    leaves_at: Option<Instant>,
    /// The peer was told to go.
    told: bool,
    /// Streams were woken and wait for the socket.
    held_back: bool,
    /// A time that HTTP/2 sets is over. What the peer sent before is looked at first: this end may have been the one that was late.
    expired: bool,
    /// There was nothing more to read when the socket was last asked.
    drained: bool,
    /// A time may have come to be earlier than the timer's.
    untimed: bool,
    /// Turns since the last write, while the peer has more to say.
    unwritten_turns: u8,
}

impl<T, S, B> Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    pub(super) fn new(begun: Begun<T>, shared: Arc<AcceptContext<S>>) -> Self {
        let wakes = Wakes::new();
        let io = Io::new(begun.socket, begun.preface, wakes.socket.clone());
        let http2 = longlived_http2::Connection::new(Arc::clone(&shared.http2));
        let settings = &shared.settings.connection;
        Self {
            streams: StreamSet::new(wakes.streams.clone()),
            wire: Wire {
                frames: Frames::new(io, http2, Policy::new(settings.streams_max)),
                followers: Followers::new(wakes.groups()),
                heartbeats: Heartbeats::default(),
            },
            wakes,
            context: begun.context,
            account: OwnAccount::default(),
            account_made: 0,
            full: None,
            keepalive: Keepalive::new(settings),
            queue: begun.queue,
            timer: Timer::new(begun.until),
            begin_until: Some(begun.until),
            leaves_at: shared.ages.next(Instant::now()),
            told: false,
            held_back: false,
            expired: false,
            drained: false,
            untimed: true,
            unwritten_turns: 0,
            shared,
        }
    }

    pub(super) fn context(&self) -> Arc<ConnectionContext> {
        Arc::clone(&self.context)
    }

    pub(super) fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    /// Serves until the connection ends. `order` is ready once for each order of the node.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        order: impl FnMut(&mut Context<'_>) -> Poll<Order>,
    ) -> Poll<ConnectionEnd> {
        self.wakes.begin(cx.waker());
        self.wire.frames.io.begin();
        let polled = self.poll_rounds(cx, order);
        self.wire.frames.io.end();
        self.count_unsent();
        polled
    }

    /// The connection has ended: its streams end, and know the bytes that were sent for them. Its socket, if the peer is to read what was
    /// said last.
    pub(super) fn end(mut self, end: &ConnectionEnd) -> Option<Io<T>> {
        let detached = self.wire.followers.detach_all();
        self.resume(detached);
        let was_told = self.told && matches!(end, ConnectionEnd::Closed);
        let lingers = was_told || matches!(end, ConnectionEnd::Protocol(_));
        lingers.then_some(self.wire.frames.io)
    }

    // Never inlined: the instructions of one call are those of a turn, which `.ci/instructions` counts by this name.
    #[inline(never)]
    fn poll_rounds(
        &mut self,
        cx: &mut Context<'_>,
        mut order: impl FnMut(&mut Context<'_>) -> Poll<Order>,
    ) -> Poll<ConnectionEnd> {
        for _ in 0..limits::CONNECTION_TURN_ROUNDS {
            let woken = self.wakes.take(CONTROL | SOCKET);
            if woken & CONTROL != 0 {
                self.untimed = true;
                if let Poll::Ready(end) = self.poll_control(&mut order) {
                    return Poll::Ready(end);
                }
            }
            let gives_way = match (woken & SOCKET != 0).then(|| self.poll_socket()) {
                None | Some(Taken::All) => false,
                Some(Taken::Portion) => true,
                Some(Taken::End(end)) => return Poll::Ready(end),
            };
            if self.expired && self.drained {
                self.expired = false;
                if let Poll::Ready(end) = self.poll_expired() {
                    return Poll::Ready(end);
                }
            }
            let woken = self.wakes.take(GROUPS | STREAMS);
            let groups = woken & GROUPS != 0 || self.held_back;
            let streams = woken & STREAMS != 0 || self.held_back;
            if groups || streams {
                self.poll_woken(groups, streams);
            }
            if self.wire.frames.has_queues() {
                self.count_pieces();
                self.release_groups();
            }
            self.keep_within_caps();
            self.release();
            self.look_whether_full();
            if gives_way {
                // The peer has more to say: other connections have their turn before it.
                break;
            }
            if self.wakes.any_woken() {
                if coop::has_budget_remaining() {
                    continue;
                }
                // Nothing would make progress before the runtime has had its turn.
                break;
            }
            self.unwritten_turns = 0;
            if let Err(error) = self.wire.frames.io.write() {
                return Poll::Ready(ConnectionEnd::Io(error));
            }
            let io = &self.wire.frames.io;
            if !io.is_blocked() && (self.held_back || io.has_unseen()) {
                if io.has_unseen() {
                    self.wakes.mark(SOCKET);
                }
                continue;
            }
            if self.has_left() {
                return Poll::Ready(ConnectionEnd::Closed);
            }
            if std::mem::take(&mut self.untimed) {
                self.set_timer();
            }
            if self.wakes.end() {
                return Poll::Pending;
            }
        }
        if !self.put_off_writing()
            && let Err(error) = self.wire.frames.io.write()
        {
            return Poll::Ready(ConnectionEnd::Io(error));
        }
        if std::mem::take(&mut self.untimed) {
            self.set_timer();
        }
        self.wakes.give_way(cx.waker());
        Poll::Pending
    }

    /// Leaves what is collected to the write of a later turn, if the peer has sent more, whose answers go with it; whether it did. A turn
    /// answers few calls, and a write for so few costs as much as they do.
    fn put_off_writing(&mut self) -> bool {
        let io = &self.wire.frames.io;
        let waits = io.has_unseen()
            && io.staged_bytes() < limits::HELD_ANSWERS_BYTES
            && self.unwritten_turns + 1 < limits::HELD_ANSWERS_TURNS;
        self.unwritten_turns = if waits { self.unwritten_turns + 1 } else { 0 };
        waits
    }

    /// Orders of the node, and the timer.
    // Never inlined: a delivery, which is polled by the same function, has neither.
    #[inline(never)]
    fn poll_control(
        &mut self,
        order: &mut impl FnMut(&mut Context<'_>) -> Poll<Order>,
    ) -> Poll<ConnectionEnd> {
        let control = self.wakes.control.clone();
        let cx = &mut Context::from_waker(&control);
        while let Poll::Ready(order) = order(cx) {
            match order {
                Order::GoAway => self.go_away(Instant::now()),
                Order::End => return Poll::Ready(ConnectionEnd::Killed),
            }
        }
        if self.timer.poll(cx).is_ready() {
            return self.poll_due();
        }
        Poll::Pending
    }

    /// Tells the peer to open no more streams. Those that are open go on.
    fn go_away(&mut self, now: Instant) {
        self.told = true;
        self.leaves_at = None;
        let Frames { http2, io, .. } = &mut self.wire.frames;
        http2.go_away(now.into_std(), io.out());
    }

    /// Whatever is due by now.
    fn poll_due(&mut self) -> Poll<ConnectionEnd> {
        let now = Instant::now();
        let Frames {
            http2, io, policy, ..
        } = &mut self.wire.frames;
        let traffic = Traffic {
            last_received: io.last_received(),
            taken: io.taken(),
        };
        let settings = &self.shared.settings.connection;
        let kernel = || self.queue.as_ref()?.look(self.context.socket_peer()?);
        match self.keepalive.look(settings, now, traffic, kernel) {
            Verdict::Wait => {}
            Verdict::Ask => {
                http2.ping(KEEPALIVE_PING, io.out());
                policy.asked();
            }
            Verdict::Gone => return Poll::Ready(ConnectionEnd::PeerVanished),
        }
        // Also those that may speak and need not yet: what they say shares one write, and one timer, with the others.
        if self.wire.heartbeats.are_near(now) {
            let (wire, timeout) = (&self.wire, settings.answer_timeout);
            let due = |stream: &mut Stream<_, _>| stream.due(wire, now, timeout);
            let earliest = self.streams.wake_silent(now, due);
            self.wire.heartbeats.again(now, earliest);
        }
        if !self.told && self.leaves_at.is_some_and(|at| at <= now) {
            self.go_away(now);
        }
        if self.http2_due().is_some_and(|at| at <= now) {
            self.expired = true;
            self.drained = false;
            self.wakes.mark(SOCKET);
        }
        Poll::Pending
    }

    /// A time that HTTP/2 sets is over.
    fn poll_expired(&mut self) -> Poll<ConnectionEnd> {
        let now = Instant::now();
        if self.begin_until.is_some_and(|until| until <= now) {
            return Poll::Ready(ConnectionEnd::HandshakeTimeout);
        }
        let Frames { http2, io, .. } = &mut self.wire.frames;
        match http2.expire(now.into_std(), io.out()) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(self.fail(error)),
        }
    }

    /// When the next of the times that HTTP/2 sets is over. One that is waits until the socket is empty: what the peer sent in time may
    /// stand behind a hundred calls, on a node to which a million subscribers come back at once.
    fn http2_due(&self) -> Option<Instant> {
        if self.expired {
            return None;
        }
        let http2 = self.wire.frames.http2.deadline().map(Instant::from_std);
        http2.into_iter().chain(self.begin_until).min()
    }

    /// The timer is to fire no later than at the earliest time that matters.
    fn set_timer(&mut self) {
        let others = [self.http2_due(), self.wire.heartbeats.due(), self.leaves_at];
        let due = self.keepalive.due();
        let at = others.into_iter().flatten().fold(due, Instant::min);
        if self.timer.no_later_than(at) {
            self.wakes.mark(CONTROL);
        }
    }

    /// After GOAWAY: whether the last stream has ended, and the peer knows or has had its time.
    fn has_left(&mut self) -> bool {
        if !self.told {
            return false;
        }
        if !self.streams.is_empty() {
            self.leaves_at = None;
            return false;
        }
        let Frames { http2, io, .. } = &self.wire.frames;
        if http2.is_last_stream_said() && io.is_written() {
            return true;
        }
        let now = Instant::now();
        let until = self.leaves_at.get_or_insert_with(|| {
            self.untimed = true;
            now + 2 * limits::GOAWAY_GRACE
        });
        *until <= now
    }

    /// The peer broke a rule of HTTP/2: it is told, and the connection ends.
    fn fail(&mut self, error: ConnectionError) -> ConnectionEnd {
        let Frames { http2, io, .. } = &mut self.wire.frames;
        http2.fail(&error, io.out());
        ConnectionEnd::Protocol(error)
    }

    /// Notes when the limit of open streams is reached, and when it no longer is.
    fn look_whether_full(&mut self) {
        let streams_max = self.shared.settings.connection.streams_max;
        let full = self.streams.len() >= streams_max as usize;
        if full != self.full.is_some() {
            let counts = &self.shared.counts;
            self.full = full.then(|| counts.count_full(self.context.peer, streams_max));
        }
    }

    /// Streams and groups were woken.
    fn poll_woken(&mut self, groups: bool, streams: bool) {
        // A stream may want to be asked earlier than all others.
        self.untimed |= streams;
        self.held_back = self.wire.frames.io.is_blocked();
        if self.held_back {
            self.streams.poll_blocked(&mut self.wire);
            self.wire.followers.hold();
        } else {
            self.poll_streams(groups, streams);
        }
    }

    /// Streams that were woken go on, and pieces read for several are sent; streams that ended are dropped.
    fn poll_streams(&mut self, groups: bool, streams: bool) {
        // Each has a turn of its own, so that neither holds up the other.
        if streams && self.streams.poll_woken(&mut Turn::new(), &mut self.wire) {
            self.wakes.mark(STREAMS);
            // The groups do not wait for those that had no turn.
            let Wire {
                followers, frames, ..
            } = &mut self.wire;
            (self.streams).for_each_woken(|stream| stream.detach(followers, frames));
        }
        if groups {
            let Wire {
                followers, frames, ..
            } = &mut self.wire;
            let (left, detached) = followers.poll(frames, &mut Turn::new());
            if !detached.is_empty() {
                self.resume(detached);
            }
            if left {
                self.wakes.mark(GROUPS);
            }
            if self.wire.followers.has_retries() {
                for slot in self.wire.followers.take_retries() {
                    self.streams.wake(slot);
                }
            }
        }
    }

    /// Streams that were taken out of their groups read for themselves.
    fn resume(&mut self, detached: Vec<Detached>) {
        for one in detached {
            if let Some(stream) = self.streams.wake(one.slot) {
                stream.resume(one);
            }
        }
    }

    /// Capacity in the connection's window goes to groups that waited for it.
    fn release_groups(&mut self) {
        for group in self.wire.frames.take_waiting_groups() {
            self.wire.followers.release(group);
        }
    }

    /// Capacity in windows goes to streams that waited for it.
    fn release(&mut self) {
        if !self.wire.frames.http2.has_waiters() {
            return;
        }
        let mut left = self.wire.frames.http2.connection_send_window();
        while left > 0
            && let Some(slot) = self.wire.frames.http2.next_writable()
        {
            let key = self.wire.frames.http2.value(slot).key;
            // A group goes on as one.
            if let Some(stream) = self.streams.get_mut(key)
                && stream.place().is_none()
            {
                self.streams.wake(key);
                left = left.saturating_sub(SHARE_BYTES);
            }
        }
    }
}
