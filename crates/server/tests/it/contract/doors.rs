//! A node with listeners of two kinds.

use std::{
    future::{Future, pending, ready},
    io,
    net::SocketAddr,
};

use longlived_server::{
    Config, Environment, Listen, ServeError, Server, Services,
    listener::{Established, ListenAddress, Listener, Peer},
};
use prost::Message as _;
use tokio::{io::DuplexStream, sync::mpsc};

use super::support::{Frame, Node, Raw, Windows, framed, request, within};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

fn inside() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7070))
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The listener of an embedder; it fails, by a panic, when the sender is dropped.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listener for Pipes {
    type Raw = DuplexStream;
    type Socket = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Peer)> {
        let pipe = self.0.recv().await.expect("the sender is there");
        Ok((pipe, inside().into()))
    }

    fn establish(
        &self,
        raw: DuplexStream,
        _: Peer,
    ) -> impl Future<Output = io::Result<Established<DuplexStream>>> + Send + use<> {
        ready(Ok(Established::new(raw)))
    }
}

/// Listens on two TCP addresses and to pipes.
async fn server() -> (Server, mpsc::Sender<DuplexStream>) {
    let config = Config {
        listen: vec![Listen::Tcp {
            first: loopback(),
            also: vec![SocketAddr::from(([127, 0, 0, 2], 0))],
            proxies: Vec::new(),
            services: Services::All,
        }],
        ..Config::default()
    };
    let (connect, pipes) = mpsc::channel(1);
    let bound = Server::bind(config, Environment::system()).await;
    let server = bound.expect("free ports");
    (server.and_listener(Pipes(pipes), inside()), connect)
}

#[tokio::test]
async fn a_message_published_at_one_door_is_delivered_at_all_and_a_drain_closes_all() {
    let (server, connect) = server().await;
    let addresses: Vec<_> = server
        .local_addrs()
        .iter()
        .filter_map(ListenAddress::tcp)
        .collect();
    assert_eq!(addresses[2], inside());
    let mut node = Node::run(server);
    let (near, far) = tokio::io::duplex(64 << 10);
    assert!(connect.send(far).await.is_ok(), "the node accepts");
    let clients = [
        Raw::connect(addresses[0]).await,
        Raw::connect(addresses[1]).await,
        Raw::over(near, Windows::default()).await,
    ];
    let mut replies = Vec::new();
    for (door, mut client) in clients.into_iter().enumerate() {
        let subscribe = request(&format!("at-{door}"), &["news"]).encode_to_vec();
        let mut reply = client.call(SUBSCRIBE, &[], framed(&subscribe)).await;
        assert!(matches!(reply.frame().await, Frame::Welcome(_)));
        replies.push((reply, client));
    }
    let sequence = node.publish("news", "for all").await;
    for (reply, _) in &mut replies {
        let Frame::Event(event) = reply.frame().await else {
            panic!("an event comes next");
        };
        assert_eq!(event.sequence, sequence);
    }

    node.drain();
    for (reply, _) in &mut replies {
        assert!(matches!(reply.frame().await, Frame::GoAway(_)));
    }
    drop(replies);
    node.ended().await;
    assert!(connect.is_closed());
}

#[tokio::test]
async fn a_door_that_is_lost_ends_the_node_with_all_others() {
    let (server, connect) = server().await;
    let run = server.run(pending());
    drop(connect);
    let ended = within("the node ends", run).await;
    assert!(
        matches!(ended, Err(ServeError::TaskEnded("acceptor"))),
        "{ended:?}"
    );
}
