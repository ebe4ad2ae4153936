//! Subscriptions over HTTP/1.1, which hyper drives: what ends the stream of a reader that takes nothing ends it there too.

use http::StatusCode;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use longlived_api::v1::SlowPolicy;
use longlived_testkit::{grpc::framed, wait::spawn};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{contract::CloseReason, limits, transport::abort::StreamAbort};

/// What lies between both ends, and the least that hyper collects for one write.
const SOCKET_BYTES: usize = 8 << 10;

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// With the response.
    Served,
    /// By the abort of its stream.
    Aborted,
}

/// One exchange on a connection of its own, as a door of HTTP/1.1 serves it.
async fn serve(service: Layered<Known>, socket: DuplexStream) -> End {
    let aborted = CancellationToken::new();
    let abort = StreamAbort::of(Arc::new(aborted.clone()));
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(abort.clone());
        service.clone().call(request)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(SOCKET_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    tokio::select! {
        biased;
        served = connection => {
            served.expect("the peer is there");
            End::Served
        }
        () = aborted.cancelled() => End::Aborted,
    }
}

/// A subscriber on such a connection, which has its Welcome and takes nothing from then on.
struct Reader {
    socket: DuplexStream,
    end: JoinHandle<End>,
    begun: Instant,
}

impl Reader {
    async fn open(door: &Door, asked: &v1::SubscribeRequest, headers: &str) -> Self {
        let (mut socket, far) = tokio::io::duplex(SOCKET_BYTES);
        let begun = Instant::now();
        let end = spawn(serve(door.0.clone(), far));
        let body = framed(&asked.encode_to_vec());
        let head = format!(
            "POST /longlived.v1.SubscriptionService/Subscribe HTTP/1.1\r\nhost: test\r\n\
             content-type: application/grpc\r\nte: trailers\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let asked = [head.as_bytes(), &body].concat();
        socket.write_all(&asked).await.expect("it is read");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the head", socket.read_u8()).await.expect("a byte"));
        }
        let head = String::from_utf8(head).expect("text");
        let status = format!("HTTP/1.1 {}", StatusCode::OK);
        assert!(head.starts_with(&status), "{head}");
        Self { socket, end, begun }
    }

    /// What is left of the response, to its end or to that of the connection.
    async fn read_all(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = within("the end", self.socket.read_to_end(&mut rest)).await;
        read.expect("no error");
        rest
    }

    /// Returns when the stream was ended although its reader takes nothing: how long after its begin.
    async fn aborted(mut self) -> Duration {
        let end = within("the end", &mut self.end).await.expect("no panic");
        let after = self.begun.elapsed();
        assert_eq!(end, End::Aborted);
        let rest = self.read_all().await;
        assert!(!rest.ends_with(b"\r\n\r\n"), "it was cut off");
        after
    }
}

/// Of the topic that is flooded.
fn news(slow_policy: SlowPolicy) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        slow_policy: slow_policy.into(),
        ..request("s", &["news"])
    }
}

/// More than the connection takes of a reader that takes nothing.
async fn flood(door: &Door) {
    let payload = "x".repeat(SOCKET_BYTES);
    for _ in 0..20 {
        door.publish(message("news", &payload)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_that_asked_for_it_is_ended() {
    let world = World::new().await;
    let door = world.door(None);
    let reader = Reader::open(&door, &news(SlowPolicy::Disconnect), "").await;
    flood(&door).await;
    let after = reader.aborted().await;
    assert!(after < world.node.config.stall_timeout * 2, "{after:?}");
    assert_eq!(world.node.registry.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_ended_after_its_deadline() {
    let world = World::new().await;
    let door = world.door(None);
    let reader = Reader::open(&door, &news(SlowPolicy::Park), "grpc-timeout: 5S\r\n").await;
    flood(&door).await;
    let after = reader.aborted().await;
    let late = Duration::from_secs(5) + limits::STALLED_DEADLINE_GRACE;
    assert!(after >= late, "{after:?}");
    assert_eq!(world.node.registry.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_ended_by_a_drain() {
    let world = World::new().await;
    let door = world.door(None);
    let reader = Reader::open(&door, &news(SlowPolicy::Park), "").await;
    flood(&door).await;
    world.node.drain.begin();
    world.node.registry.close_all(|| world.node.drain_reason());
    reader.aborted().await;
    within("it has left", world.node.registry.emptied()).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_is_told_and_not_aborted() {
    let world = World::new().await;
    let door = world.door(None);
    let mut timed = Reader::open(&door, &news(SlowPolicy::Park), "grpc-timeout: 5S\r\n").await;
    let mut closed = Reader::open(&door, &request("other", &["news"]), "").await;
    flood(&door).await;
    let key = world.node.callers.unknown().subscriber(&"other".into());
    for session in world.node.registry.sessions_of(&key) {
        session.close(CloseReason::Unsubscribed);
    }
    let (of_timed, of_closed) = tokio::join!(timed.read_all(), closed.read_all());
    assert_eq!(timed.begun.elapsed().as_secs(), 5);
    for (rest, reader) in [(of_timed, timed), (of_closed, closed)] {
        assert!(rest.ends_with(b"\r\n\r\n"), "it is whole");
        let end = within("the end", reader.end).await;
        assert_eq!(end.expect("no panic"), End::Served);
    }
}
