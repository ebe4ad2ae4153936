//! One HTTP/2 connection: one task that drives the socket and all its streams.
//!
//! Streams are polled first, then the groups that read for several of them, and the connection after them. So their
//! bytes are written in the same turn, in as few writes as possible. A wake-up costs the runtime one poll, for any
//! number of streams.
//!
//! Holds: when the peer goes, or falls silent, or the server is killed, every call and body of the connection is
//! dropped at once; a peer that sends nothing, garbage, or takes nothing occupies this task and nothing else.
//! Does not: know gRPC beyond what `Stream` needs for its shortest answer.

mod context;
mod end;
mod followers;
mod half_sent;
mod heartbeats;
#[cfg(feature = "own-http2")]
mod http2;
mod inbound;
mod io;
mod keepalive;
mod outlet;
mod request_body;
mod response_body;
mod returned;
mod send_queue;
mod settings;
mod shared_reader;
mod stranger;
mod stream;
mod stream_set;
mod sync;
mod unread;
mod wake_set;
mod wakes;
mod windows;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::{Instant, sleep, timeout_at};
use tower::Service;

#[cfg(feature = "own-http2")]
pub(crate) use context::HeadersTooLarge;
pub use context::{Accepted, ConnectionContext};
pub use end::ConnectionEnd;
pub use followers::Followed;
use followers::{Detached, Followers};
use half_sent::HalfSent;
pub use half_sent::{HalfSentTotal, RequestError};
use heartbeats::Heartbeats;
use io::{Io, IoHandle, Left, Sending};
use keepalive::{Gone, Keepalive};
use request_body::RequestBody;
pub use response_body::{Follower, Heartbeat, ResponseBody};
pub use send_queue::SendQueue;
pub use settings::ConnectionSettings;
#[cfg(any(test, feature = "testkit"))]
pub use shared_reader::NotShared;
pub use shared_reader::{SharedPiece, SharedReader};
use stranger::Begin;
pub use stranger::Stranger;
use stream::{Stream, Wire};
use stream_set::{StreamSet, Turn};
use wakes::{CONTROL, GROUPS, SOCKET, STREAMS, Wakes};
use windows::Waiter;

use crate::lifecycle::Drain;
use crate::limits;
use crate::transport::abort::StreamAbort;
use crate::transport::connection_counts::{ConnectionCounts, Full};
use crate::transport::context::AcceptContext;

/// Serves one accepted connection until it ends, over the socket that `establish` gives. That, the first bytes and the begin
/// of HTTP/2 have one deadline together, `handshake_timeout`.
///
/// The service of `shared` must always be ready: a limit answers with a status and does not wait. A call that finds it busy is
/// reset with `REFUSED_STREAM`, which clients may retry.
pub async fn serve_connection<T, S, B>(
    establish: impl Future<Output = std::io::Result<T>>,
    accepted: Accepted,
    shared: AcceptContext<S>,
) -> ConnectionEnd
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: ResponseBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Its parts are used where they are: bound to names of their own, they would be held twice.
    let (settings, drain) = (&*shared.settings.connection, &shared.drain);
    let until = Instant::now() + settings.handshake_timeout;
    let first = tokio::select! {
        biased;
        // Nothing was promised to a peer without a request.
        () = drain.going_away() => return ConnectionEnd::Closed,
        first = timeout_at(until, begin(establish)) => first,
    };
    let (socket, preface) = match first {
        Err(_) => return ConnectionEnd::HandshakeTimeout,
        Ok(Err(error)) => return ConnectionEnd::Io(error),
        Ok(Ok((_, Begin::Closed))) => return ConnectionEnd::Closed,
        Ok(Ok((socket, Begin::Stranger(stranger, words)))) => {
            shared
                .counts
                .count_stranger(accepted.context.peer, stranger);
            // In a box of its own: inline, every connection would be as large as this future.
            Box::pin(stranger::turn_away(socket, stranger, &words)).await;
            return ConnectionEnd::Stranger(stranger);
        }
        Ok(Ok((socket, Begin::Http2(preface)))) => (socket, preface),
    };
    #[cfg(feature = "own-http2")]
    if settings.own_http2 {
        let half_sent = HalfSent::new(settings, shared.half_sent);
        let begun = http2::Begun {
            socket,
            preface,
            config: shared.http2,
            until,
        };
        let (service, counts) = (shared.service, shared.counts);
        return http2::Connection::new(begun, service, accepted, counts, settings, half_sent)
            .run(drain)
            .await;
    }
    let (io, handle) = io::split(socket, preface);
    let http2 = {
        let handshake = timeout_at(until, settings.http2().handshake(io));
        tokio::select! {
            biased;
            () = drain.going_away() => return ConnectionEnd::Closed,
            result = handshake => match result {
                Err(_) => return ConnectionEnd::HandshakeTimeout,
                Ok(Err(error)) => return ConnectionEnd::Http2(error),
                Ok(Ok(http2)) => http2,
            },
        }
    };
    let half_sent = HalfSent::new(settings, shared.half_sent);
    Connection::new(
        http2,
        handle,
        shared.service,
        accepted,
        shared.counts,
        settings,
        half_sent,
    )
    .run(drain)
    .await
}

