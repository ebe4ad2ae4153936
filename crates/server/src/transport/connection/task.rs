//! One connection over HTTP/2 of our own: one task that drives the socket and all its streams.
//!
//! A round is: the streams that were woken and the groups that read for several of them, then what the peer sent, then one write.
//! So their bytes leave in as few writes as possible, and a wake-up costs the runtime one poll for any number of streams.
//!
//! Holds: when the peer goes, or falls silent, or the server is killed, every call and body of the connection is dropped at once; what a
//! peer sends is handled in portions, and other connections have their turn between them.
//! Does not: know gRPC.

mod incoming;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use longlived_http2::ConnectionError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower::Service;

use super::followers::{Detached, Followers};
use super::half_sent::HalfSent;
use super::heartbeats::Heartbeats;
use super::io::Io;
use super::keepalive::{Gone, Keepalive, Pings};
use super::policy::Policy;
use super::response_body::ResponseBody;
use super::stream::Stream;
use super::stream_set::{StreamSet, Turn};
use super::wakes::{CONTROL, GROUPS, SOCKET, STREAMS, Wakes};
use super::wire::{Frames, Wire};
use super::{Accepted, ConnectionContext, ConnectionEnd, ConnectionSettings};
use crate::lifecycle::Drain;
use crate::limits;
use crate::transport::connection_counts::{ConnectionCounts, Full};

/// One waiter for the connection's window is woken for each of these bytes in it; a waiter that needs less leaves the rest to the next.
const SHARE_BYTES: u32 = 1024;

/// The payload of our keepalive's PING.
const KEEPALIVE_PING: [u8; 8] = *b"keep up?";

/// A connection whose preface has come.
pub(super) struct Begun<T> {
    pub(super) socket: T,
    /// Read already.
    pub(super) preface: &'static [u8],
    /// The limits of HTTP/2.
    pub(super) config: Arc<longlived_http2::Config>,
    /// When the peer's SETTINGS must have come.
    pub(super) until: Instant,
}

pub(super) struct Connection<T, S, B>
where
    S: Service<Request<tonic::body::Body>>,
    B: ResponseBody,
{
    wakes: Wakes,
    wire: Wire<T, B::Reader>,
    service: S,
    context: Arc<ConnectionContext>,
    counts: ConnectionCounts,
    /// While as many streams are open as may be.
    full: Option<Full>,
    streams_max: u32,
    stream_window: u32,
    header_list_bytes_max: u32,
    streams: StreamSet<Stream<S::Future, B>>,
    keepalive: Keepalive,
    /// The answer to the keepalive's PING has come.
    answered: bool,
    half_sent: Arc<HalfSent>,
    /// When the peer's SETTINGS must have come; `None` when they have.
    begin_until: Option<Instant>,
    deadline: Option<(Instant, Pin<Box<Sleep>>)>,
    /// A deadline is over. What the peer sent before is looked at first: this end may have been the one that was late.
    expired: bool,
    /// There was nothing more to read when the socket was last asked.
    drained: bool,
}

/// The keepalive's way to this connection's PINGs.
struct OwnPings<'a, T> {
    frames: &'a mut Frames<T>,
    answered: &'a mut bool,
}

