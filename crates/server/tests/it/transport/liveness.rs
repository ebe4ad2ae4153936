//! Peers that never speak, speak something else, or fall silent.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Client, Node, Room, node, node_with, until, within};

/// The preface and an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn with_connections(settings: ConnectionSettings) -> Node {
    node_with(AcceptorSettings {
        connection: Arc::new(settings),
        ..AcceptorSettings::default()
    })
}

fn with_keepalive() -> Node {
    with_connections(ConnectionSettings {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(200),
        // A stream's window within a tenth of a second.
        keepalive_slowest_reader: 1 << 20,
        ..ConnectionSettings::default()
    })
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
    let mut client = Client::over(socket, Room::default()).await;
    let mut reply = client.ask("/test/endless").await;
    reply.chunk().await.expect("endless").expect("no error");
    // Its task is stopped, its socket stays open.
    client.freeze();
    until("it is closed", || node.counts.open() == 0).await;
    assert_eq!(node.calls.live(), 0);
}

#[tokio::test]
async fn a_quiet_peer_that_answers_stays() {
    let node = with_keepalive();
    let mut client = Client::connect(node.address).await;
    let _quiet = client.ask("/test/quiet").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!((node.counts.open(), node.calls.live()), (1, 1));
    assert_eq!(
        client.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
}

/// Speaks HTTP/2 as far as to answer each PING after `delay`, on a thread of its own. Counts what it was asked.
fn answers_pings(address: std::net::SocketAddr, delay: Duration) -> Arc<AtomicUsize> {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect(address).expect("it listens");
        socket.write_all(HELLO).expect("the kernel takes it");
        let mut header = [0; 9];
        while socket.read_exact(&mut header).is_ok() {
            let [a, b, c, kind, flags, ..] = header;
            let mut body = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            if socket.read_exact(&mut body).is_err() {
                return;
            }
            if kind == PING && flags & ACK == 0 {
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(delay);
                header[4] = ACK;
                let answer = [&header[..], &body].concat();
                if socket.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    });
    asked
}

#[tokio::test]
async fn an_answer_that_a_busy_server_has_not_read_yet_is_no_silence() {
    let node = with_keepalive();
    let asked = answers_pings(node.address, Duration::from_millis(50));
    for number in 1..=3 {
        until("the peer is asked", || {
            asked.load(Ordering::Relaxed) == number
        })
        .await;
        // The server has this thread too: it reads nothing until long after the answer was due.
        std::thread::sleep(Duration::from_millis(600));
    }
    assert_eq!(node.counts.open(), 1);
}

#[tokio::test]
async fn a_peer_that_gives_more_room_than_a_window_may_be_is_told_so() {
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
