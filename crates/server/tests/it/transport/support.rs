//! A node whose service has a path for each need of a test.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use longlived_server::listener::Listener;
use longlived_server::testkit::acceptor::{
    self, AcceptContext, AcceptorSettings, ConnectionCounts,
};
use longlived_server::testkit::connection::{
    Accounts, ConnectionContext, ConnectionService, NotShared, ResponseBody,
};
use longlived_server::testkit::{AbortOnDrop, CallRecord, Drain, Layers, StreamAbort, Tasks, bind};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tower::{Layer, Service};

pub(super) use longlived_testkit::{
    raw::{Client, Reply, Windows, request},
    wait::{pass, spawn, until_so as until, within},
};

/// The handle by which its transport ends the stream of a call.
pub(super) fn abort_of<B>(request: &Request<B>) -> StreamAbort {
    let abort = request.extensions().get::<StreamAbort>().cloned();
    abort.expect("the transport puts it there")
}

/// A node on a free port.
pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) drain: Drain,
    pub(super) tasks: Tasks,
    pub(super) counts: ConnectionCounts,
    pub(super) accounts: Accounts,
    pub(super) calls: Arc<Calls>,
    _abort: AbortOnDrop,
}

/// The state of the service.
#[derive(Default)]
pub(super) struct Calls {
    /// Calls and bodies that are not dropped.
    pub(super) live: AtomicUsize,
    /// One for each call, in order.
    pub(super) aborts: Mutex<Vec<StreamAbort>>,
    /// The connection of each call, in order.
    pub(super) connections: Mutex<Vec<Arc<ConnectionContext>>>,
    /// The source of the bodies of `/test/feed`.
    pub(super) feeds: Mutex<Vec<mpsc::Sender<Bytes>>>,
    /// Lets a call of `/test/slow` go on.
    pub(super) go_on: Notify,
}

impl Calls {
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

struct Live(Arc<Calls>);

impl Live {
    fn new(calls: &Arc<Calls>) -> Self {
        calls.live.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(calls))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn node() -> Node {
    node_with(AcceptorSettings::default())
}

pub(super) fn node_with(settings: AcceptorSettings) -> Node {
    let (address, listener) = listener();
    node_over(address, listener, settings)
}

/// A node whose connections come from a listener of the test's own.
pub(super) fn node_over(
    address: SocketAddr,
    listener: impl Listener,
    settings: AcceptorSettings,
) -> Node {
    let (drain, tasks, counts) = (Drain::new(), Tasks::new(), ConnectionCounts::default());
    let calls = Arc::new(Calls::default());
    let layers = Layers::new(|| 0x1d, drain.clone(), || Duration::from_millis(1234));
    let service = layers.layer(TestService {
        calls: Arc::clone(&calls),
    });
    let shared = AcceptContext::new(
        service,
        settings,
        counts.clone(),
        drain.clone(),
        tasks.clone(),
    );
    let accounts = shared.accounts();
    tasks.spawn(
        "acceptor",
        acceptor::accept(listener, address.into(), shared),
    );
    let abort = tasks.abort_on_drop();
    Node {
        address,
        drain,
        tasks,
        counts,
        accounts,
        calls,
        _abort: abort,
    }
}

/// A node with a service of the test's own, until the guard is dropped.
pub(super) fn node_of<S, B>(service: S, drain: Drain) -> (SocketAddr, AbortOnDrop)
where
    S: ConnectionService<B> + Send + Sync + 'static,
    S::Future: Send,
    B: ResponseBody + Send + 'static,
{
    let tasks = Tasks::new();
    let (address, listener) = listener();
    let (settings, counts) = (AcceptorSettings::default(), ConnectionCounts::default());
    let shared = AcceptContext::new(service, settings, counts, drain, tasks.clone());
    tasks.spawn(
        "acceptor",
        acceptor::accept(listener, address.into(), shared),
    );
    (address, tasks.abort_on_drop())
}

fn listener() -> (SocketAddr, TcpListener) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = listener
        .local_addr()
        .expect("a bound socket has an address");
    let listener = TcpListener::from_std(listener).expect("within a runtime");
    (address, listener)
}

#[derive(Clone)]
struct TestService {
    calls: Arc<Calls>,
}

impl Service<Request<tonic::body::Body>> for TestService {
    type Response = Response<TestBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let live = Live::new(&self.calls);
        self.calls.aborts.lock().push(abort_of(&request));
        let connection = request.extensions().get().cloned();
        let connection = connection.expect("the transport puts it there");
        self.calls.connections.lock().push(connection);
        let calls = Arc::clone(&self.calls);
        Box::pin(async move {
            let record = request
                .extensions()
                .get::<Arc<CallRecord>>()
                .cloned()
                .expect("the log layer puts it there");
            record.set_subscriber("sub-1");
            let (head, body) = request.into_parts();
            let does = match head.uri.path() {
                "/test/echo" => {
                    record.add_events(1);
                    match body.collect().await {
                        Ok(body) => Does::Chunk(body.to_bytes()),
                        Err(status) if status.message().contains("connection_bytes_max") => {
                            Does::Status("8")
                        }
                        Err(status) => panic!("the request arrives: {status}"),
                    }
                }
                "/test/endless" => Does::Endless { next: 0 },
                "/test/sizes" => Does::Sizes {
                    left: 3_000,
                    seed: 1,
                },
                "/test/quiet" => {
                    record.set_streaming();
                    Does::Quiet
                }
                "/test/feed" => {
                    let (sender, fed) = mpsc::channel(4);
                    calls.feeds.lock().push(sender);
                    Does::Feed(fed)
                }
                "/test/never" => std::future::pending().await,
                "/test/slow" => {
                    calls.go_on.notified().await;
                    Does::Chunk(Bytes::from_static(b"late"))
                }
                "/test/refused" => Does::Status("8"),
                "/test/fails" => Does::Fail,
                _ => Does::Status("12"),
            };
            let mut response = Response::new(TestBody { does, live });
            response.headers_mut().insert(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/grpc"),
            );
            Ok(response)
        })
    }
}