/// Ready when the peer does not answer.
fn poll_gone<T>(
    keepalive: &mut Keepalive,
    pings: &mut Option<h2::PingPong>,
    io: &IoHandle<T>,
    cx: &mut Context<'_>,
) -> Poll<Gone> {
    match pings {
        Some(pings) => keepalive.poll_gone(cx, pings, io.last_received(), io.taken()),
        None => Poll::Pending,
    }
}

/// The usable socket, and the first bytes of its peer.
async fn begin<T>(
    establish: impl Future<Output = std::io::Result<T>>,
) -> std::io::Result<(T, Begin)>
where
    T: AsyncRead + Unpin,
{
    let mut socket = establish.await?;
    let begin = stranger::begin(&mut socket).await?;
    Ok((socket, begin))
}

struct Connection<T, S, B>
where
    S: Service<Request<tonic::body::Body>>,
    B: ResponseBody,
{
    wakes: Wakes,
    http2: h2::server::Connection<Io<T>, Bytes>,
    wire: Wire<T, B::Reader>,
    service: S,
    context: Arc<ConnectionContext>,
    counts: ConnectionCounts,
    /// While as many streams are open as may be.
    full: Option<Full>,
    streams_max: u32,
    streams: StreamSet<Stream<S::Future, B>>,
    keepalive: Keepalive,
    pings: Option<h2::PingPong>,
    half_sent: Arc<HalfSent>,
}

