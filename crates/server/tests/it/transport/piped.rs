//! A connection over a pipe in memory; most often one whose answers are chunks by the number, with a view of its
//! inside.

use std::{
    convert::Infallible,
    future::{Future, poll_fn, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::{Body, Frame};
use longlived_server::listener::Established;
use longlived_server::testkit::{
    Drain, StreamAbort, Tasks,
    acceptor::{AcceptContext, AcceptorSettings, ConnectionCounts},
    connection::{
        Accepted, ConnectionEnd, ConnectionService, ConnectionSettings, ListenerContext, NotShared,
        ResponseBody, serve_connection,
    },
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tower::service_fn;

use super::support::{abort_of, spawn, until};

/// A body of `chunks` chunks, each of `bytes` bytes with the number of the chunk.
#[derive(Clone, Copy)]
pub(super) struct Says {
    pub(super) chunks: usize,
    pub(super) bytes: usize,
}

pub(super) const WITHOUT_END: Says = Says {
    chunks: usize::MAX,
    bytes: 1_000,
};

#[derive(Clone, Default)]
pub(super) struct Counts {
    /// Polls of the connection's task.
    pub(super) polls: Arc<AtomicUsize>,
    /// Calls that the service was asked for.
    pub(super) asked: Arc<AtomicUsize>,
    /// Chunks that bodies were asked for.
    pub(super) said: Arc<AtomicUsize>,
    /// Bodies that are there.
    pub(super) live: Arc<AtomicUsize>,
    /// One for each call, in order.
    pub(super) aborts: Arc<Mutex<Vec<StreamAbort>>>,
}

pub(super) fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

struct TestBody {
    says: Says,
    next: usize,
    counts: Counts,
}

impl Drop for TestBody {
    fn drop(&mut self) {
        self.counts.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ResponseBody for TestBody {
    type Reader = NotShared;
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.next == self.says.chunks {
            return Poll::Ready(None);
        }
        let chunk = vec![self.next as u8; self.says.bytes];
        self.next += 1;
        self.counts.said.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}

/// A connection whose first call is answered with `first` and all others with `others`.
pub(super) fn connection(socket_bytes: usize, first: Says, others: Says) -> (DuplexStream, Counts) {
    connection_by(|pipe| pipe, socket_bytes, first, others)
}

/// The same, served by a socket that is made of its end of the pipe.
pub(super) fn connection_by<T>(
    socket: impl FnOnce(DuplexStream) -> T,
    socket_bytes: usize,
    first: Says,
    others: Says,
) -> (DuplexStream, Counts)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let counts = Counts::default();
    let service = {
        let counts = counts.clone();
        let calls = Arc::new(AtomicUsize::new(0));
        service_fn(move |request: Request<tonic::body::Body>| {
            let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
            let counts = counts.clone();
            counts.live.fetch_add(1, Ordering::SeqCst);
            counts.aborts.lock().push(abort_of(&request));
            Box::pin(async move {
                counts.asked.fetch_add(1, Ordering::SeqCst);
                let says = if is_first { first } else { others };
                Ok::<_, Infallible>(Response::new(TestBody {
                    says,
                    next: 0,
                    counts,
                }))
            })
        })
    };
    let (near, far) = tokio::io::duplex(socket_bytes);
    let served = serve(socket(far), ConnectionSettings::default(), service);
    let polls = counts.polls.clone();
    spawn(async move {
        let mut served = Box::pin(served);
        poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::SeqCst);
            served.as_mut().poll(cx)
        })
        .await
    });
    (near, counts)
}

/// The peer's end of a connection whose calls `service` answers, and the task that serves it.
pub(super) fn over_pipe<S, B>(
    socket_bytes: usize,
    settings: ConnectionSettings,
    service: S,
) -> (DuplexStream, impl Future<Output = ConnectionEnd>)
where
    S: ConnectionService<B>,
    B: ResponseBody,
{
    let (near, far) = tokio::io::duplex(socket_bytes);
    (near, serve(far, settings, service))
}

fn serve<T, S, B>(
    socket: T,
    settings: ConnectionSettings,
    service: S,
) -> impl Future<Output = ConnectionEnd>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let accepted = Accepted {
        peer: address.into(),
        listener: Arc::new(ListenerContext::from(address)),
        queue: None,
        place: None,
    };
    let settings = AcceptorSettings {
        connection: Arc::new(settings),
        ..AcceptorSettings::default()
    };
    let counts = ConnectionCounts::default();
    let shared = AcceptContext::new(service, settings, counts, Drain::new(), Tasks::new());
    let established = ready(Ok(Established::new(socket)));
    serve_connection(established, accepted, Arc::new(shared)).map(|ended| ended.why)
}

/// Turns of all tasks that are woken. The pipes are in memory and the tests on one thread, so that each task that can
/// go on does.
pub(super) async fn turns(count: usize) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Returns when a count that has begun to rise rises no more.
pub(super) async fn settled(counter: &AtomicUsize) {
    until("it begins", || count(counter) > 0).await;
    let mut seen = 0;
    while seen != count(counter) {
        seen = count(counter);
        turns(100).await;
    }
}
