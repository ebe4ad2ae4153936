//! Takes connections from the listener, as fast as they come.
//!
//! Holds: nothing here waits for a connection; a lack of open files or too many connections costs a pause or a
//! closed socket, never a spinning core or the listener.
//! Does not: read a byte; each connection is a task of its own.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use tokio::time::sleep;
use tower::Service;

pub use super::bind::{BindError, bind};
use super::connection::{Accepted, ConnectionEnd, HalfSentTotal, ResponseBody, serve_connection};
pub use super::connection_counts::ConnectionCounts;
use super::listener::Listener;
pub use super::settings::AcceptorSettings;
use crate::lifecycle::Drain;
use crate::limits;
use crate::tasks::Tasks;
use crate::throttle::Seldom;

/// Accepts until the node goes away (`Drain::go_away`); each connection becomes a task of `tasks`, served by a
/// clone of `service`.
pub async fn accept<L, S, B>(
    mut listener: L,
    service: S,
    settings: AcceptorSettings,
    counts: ConnectionCounts,
    drain: Drain,
    tasks: Tasks,
) where
    L: Listener,
    S: Service<Request<tonic::body::Body>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + Unpin,
    B: ResponseBody + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let half_sent = HalfSentTotal::new(settings.half_sent_bytes_max_total);
    let mut refusals = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    let mut failures = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.going_away() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            // That one connection was gone before we took it.
            Err(error) if is_of_the_connection(&error) => continue,
            Err(error) => {
                if let Some(unlogged) = failures.now() {
                    tracing::warn!(%error, unlogged, "cannot accept connections");
                }
                sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connections_max = settings.connections_max();
        if counts.open() >= connections_max {
            counts.count_refused();
            if let Some(unlogged) = refusals.now() {
                tracing::warn!(
                    %peer, connections_max, unlogged,
                    "connection closed: connections_max is reached"
                );
            }
            continue;
        }
        let open = counts.count_open();
        if let Err(error) = L::prepare(&socket, &settings) {
            // The peer is gone already; serving it finds that out.
            tracing::debug!(%peer, %error, "socket options not set");
        }
        let accepted = Accepted {
            peer,
            queue: L::queue(&socket, peer),
            counts: counts.clone(),
        };
        let (service, connection, half_sent, drain) = (
            service.clone(),
            Arc::clone(&settings.connection),
            half_sent.clone(),
            drain.clone(),
        );
        tasks.spawn("connection", async move {
            // Made in here: handed in, it would be held twice.
            let end =
                serve_connection(socket, accepted, service, connection, half_sent, drain).await;
            drop(open);
            log_end(peer, &end);
        });
    }
}

/// Errors of `accept` that are about the one connection, as opposed to us.
pub(crate) fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

fn log_end(peer: SocketAddr, end: &ConnectionEnd) {
    tracing::debug!(target: "longlived::connection", %peer, reason = %end, "connection ended");
}