impl<T, S, B> Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: ResponseBody,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn new(
        mut http2: h2::server::Connection<Io<T>, Bytes>,
        io: IoHandle<T>,
        service: S,
        accepted: Accepted,
        counts: ConnectionCounts,
        settings: &ConnectionSettings,
        half_sent: Arc<HalfSent>,
    ) -> Self {
        let pings = http2.ping_pong();
        let keepalive = Keepalive::new(settings, accepted.queue);
        let wakes = Wakes::new();
        io.stage(wakes.socket.clone());
        Self {
            streams: StreamSet::new(wakes.streams.clone()),
            wire: Wire {
                io,
                followers: Followers::new(wakes.groups()),
                flushes: 0,
                heartbeats: Heartbeats::default(),
                heartbeat_moved: false,
            },
            wakes,
            http2,
            service,
            context: accepted.context,
            counts,
            full: None,
            streams_max: settings.streams_max,
            keepalive,
            pings,
            half_sent,
        }
    }

    async fn run(mut self, drain: &Drain) -> ConnectionEnd {
        let mut going_away = pin!(drain.going_away());
        let mut killed = pin!(drain.killed());
        let mut told = false;
        let mut leaving = None;
        // Streams were woken and wait for the socket: their frames would only pile up in HTTP/2 now.
        let mut held_back = false;
        let end = poll_fn(|cx| {
            self.wakes.begin(cx.waker());
            for _ in 0..limits::CONNECTION_TURN_ROUNDS {
                if self.wakes.take(CONTROL) {
                    let mut control = Context::from_waker(&self.wakes.control);
                    if killed.as_mut().poll(&mut control).is_ready() {
                        return Poll::Ready(ConnectionEnd::Killed);
                    }
                    if !told && going_away.as_mut().poll(&mut control).is_ready() {
                        told = true;
                        self.http2.graceful_shutdown();
                        self.wakes.mark(SOCKET);
                    }
                    let (keepalive, pings) = (&mut self.keepalive, &mut self.pings);
                    if poll_gone(keepalive, pings, &self.wire.io, &mut control).is_ready() {
                        return Poll::Ready(ConnectionEnd::PeerVanished);
                    }
                    self.poll_heartbeats();
                }
                let groups = self.wakes.take(GROUPS) || held_back;
                let streams = self.wakes.take(STREAMS) || held_back;
                if groups || streams {
                    held_back = self.wire.io.is_blocked();
                    if held_back {
                        self.poll_blocked();
                    } else {
                        self.poll_streams(groups, streams);
                    }
                }
                if self.wakes.take(SOCKET)
                    && let Poll::Ready(end) = self.poll_http2()
                {
                    return Poll::Ready(end);
                }
                if told {
                    if !self.streams.is_empty() {
                        leaving = None;
                    } else if leaving
                        .get_or_insert_with(|| Box::pin(sleep(limits::GOAWAY_GRACE)))
                        .as_mut()
                        .poll(&mut Context::from_waker(&self.wakes.control))
                        .is_ready()
                    {
                        return Poll::Ready(ConnectionEnd::Closed);
                    }
                }
                self.look_whether_full();
                if self.wakes.any_woken() {
                    if coop::has_budget_remaining() {
                        continue;
                    }
                    // Nothing would make progress before the runtime has had its turn.
                    break;
                }
                let left = match self.write() {
                    Ok(left) => left,
                    Err(error) => return Poll::Ready(ConnectionEnd::Io(error)),
                };
                if !left.blocked {
                    // HTTP/2 writes its waiting frames before others write.
                    if left.refused {
                        self.wakes.mark(SOCKET);
                        continue;
                    }
                    if held_back {
                        continue;
                    }
                }
                if self.wakes.end() {
                    return Poll::Pending;
                }
            }
            if let Err(error) = self.write() {
                return Poll::Ready(ConnectionEnd::Io(error));
            }
            self.wakes.give_way(cx.waker());
            Poll::Pending
        })
        .await;
        // So that each knows at its end the bytes that were sent for it.
        let detached = self.wire.followers.detach_all();
        self.resume(detached);
        end
    }

    /// Notes when the limit of open streams is reached, and when it no longer is.
    fn look_whether_full(&mut self) {
        let full = self.streams.len() >= self.streams_max as usize;
        if full != self.full.is_some() {
            self.full = full.then(|| self.counts.count_full(self.context.peer, self.streams_max));
        }
    }

    /// The socket takes nothing: streams that are over end, and the bytes of the others are held.
    fn poll_blocked(&mut self) {
        self.streams.poll_blocked(&mut self.wire);
        self.wire.followers.hold();
    }

    /// Streams that were woken go on, and pieces read for several are sent; streams that ended are dropped.
    fn poll_streams(&mut self, groups: bool, streams: bool) {
        // Streams first: one that its peer has reset leaves those that follow before more is sent to it. Each has a turn
        // of its own, so that neither holds up the other.
        if streams && self.streams.poll_woken(&mut Turn::new(), &mut self.wire) {
            self.wakes.mark(STREAMS);
            // The groups do not wait for those that had no turn.
            let Wire { followers, io, .. } = &mut self.wire;
            (self.streams).for_each_woken(|stream| stream.detach(followers, io));
        }
        if groups {
            let (left, detached) = {
                let Wire { followers, io, .. } = &mut self.wire;
                followers.poll(&mut io.sender(), &mut Turn::new())
            };
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

    /// Streams that were silent for as long as they may be are woken.
    fn poll_heartbeats(&mut self) {
        let control = self.wakes.control.clone();
        let mut cx = Context::from_waker(&control);
        while let Poll::Ready(now) = self.wire.heartbeats.poll(&mut cx) {
            let followers = &self.wire.followers;
            let heartbeat = |stream: &mut Stream<_, _>| stream.heartbeat(followers);
            let earliest = self.streams.wake_silent(now, heartbeat);
            self.wire.heartbeats.again(now, earliest);
        }
    }

    /// Reads and writes frames, and takes new calls.
    fn poll_http2(&mut self) -> Poll<ConnectionEnd> {
        let socket = self.wakes.socket.clone();
        let mut cx = Context::from_waker(&socket);
        loop {
            match self.http2.poll_accept(&mut cx) {
                Poll::Pending => return self.flushed(),
                Poll::Ready(None) => return Poll::Ready(ConnectionEnd::Closed),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(ConnectionEnd::Http2(error)),
                Poll::Ready(Some(Ok((request, respond)))) => self.call(request, respond, &mut cx),
            }
        }
    }

    /// HTTP/2 has read all bytes and has no frame left to write, unless the socket is full.
    fn flushed(&mut self) -> Poll<ConnectionEnd> {
        if !self.wire.io.has_refused() {
            self.wire.flushes = self.wire.flushes.wrapping_add(1);
        }
        let mut windows = self.wire.io.windows();
        windows.forget_unclaimed();
        let replenished = windows.take_replenished();
        let overflown = windows.take_overflown();
        drop(windows);
        if overflown {
            self.http2.abrupt_shutdown(Reason::FLOW_CONTROL_ERROR);
            self.wakes.mark(SOCKET);
        }
        for slot in replenished {
            self.streams.wake(slot);
        }
        if self.wire.io.calls_taken() {
            // The streams go first.
            self.wakes.mark(SOCKET);
        }
        Poll::Pending
    }

    /// Capacity of the connection's window goes to its waiters, in their order.
    fn release(&mut self) {
        let released = self.wire.io.windows().take_released();
        for waiter in released {
            match waiter {
                Waiter::Stream { slot, .. } => {
                    self.streams.wake(slot);
                }
                Waiter::Group(group) => self.wire.followers.release(group),
            }
        }
    }

    /// Streams that were taken out of their groups read for themselves.
    fn resume(&mut self, detached: Vec<Detached<Sending>>) {
        for one in detached {
            if let Some(stream) = self.streams.wake(one.slot) {
                stream.resume(one);
            }
        }
    }

    fn call(
        &mut self,
        request: Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        match self.service.poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => {
                respond.send_reset(Reason::REFUSED_STREAM);
                return;
            }
        }
        let mut request = request.map(|stream| {
            tonic::body::Body::new(RequestBody::new(stream, Arc::clone(&self.half_sent)))
        });
        request.extensions_mut().insert(Arc::clone(&self.context));
        let (service, io) = (&mut self.service, &self.wire.io);
        self.streams.insert(|slot, own| {
            let abort = StreamAbort::of(Arc::clone(own));
            request.extensions_mut().insert(abort);
            let stream = Stream::new(service.call(request), respond, slot);
            io.windows().open(stream.number(), slot);
            stream
        });
    }

    /// Everything this turn produced leaves in one write. The rest is written when the socket is ready, through the
    /// same waker.
    fn write(&mut self) -> std::io::Result<Left> {
        let socket = &mut Context::from_waker(&self.wakes.socket);
        let left = self.wire.io.write(socket)?;
        if left.capacity_for_a_waiter && !left.blocked {
            self.release();
        }
        Ok(left)
    }
}
