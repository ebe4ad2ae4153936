//! Many connections at once, and too many.

use std::sync::Arc;
use std::time::Duration;

use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::support::{Client, node_with, spawn, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_at_once_are_all_served() {
    // As long as a busy machine takes to run all these tasks.
    let patient = ConnectionSettings {
        handshake_timeout: Duration::from_secs(60),
        keepalive_interval: Duration::from_secs(120),
        ..ConnectionSettings::default()
    };
    let node = node_with(AcceptorSettings {
        connection: Arc::new(patient),
        ..AcceptorSettings::default()
    });
    let address = node.address;
    let clients: Vec<_> = (0..2_000)
        .map(|_| {
            spawn(async move {
                let mut client = Client::connect(address).await;
                let reply = client.ask("/test/quiet").await;
                (client, reply)
            })
        })
        .collect();
    let mut held = Vec::new();
    for client in clients {
        held.push(within("a step", client).await.expect("it is served"));
    }
    assert_eq!((node.counts.open(), node.calls.live()), (2_000, 2_000));
    drop(held);
    until("all have ended", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_and_counted() {
    let node = node_with(AcceptorSettings {
        connections_max: 1,
        ..AcceptorSettings::default()
    });
    let mut client = Client::connect(node.address).await;
    client.ask("/test/refused").await;
    let mut second = TcpStream::connect(node.address).await.expect("it listens");
    let closed = within("a step", second.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!((node.counts.open(), node.counts.refused()), (1, 1));

    client.vanish();
    until("there is room again", || node.counts.open() == 0).await;
    Client::connect(node.address)
        .await
        .ask("/test/refused")
        .await;
}

#[tokio::test]
async fn a_connection_with_as_many_streams_as_allowed_is_counted_until_one_ends() {
    let node = node_with(AcceptorSettings {
        connection: Arc::new(ConnectionSettings {
            streams_max: 3,
            ..ConnectionSettings::default()
        }),
        ..AcceptorSettings::default()
    });
    let mut client = Client::connect(node.address).await;
    let mut open = Vec::new();
    for full in [0, 0, 1] {
        open.push(client.ask("/test/quiet").await);
        until("it is counted", || node.counts.full() == full).await;
    }
    drop(open.pop());
    until("it has room", || node.counts.full() == 0).await;
    open.push(client.ask("/test/quiet").await);
    until("it is full again", || node.counts.full() == 1).await;
    client.vanish();
    until("it is gone", || node.counts.full() == 0).await;
}
