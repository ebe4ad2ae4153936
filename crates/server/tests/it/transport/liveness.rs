//! Peers that never speak, speak something else, or fall silent.

use std::convert::Infallible;
use std::future::{Pending, pending};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::{ConnectionEnd, ConnectionSettings};
use longlived_testkit::frames::{ACK, FRAME_HEADER_BYTES, PING, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower::service_fn;

use super::piped::over_pipe;
use super::support::{Client, Node, Windows, node, node_with, spawn, until, within};

/// The preface and an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn with_connections(settings: ConnectionSettings) -> Node {
    node_with(AcceptorSettings {
        connection: Arc::new(settings),
        ..AcceptorSettings::default()
    })
}

fn quick_keepalive() -> ConnectionSettings {
    ConnectionSettings {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(200),
        // A stream's window within a tenth of a second.
        keepalive_slowest_reader: 1 << 20,
        ..ConnectionSettings::default()
    }
}

fn with_keepalive() -> Node {
    with_connections(quick_keepalive())
}

async fn read_to_end(socket: &mut TcpStream) {
    let mut bytes = Vec::new();
    // The end may be a reset: bytes of ours can still have been on their way.
    let _ = within("a step", socket.read_to_end(&mut bytes)).await;
}

#[tokio::test]
async fn bytes_that_are_not_http2_end_their_connection_only() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"[..],
        &[0xff; 4096],
        &[0; 1],
    ] {
        let mut socket = TcpStream::connect(node.address).await.expect("it listens");
        socket
            .write_all(garbage)
            .await
            .expect("the kernel takes it");
        socket.shutdown().await.expect("half closed");
        read_to_end(&mut socket).await;
    }
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    socket.write_all(HELLO).await.expect("the kernel takes it");
    socket
        .write_all(&[0xff; 1024])
        .await
        .expect("the kernel takes it");
    read_to_end(&mut socket).await;
    until("only the client is left", || node.counts.open() == 1).await;
    assert_eq!(
        client.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
}

#[tokio::test]
async fn a_connection_without_a_preface_is_closed_at_its_deadline() {
    let node = with_connections(ConnectionSettings {
        handshake_timeout: Duration::from_millis(200),
        ..ConnectionSettings::default()
    });
    let mut silent = TcpStream::connect(node.address).await.expect("it listens");
    let mut halfway = TcpStream::connect(node.address).await.expect("it listens");
    halfway
        .write_all(&HELLO[..10])
        .await
        .expect("the kernel takes it");
    read_to_end(&mut silent).await;
    read_to_end(&mut halfway).await;
    until("both have ended", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn a_peer_that_stops_answering_is_closed() {
    let node = with_keepalive();
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    // It says hello and never answers a ping.
    socket.write_all(HELLO).await.expect("the kernel takes it");
    until("it is connected", || node.counts.open() == 1).await;
    until("it is closed", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn a_peer_that_neither_reads_nor_answers_is_closed_with_its_streams() {
    let node = with_keepalive();
    let socket = TcpStream::connect(node.address).await.expect("it listens");
    let mut client = Client::over(socket, Windows::default()).await;
    let mut reply = client.ask("/test/endless").await;
    reply.chunk().await.expect("endless").expect("no error");
    // Its task is stopped, its socket stays open.
    client.freeze();
    until("it is closed", || node.counts.open() == 0).await;
    assert_eq!(node.calls.live(), 0);
}

/// A connection over a pipe, whose calls nobody answers.
fn piped() -> (DuplexStream, JoinHandle<ConnectionEnd>) {
    type Never = Pending<Result<Response<tonic::body::Body>, Infallible>>;
    let service = service_fn(|_: Request<tonic::body::Body>| -> Never { pending() });
    let (near, served) = over_pipe(64 << 10, quick_keepalive(), service);
    (near, spawn(served))
}

#[tokio::test(start_paused = true)]
async fn a_quiet_peer_that_answers_stays() {
    let (near, served) = piped();
    let mut client = Client::over(near, Windows::default()).await;
    let _quiet = client.begin("/test/quiet", &[]).await;
    // It is asked every 200 ms.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!served.is_finished());
}

/// Waits for a PING; its payload.
async fn ping(socket: &mut DuplexStream) -> Vec<u8> {
    loop {
        let mut head = [0; FRAME_HEADER_BYTES];
        let read = within("a frame", socket.read_exact(&mut head)).await;
        read.expect("the connection stands");
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        let read = within("its payload", socket.read_exact(&mut payload)).await;
        read.expect("the connection stands");
        if kind == PING && flags & ACK == 0 {
            return payload;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_busy_server_has_not_read_yet_is_no_silence() {
    let (mut near, _served) = piped();
    near.write_all(HELLO).await.expect("the pipe has room");
    for _ in 0..3 {
        let asked = ping(&mut near).await;
        let answer = frame(PING, ACK, 0, &asked);
        near.write_all(&answer).await.expect("the pipe has room");
        // The server runs on this thread too: it reads nothing until long after the time for the answer.
        tokio::time::advance(Duration::from_millis(600)).await;
    }
    ping(&mut near).await;
}

#[tokio::test]
async fn a_peer_that_gives_more_than_the_largest_window_is_told_so() {
    const GOAWAY: u8 = 7;
    const FLOW_CONTROL_ERROR: u8 = 3;
    let node = node();
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    socket.write_all(HELLO).await.expect("the kernel takes it");
    // In pieces, as a network may cut it.
    for piece in [&b"\0\0\x04\x08\0\0\0"[..], b"\0\0\x7f\xff", b"\xff\xff"] {
        socket.write_all(piece).await.expect("the kernel takes it");
        tokio::task::yield_now().await;
    }
    let mut bytes = Vec::new();
    let _ = within("a step", socket.read_to_end(&mut bytes)).await;
    let mut frames = &bytes[..];
    let mut said = None;
    while let [0, 0, length, kind, rest @ ..] = frames {
        let (_, payload) = rest.split_at(5);
        if *kind == GOAWAY {
            said = Some(payload[7]);
        }
        frames = &payload[usize::from(*length)..];
    }
    assert_eq!(said, Some(FLOW_CONTROL_ERROR));
}
