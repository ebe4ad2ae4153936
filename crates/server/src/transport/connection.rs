//! One HTTP/2 connection, from the accepted socket to its end.
//!
//! The first bytes say whether the peer speaks HTTP/2 at all (`stranger`). From then on one task drives the socket and all streams
//! (`task`).
//!
//! Does not: know gRPC.

mod account;
mod context;
mod end;
mod followers;
mod heartbeats;
mod inbox;
mod io;
mod keepalive;
mod linger;
mod outgoing;
mod policy;
mod request_body;
mod request_error;
mod response_body;
mod response_head;
mod rest;
mod send_queue;
mod service;
mod settings;
mod shared_reader;
mod slots;
mod stranger;
mod stream;
mod stream_set;
mod sync;
mod task;
mod timer;
mod unread;
mod wake_set;
mod wakes;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::Service;

pub use account::Accounts;
#[cfg(any(test, feature = "testkit"))]
pub use account::{ConnectionHeld, Kind};
pub(crate) use context::HeadersTooLarge;
pub use context::{Accepted, ClientCertificateDer, ConnectionContext, ListenerContext};
pub use end::{ConnectionEnd, Ended};
pub use followers::Followed;
use linger::Lingering;
pub use request_error::RequestError;
pub use response_body::{Follower, Heartbeat, ResponseBody};
pub use send_queue::SendQueue;
pub use service::ConnectionService;
pub use settings::ConnectionSettings;
#[cfg(any(test, feature = "testkit"))]
pub use shared_reader::NotShared;
pub use shared_reader::{SharedPiece, SharedReader};
use stranger::Begin;
pub use stranger::Stranger;
pub(crate) use stranger::{begins_with_proxy, close_after};
use task::{Begun, Connection, Order};

use crate::lifecycle::Drain;
use crate::transport::context::AcceptContext;
use crate::transport::listener::Established;

/// Serves one accepted connection until it ends, over the socket that `establish` gives. That, the first bytes and the peer's SETTINGS
/// have one deadline together, `handshake_timeout`.
///
/// The service of `shared` must always be ready: a limit answers with a status and does not wait. A call that finds it busy is
/// reset with `REFUSED_STREAM`, which clients may retry.
pub fn serve_connection<T, S, B>(
    establish: impl Future<Output = std::io::Result<Established<T>>>,
    accepted: Accepted,
    shared: Arc<AcceptContext<S>>,
) -> impl Future<Output = Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    ServeConnection::Begin {
        begin: Box::pin(begin(establish, accepted, shared)),
    }
}

pin_project! {
    /// The future of one connection. Not an async block: that would hold the connection twice, and connections are many.
    #[project = Stage]
    enum ServeConnection<F, T, S, B>
    where
        S: Service<Request<tonic::body::Body>>,
        B: ResponseBody,
    {
        /// In a box, which is freed with the preface.
        Begin { begin: Pin<Box<F>> },
        Serving {
            connection: Option<Connection<T, S, B>>,
            drain: Drain,
            // The node's next order.
            #[pin]
            ordered: WaitForCancellationFutureOwned,
            was_told: bool,
        },
        Lingering { lingering: Box<Lingering<T>> },
    }
}

impl<F, T, S, B> ServeConnection<F, T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    // Never inlined: a connection on the stack would cost each poll.
    #[inline(never)]
    fn serve(mut self: Pin<&mut Self>, connection: Connection<T, S, B>) {
        let drain = connection.drain().clone();
        let ordered = drain.going_away_owned();
        self.set(Self::Serving {
            connection: Some(connection),
            drain,
            ordered,
            was_told: false,
        });
    }
}

/// A handshake goes on.
// Never inlined: it is polled a few times in the life of a connection, and what serves it would grow too large to be inlined itself.
#[inline(never)]
fn poll_begin<F: Future>(begin: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    begin.poll(cx)
}

/// What follows the end of a connection: the reason, when its peer is to hear no more.
// Never inlined, for the same reason.
#[inline(never)]
fn linger<T, S, B>(
    connection: &mut Option<Connection<T, S, B>>,
    why: ConnectionEnd,
) -> Result<Box<Lingering<T>>, Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    let connection = connection.take().expect("it ends once");
    let context = connection.context();
    let io = connection.end(&why);
    let ended = Ended { why, context };
    match io {
        Some(io) => Ok(Box::new(Lingering::new(io, ended))),
        None => Err(ended),
    }
}

impl<F, T, S, B> Future for ServeConnection<F, T, S, B>
where
    F: Future<Output = Result<Connection<T, S, B>, Ended>>,
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            match self.as_mut().project() {
                Stage::Begin { begin } => match ready!(poll_begin(begin.as_mut(), cx)) {
                    Ok(connection) => self.as_mut().serve(connection),
                    Err(ended) => return Poll::Ready(ended),
                },
                Stage::Serving {
                    connection,
                    drain,
                    mut ordered,
                    was_told,
                } => {
                    let serving = connection.as_mut().expect("it ends once");
                    let end = ready!(serving.poll(cx, |cx| {
                        ready!(ordered.as_mut().poll(cx));
                        if std::mem::replace(was_told, true) {
                            return Poll::Ready(Order::End);
                        }
                        ordered.set(drain.killed());
                        Poll::Ready(Order::GoAway)
                    }));
                    match linger(connection, end) {
                        Ok(lingering) => self.set(Self::Lingering { lingering }),
                        Err(ended) => return Poll::Ready(ended),
                    }
                }
                Stage::Lingering { lingering } => return lingering.poll(cx),
            }
        }
    }
}

/// Until the preface has come.
async fn begin<T, S, B>(
    establish: impl Future<Output = std::io::Result<Established<T>>>,
    mut accepted: Accepted,
    shared: Arc<AcceptContext<S>>,
) -> Result<Connection<T, S, B>, Ended>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    let until = Instant::now() + shared.settings.connection.handshake_timeout;
    let mut context = accepted.context();
    let first = async {
        let mut socket = context.learn(establish.await?);
        let begin = stranger::begin(&mut socket, &shared.openings.handshakes).await?;
        std::io::Result::Ok((socket, begin))
    };
    let first = tokio::select! {
        biased;
        // Nothing was promised to a peer without a request.
        () = shared.drain.going_away() => Err(ConnectionEnd::Closed),
        first = timeout_at(until, first) => match first {
            Ok(first) => first.map_err(ConnectionEnd::from),
            Err(_) => Err(ConnectionEnd::HandshakeTimeout),
        },
    };
    let context = Arc::new(context);
    let why = match first {
        Ok((socket, Begin::Http2(preface))) => {
            let begun = Begun {
                socket,
                context,
                queue: accepted.queue,
                preface,
                until,
            };
            return Ok(Connection::new(begun, shared));
        }
        Ok((socket, Begin::Stranger(stranger, words))) => {
            shared.counts.count_stranger(context.peer, stranger);
            stranger::turn_away(socket, stranger, &words).await;
            ConnectionEnd::Stranger(stranger)
        }
        Ok((_, Begin::Closed)) => ConnectionEnd::Closed,
        Err(why) => why,
    };
    Err(Ended { why, context })
}
