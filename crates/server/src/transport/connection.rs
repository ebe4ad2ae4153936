//! One HTTP/2 connection, from the accepted socket to its end.
//!
//! The first bytes say whether the peer speaks HTTP/2 at all (`stranger`). From then on one task drives the socket and all streams
//! (`task`).
//!
//! Does not: know gRPC.

mod context;
mod end;
mod followers;
mod half_sent;
mod heartbeats;
mod inbox;
mod io;
mod keepalive;
mod policy;
mod request_body;
mod response_body;
mod response_head;
mod send_queue;
mod settings;
mod shared_reader;
mod stranger;
mod stream;
mod stream_set;
mod sync;
mod task;
mod unread;
mod wake_set;
mod wakes;
mod wire;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tower::Service;

pub(crate) use context::HeadersTooLarge;
pub use context::{Accepted, ConnectionContext};
pub use end::ConnectionEnd;
pub use followers::Followed;
use half_sent::HalfSent;
pub use half_sent::{HalfSentTotal, RequestError};
pub use response_body::{Follower, Heartbeat, ResponseBody};
pub use send_queue::SendQueue;
pub use settings::ConnectionSettings;
#[cfg(any(test, feature = "testkit"))]
pub use shared_reader::NotShared;
pub use shared_reader::{SharedPiece, SharedReader};
use stranger::Begin;
pub use stranger::Stranger;
use task::{Begun, Connection};

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
    let half_sent = HalfSent::new(settings, shared.half_sent);
    let begun = Begun {
        socket,
        preface,
        config: shared.http2,
        until,
    };
    let (service, counts) = (shared.service, shared.counts);
    Connection::new(begun, service, accepted, counts, settings, half_sent)
        .run(drain)
        .await
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
