//! A raw socket becomes a usable one in the task of its connection, as with TLS.

use std::future::{Future, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longlived_server::listener::{Established, Listener, Peer};
use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::support::{Client, Node, Windows, node_over, spawn, until, within};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// A pipe that is usable once the test says so.
struct Raw {
    pipe: DuplexStream,
    usable: oneshot::Receiver<()>,
}

struct Pipes(mpsc::Receiver<Raw>);

impl Listener for Pipes {
    type Raw = Raw;
    type Socket = DuplexStream;

    async fn accept(&mut self) -> io::Result<(Raw, Peer)> {
        match self.0.recv().await {
            Some(raw) => Ok((raw, ADDRESS.into())),
            None => pending().await,
        }
    }

    fn establish(
        &self,
        raw: Raw,
        _: Peer,
    ) -> impl Future<Output = io::Result<Established<DuplexStream>>> + Send + use<> {
        async move {
            raw.usable.await.map_err(io::Error::other)?;
            Ok(Established::new(raw.pipe))
        }
    }
}

/// Pipes whose far end is a proxy, which names its client and hands on the client's certificate.
struct Proxy(mpsc::Receiver<DuplexStream>);

const CLIENT: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
    9,
);

impl Listener for Proxy {
    type Raw = DuplexStream;
    type Socket = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
        match self.0.recv().await {
            Some(pipe) => Ok((pipe, ADDRESS.into())),
            None => pending().await,
        }
    }

    fn establish(
        &self,
        raw: DuplexStream,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<DuplexStream>>> + Send + use<> {
        assert_eq!(peer.tcp(), Some(ADDRESS));
        let established = Established::new(raw).named_by_proxy(CLIENT);
        ready(Ok(established.with_certificate(b"DER")))
    }
}

/// A node, and the source of its connections.
fn node() -> (Node, mpsc::Sender<Raw>) {
    let (connect, incoming) = mpsc::channel(1);
    let settings = AcceptorSettings::default();
    (node_over(ADDRESS, Pipes(incoming), settings), connect)
}

/// A connection that is not usable yet: the peer's end, and the handle that makes it usable.
async fn connect(to: &mpsc::Sender<Raw>) -> (DuplexStream, oneshot::Sender<()>) {
    let (near, pipe) = tokio::io::duplex(64 << 10);
    let (make_usable, usable) = oneshot::channel();
    let sent = to.send(Raw { pipe, usable }).await;
    assert!(sent.is_ok(), "the node accepts");
    (near, make_usable)
}

#[tokio::test]
async fn a_connection_that_is_not_usable_yet_holds_up_no_other() {
    let (node, to) = node();
    let (slow, make_usable) = connect(&to).await;
    let slow = spawn(async move {
        let mut client = Client::over(slow, Windows::default()).await;
        client.ask("/test/quiet").await
    });
    until("it is accepted", || node.counts.open() == 1).await;
    let (other, usable_at_once) = connect(&to).await;
    usable_at_once.send(()).expect("it is waited for");
    let mut other = Client::over(other, Windows::default()).await;
    let answer = within("an answer", other.ask("/test/quiet")).await;
    assert_eq!((node.counts.open(), node.calls.live()), (2, 1));

    make_usable.send(()).expect("it is waited for");
    let late = within("an answer", slow).await.expect("it is served");
    assert_eq!((node.counts.open(), node.calls.live()), (2, 2));
    drop((answer, other, late));
    until("both have ended", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn what_a_handshake_tells_of_the_peer_is_known_to_each_call() {
    let (connect, incoming) = mpsc::channel(1);
    let node = node_over(ADDRESS, Proxy(incoming), AcceptorSettings::default());
    let (near, pipe) = tokio::io::duplex(64 << 10);
    assert!(connect.send(pipe).await.is_ok(), "the node accepts");
    let mut client = Client::over(near, Windows::default()).await;
    for _ in 0..2 {
        within("an answer", client.ask("/test/quiet")).await;
    }
    let connections = node.calls.connections.lock();
    let [first, second] = connections.as_slice() else {
        panic!("two calls: {connections:?}");
    };
    assert!(Arc::ptr_eq(first, second));
    assert_eq!(
        (first.peer, first.proxy.as_deref()),
        (CLIENT.into(), Some(&ADDRESS))
    );
    let certificate = first.certificate.as_ref().map(|it| it.as_bytes());
    assert_eq!(certificate, Some(&b"DER"[..]));
    assert_eq!(first.listener.address, ADDRESS.into());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_is_usable_is_closed_at_the_deadline() {
    let (node, to) = node();
    let began = Instant::now();
    let (mut near, _never) = connect(&to).await;
    let read = near.read(&mut [0; 1]).await;
    assert_eq!(read.expect("it is closed"), 0);
    assert_eq!(began.elapsed(), handshake_timeout());
    until("it is not counted", || node.counts.open() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_have_the_rest_of_the_deadline() {
    let (node, to) = node();
    let began = Instant::now();
    let (mut near, make_usable) = connect(&to).await;
    tokio::time::sleep(handshake_timeout() * 9 / 10).await;
    make_usable.send(()).expect("it is waited for");
    near.write_all(b"PRI * HTTP/2.0")
        .await
        .expect("there is room");
    let read = near.read(&mut [0; 1]).await;
    assert_eq!(read.expect("it is closed"), 0);
    assert_eq!(began.elapsed(), handshake_timeout());
    until("it is not counted", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_usable_is_closed_and_no_other() {
    let (node, to) = node();
    let (mut near, fails) = connect(&to).await;
    drop(fails);
    let read = within("its end", near.read(&mut [0; 1])).await;
    assert_eq!(read.expect("it is closed"), 0);
    until("it is not counted", || node.counts.open() == 0).await;
    let (other, make_usable) = connect(&to).await;
    make_usable.send(()).expect("it is waited for");
    let mut other = Client::over(other, Windows::default()).await;
    within("an answer", other.ask("/test/quiet")).await;
}

#[tokio::test]
async fn a_drain_waits_for_no_connection_that_is_not_usable() {
    let (node, to) = node();
    let (mut near, _never) = connect(&to).await;
    until("it is accepted", || node.counts.open() == 1).await;
    node.drain.go_away();
    let read = within("its end", near.read(&mut [0; 1])).await;
    assert_eq!(read.expect("it is closed"), 0);
    within("the end of all tasks", node.tasks.close_and_wait()).await;
    assert_eq!(node.counts.open(), 0);
}

fn handshake_timeout() -> Duration {
    ConnectionSettings::default().handshake_timeout
}