impl<T> Pings for OwnPings<'_, T> {
    fn send(&mut self) {
        let Frames {
            http2, io, policy, ..
        } = &mut *self.frames;
        http2.ping(KEEPALIVE_PING, &mut io.out);
        policy.asked();
    }

    fn poll_answer(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(self.answered) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<T, S, B> Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: ResponseBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    pub(super) fn new(
        begun: Begun<T>,
        service: S,
        accepted: Accepted,
        counts: ConnectionCounts,
        settings: &ConnectionSettings,
        half_sent: Arc<HalfSent>,
    ) -> Self {
        let wakes = Wakes::new();
        let io = Io::new(begun.socket, begun.preface, wakes.socket.clone());
        Self {
            streams: StreamSet::new(wakes.streams.clone()),
            wire: Wire {
                frames: Frames::new(
                    io,
                    longlived_http2::Connection::new(begun.config),
                    Policy::new(settings.streams_max),
                ),
                followers: Followers::new(wakes.groups()),
                heartbeats: Heartbeats::default(),
                heartbeat_moved: false,
            },
            wakes,
            service,
            context: accepted.context,
            counts,
            full: None,
            streams_max: settings.streams_max,
            stream_window: settings.stream_window_bytes,
            header_list_bytes_max: settings.header_list_bytes_max,
            keepalive: Keepalive::new(settings, accepted.queue),
            answered: false,
            half_sent,
            begin_until: Some(begun.until),
            deadline: None,
            expired: false,
            drained: false,
        }
    }

    pub(super) async fn run(mut self, drain: &Drain) -> ConnectionEnd {
        let mut going_away = pin!(drain.going_away());
        let mut killed = pin!(drain.killed());
        let mut told = false;
        let mut leaving = None;
        // Streams were woken and wait for the socket.
        let mut held_back = false;
        let end = poll_fn(|cx| {
            self.wakes.begin(cx.waker());
            self.wire.frames.io.begin();
            let mut orders = |cx: &mut Context<'_>| {
                if killed.as_mut().poll(cx).is_ready() {
                    Orders::End
                } else if !told && going_away.as_mut().poll(cx).is_ready() {
                    told = true;
                    Orders::GoAway
                } else {
                    Orders::Nothing
                }
            };
            let polled = self.poll(cx, &mut orders, &mut held_back);
            self.wire.frames.io.end();
            if polled.is_pending() && told && self.has_left(&mut leaving) {
                return Poll::Ready(ConnectionEnd::Closed);
            }
            polled
        })
        .await;
        // So that each knows at its end the bytes that were sent for it.
        let detached = self.wire.followers.detach_all();
        self.resume(detached);
        let Self { wire, streams, .. } = self;
        drop(streams);
        if matches!(end, ConnectionEnd::Protocol(_))
            || (told && matches!(end, ConnectionEnd::Closed))
        {
            let mut io = wire.frames.io;
            // In a box of its own: inline, every connection would be as large as this future.
            let lingered = Box::pin(timeout(
                limits::GOAWAY_GRACE,
                poll_fn(move |cx| io.poll_linger(cx)),
            ));
            // A peer that does not close is not waited for.
            let _ = lingered.await;
        }
        end
    }

    /// After GOAWAY: whether the last stream has ended, and the peer knows or has had its time.
    fn has_left(&mut self, leaving: &mut Option<Pin<Box<Sleep>>>) -> bool {
        if !self.streams.is_empty() {
            *leaving = None;
            return false;
        }
        let Frames { http2, io, .. } = &self.wire.frames;
        if http2.is_last_stream_said() && io.is_written() {
            return true;
        }
        leaving
            .get_or_insert_with(|| Box::pin(sleep(2 * limits::GOAWAY_GRACE)))
            .as_mut()
            .poll(&mut Context::from_waker(&self.wakes.control))
            .is_ready()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        orders: &mut impl FnMut(&mut Context<'_>) -> Orders,
        held_back: &mut bool,
    ) -> Poll<ConnectionEnd> {
        for _ in 0..limits::CONNECTION_TURN_ROUNDS {
            if self.wakes.take(CONTROL)
                && let Poll::Ready(end) = self.poll_control(orders)
            {
                return Poll::Ready(end);
            }
            let groups = self.wakes.take(GROUPS) || *held_back;
            let streams = self.wakes.take(STREAMS) || *held_back;
            if groups || streams {
                *held_back = self.wire.frames.io.is_blocked();
                if *held_back {
                    self.streams.poll_blocked(&mut self.wire);
                    self.wire.followers.hold();
                } else {
                    self.poll_streams(groups, streams);
                }
            }
            if self.wakes.take(SOCKET)
                && let Poll::Ready(end) = self.poll_socket()
            {
                return Poll::Ready(end);
            }
            if self.expired && self.drained {
                self.expired = false;
                if let Poll::Ready(end) = self.poll_expired() {
                    return Poll::Ready(end);
                }
            }
            self.release();
            self.look_whether_full();
            if self.wakes.any_woken() {
                if coop::has_budget_remaining() {
                    continue;
                }
                // Nothing would make progress before the runtime has had its turn.
                break;
            }
            if let Err(error) = self.wire.frames.io.write() {
                return Poll::Ready(ConnectionEnd::Io(error));
            }
            let io = &self.wire.frames.io;
            if !io.is_blocked() && (*held_back || io.has_unseen()) {
                if io.has_unseen() {
                    self.wakes.mark(SOCKET);
                }
                continue;
            }
            self.look_at_deadline();
            if self.wakes.end() {
                return Poll::Pending;
            }
        }
        if let Err(error) = self.wire.frames.io.write() {
            return Poll::Ready(ConnectionEnd::Io(error));
        }
        self.look_at_deadline();
        self.wakes.give_way(cx.waker());
        Poll::Pending
    }

    /// Orders of the node, and timers.
    fn poll_control(
        &mut self,
        orders: &mut impl FnMut(&mut Context<'_>) -> Orders,
    ) -> Poll<ConnectionEnd> {
        let control = self.wakes.control.clone();
        let cx = &mut Context::from_waker(&control);
        match orders(cx) {
            Orders::Nothing => {}
            Orders::End => return Poll::Ready(ConnectionEnd::Killed),
            Orders::GoAway => {
                let Frames { http2, io, .. } = &mut self.wire.frames;
                http2.go_away(Instant::now().into_std(), &mut io.out);
            }
        }
        let frames = &mut self.wire.frames;
        let (received, taken) = (frames.io.last_received(), frames.io.taken());
        let mut pings = OwnPings {
            frames,
            answered: &mut self.answered,
        };
        if self.keepalive.poll_gone(cx, &mut pings, received, taken) == Poll::Ready(Gone) {
            return Poll::Ready(ConnectionEnd::PeerVanished);
        }
        while let Poll::Ready(now) = self.wire.heartbeats.poll(cx) {
            let followers = &self.wire.followers;
            let heartbeat = |stream: &mut Stream<_, _>| stream.heartbeat(followers);
            let earliest = self.streams.wake_silent(now, heartbeat);
            self.wire.heartbeats.again(now, earliest);
        }
        if let Some((_, timer)) = &mut self.deadline
            && timer.as_mut().poll(cx).is_ready()
        {
            self.deadline = None;
            self.expired = true;
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
        match http2.expire(now.into_std(), &mut io.out) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(self.fail(error)),
        }
    }

    /// Sets the timer for the earliest time that matters.
    fn look_at_deadline(&mut self) {
        let http2 = self.wire.frames.http2.deadline().map(Instant::from_std);
        let Some(at) = http2.into_iter().chain(self.begin_until).min() else {
            self.deadline = None;
            return;
        };
        match &mut self.deadline {
            Some((set, _)) if *set == at => {}
            Some((set, timer)) => {
                *set = at;
                timer.as_mut().reset(at);
                self.wakes.mark(CONTROL);
            }
            None => {
                self.deadline = Some((at, Box::pin(sleep_until(at))));
                self.wakes.mark(CONTROL);
            }
        }
    }

    /// The peer broke a rule of HTTP/2: it is told, and the connection ends.
    fn fail(&mut self, error: ConnectionError) -> ConnectionEnd {
        let Frames { http2, io, .. } = &mut self.wire.frames;
        http2.fail(&error, &mut io.out);
        ConnectionEnd::Protocol(error)
    }

    /// Notes when the limit of open streams is reached, and when it no longer is.
    fn look_whether_full(&mut self) {
        let full = self.streams.len() >= self.streams_max as usize;
        if full != self.full.is_some() {
            self.full = full.then(|| self.counts.count_full(self.context.peer, self.streams_max));
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
            self.resume(detached);
            if left {
                self.wakes.mark(GROUPS);
            }
            for slot in self.wire.followers.take_retries() {
                self.streams.wake(slot);
            }
        }
        if std::mem::take(&mut self.wire.heartbeat_moved) {
            self.wakes.mark(CONTROL);
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

    /// Capacity in windows goes to those that waited for it.
    fn release(&mut self) {
        for group in self.wire.frames.take_waiting_groups() {
            self.wire.followers.release(group);
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

/// What the node wants.
enum Orders {
    Nothing,
    GoAway,
    End,
}