/// The next step of a body.
enum Does {
    Chunk(Bytes),
    Status(&'static str),
    /// Chunks of 16 KiB, as fast as they are taken.
    Endless {
        next: u8,
    },
    /// Chunks of all sizes whose bytes count on.
    Sizes {
        left: u32,
        seed: u64,
    },
    Quiet,
    /// The chunks of the test, until it stops.
    Feed(mpsc::Receiver<Bytes>),
    Fail,
    Nothing,
}

struct TestBody {
    does: Does,
    #[expect(dead_code, reason = "counts until it is dropped")]
    live: Live,
}

impl Default for TestBody {
    fn default() -> Self {
        Self {
            does: Does::Nothing,
            live: Live::new(&Arc::default()),
        }
    }
}

impl ResponseBody for TestBody {
    type Reader = NotShared;
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match std::mem::replace(&mut self.does, Does::Nothing) {
            Does::Chunk(bytes) => {
                self.does = Does::Status("0");
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Does::Status(code) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static(code));
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Does::Endless { next } => {
                self.does = Does::Endless {
                    next: next.wrapping_add(1),
                };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![next; 16 * 1024])))))
            }
            Does::Sizes { left: 0, .. } => {
                self.does = Does::Status("0");
                self.poll_frame(cx)
            }
            Does::Sizes { left, seed } => {
                let seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Mostly small, some beyond the staging buffer.
                let bits = 1 + (seed >> 40) % 17;
                let length = 1 + ((seed >> 33) % (1 << bits)) as usize;
                self.does = Does::Sizes {
                    left: left - 1,
                    seed,
                };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![left as u8; length])))))
            }
            Does::Quiet => {
                self.does = Does::Quiet;
                Poll::Pending
            }
            Does::Feed(mut fed) => {
                let polled = fed.poll_recv(cx);
                self.does = if let Poll::Ready(None) = polled {
                    Does::Status("0")
                } else {
                    Does::Feed(fed)
                };
                match polled {
                    Poll::Ready(None) => self.poll_frame(cx),
                    polled => polled.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
                }
            }
            Does::Fail => Poll::Ready(Some(Err(std::io::Error::other("on purpose")))),
            Does::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.does, Does::Nothing)
    }
}
