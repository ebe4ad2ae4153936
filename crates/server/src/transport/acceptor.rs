//! Takes connections from the listener, as fast as they come.
//!
//! Holds: nothing here waits for a connection. A lack of open files or too many connections costs a pause or a closed
//! socket, never a spinning core or the listener.
//! Does not: read a byte; each connection is a task of its own.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::connection::{
    Accepted, ConnectionEnd, ConnectionService, Ended, ListenerContext, ResponseBody,
    serve_connection,
};
pub use super::connection_counts::ConnectionCounts;
pub use super::context::AcceptContext;
use super::listener::Listener;
pub use super::settings::AcceptorSettings;
use crate::limits;
use crate::throttle::Seldom;

/// Accepts the connections of the listener known as `context` until the node goes away (`Drain::go_away`). Each
/// connection becomes a task, which makes its raw socket usable and serves it by a clone of the service.
pub async fn accept<L, S, B>(mut listener: L, context: ListenerContext, shared: AcceptContext<S>)
where
    L: Listener,
    S: ConnectionService<B> + Send + Sync + 'static,
    S::Future: Send,
    B: ResponseBody + Send + 'static,
{
    let shared = Arc::new(shared);
    let context = Arc::new(context);
    let AcceptContext {
        settings,
        counts,
        openings,
        drain,
        tasks,
        ..
    } = &*shared;
    let mut failures = Seldom::new(limits::ACCEPT_LOG_INTERVAL);
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.going_away() => return,
            accepted = listener.accept() => accepted,
        };
        let (raw, peer) = match accepted {
            Ok(accepted) => accepted,
            // That one connection was gone before we took it.
            Err(error) if is_of_the_connection(&error) => continue,
            Err(error) => {
                if let Some(unlogged) = failures.now() {
                    tracing::warn!(listener = %context, %error, unlogged, "cannot accept connections");
                }
                sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match listener
            .client(peer)
            .map(|from| openings.addresses.enter(from))
        {
            None => None,
            Some(Ok(place)) => place,
            Some(Err(refusal)) => {
                counts.count_address_refused(peer, refusal);
                continue;
            }
        };
        let Some(open) = counts.count_open(peer, settings.connections_max()) else {
            continue;
        };
        if let Err(error) = L::prepare(&raw, settings) {
            // The peer is gone already; serving it finds that out.
            tracing::debug!(%peer, %error, "socket options not set");
        }
        let accepted = Accepted {
            peer,
            listener: Arc::clone(&context),
            queue: L::queue(&raw),
            place,
        };
        let established = listener.establish(raw, peer);
        // Not an async block: that would hold the future of the connection twice.
        let served = serve_connection(established, accepted, Arc::clone(&shared));
        let ended = move |ended: Ended| {
            if let ConnectionEnd::Protocol(error) = &ended.why {
                open.count_cut(ended.context.peer, error);
            }
            drop(open);
            log_end(&ended);
        };
        tasks.spawn("connection", served.map(ended));
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

fn log_end(Ended { why, context }: &Ended) {
    let proxy = context.proxy.as_deref().map(tracing::field::display);
    let (peer, listener) = (context.peer, &context.listener);
    tracing::debug!(target: "longlived::connection", %peer, proxy, %listener, reason = %why, "connection ended");
}
