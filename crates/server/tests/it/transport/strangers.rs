//! Peers of another protocol than HTTP/2: one plain answer to those that can read it, a count of each kind, and no
//! frame of HTTP/2.

use longlived_server::testkit::connection::Stranger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Client, Node, node, until, within};

fn count(node: &Node, stranger: Stranger) -> u64 {
    let mut counts = node.counts.strangers();
    let of = counts.find_map(|(one, count)| (one == stranger).then_some(count));
    of.expect("every kind is counted")
}

/// The answer to a peer that begins so, until the connection is closed.
async fn told(node: &Node, begin: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    socket.write_all(begin).await.expect("the kernel takes it");
    let mut said = Vec::new();
    let read = within("a step", socket.read_to_end(&mut said)).await;
    read.expect("it is closed, and not reset");
    said
}

#[tokio::test]
async fn http1_is_answered_in_its_own_words() {
    let node = node();
    for (number, request) in [
        "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
        "POST /longlived.v1.PublishService/Publish HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello",
        "PRIVATE / HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let said = told(&node, request.as_bytes()).await;
        let said = String::from_utf8(said).expect("text");
        let (head, body) = said.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 400 "), "{said}");
        assert!(head.contains("connection: close"), "{said}");
        assert_eq!(
            body.contains("this is gRPC over HTTP/2"),
            !request.starts_with("HEAD"),
            "{said}"
        );
        assert_eq!(count(&node, Stranger::Http1), number as u64 + 1);
    }
}

#[tokio::test]
async fn an_http1_request_is_told_from_http2_wherever_it_is_cut() {
    let node = node();
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    for piece in ["P", "R", "OPFIND / HTTP/1.1\r\n\r\n"] {
        // It may be that several come together, which is the other case.
        socket
            .write_all(piece.as_bytes())
            .await
            .expect("the kernel takes it");
        tokio::task::yield_now().await;
    }
    let mut said = Vec::new();
    let read = within("a step", socket.read_to_end(&mut said)).await;
    read.expect("it is closed, and not reset");
    assert!(!said.starts_with(b"\0"), "no frame");
}

#[tokio::test]
async fn others_are_closed_without_a_word_and_counted_by_protocol() {
    let node = node();
    for (begin, stranger) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            Stranger::Tls,
        ),
        (
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            Stranger::ProxyProtocol,
        ),
        (b"\xff\xff\xff\xff", Stranger::Other),
        (b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", Stranger::Http1),
    ] {
        let before = count(&node, stranger);
        let said = told(&node, begin).await;
        assert_eq!(said.is_empty(), stranger != Stranger::Http1, "{said:?}");
        assert_eq!(count(&node, stranger), before + 1, "{stranger:?}");
    }
    // A peer that sends nothing at all is a health check of a balancer, and no stranger.
    let before: u64 = node.counts.strangers().map(|(_, count)| count).sum();
    drop(TcpStream::connect(node.address).await.expect("it listens"));
    let mut client = Client::connect(node.address).await;
    let refused = client.ask("/test/refused").await;
    assert_eq!(refused.header("grpc-status"), Some("8"));
    let after: u64 = node.counts.strangers().map(|(_, count)| count).sum();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_stranger_that_goes_on_talking_is_not_listened_to_for_long() {
    let node = node();
    let mut socket = TcpStream::connect(node.address).await.expect("it listens");
    socket
        .write_all(b"GET / HTTP/1.1\r\n")
        .await
        .expect("the kernel takes it");
    let talk = async { while socket.write_all(&[b'x'; 1024]).await.is_ok() {} };
    within("a step", talk).await;
    until("it is gone", || node.counts.open() == 0).await;
}
