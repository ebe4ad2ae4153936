//! Many connections at once, and too many.

use std::time::Duration;

use longlived_server::acceptor::AcceptorSettings;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::support::{Client, node, node_with, spawn, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_at_once_are_all_served() {
    let node = node();
    let address = node.address;
    let clients: Vec<_> = (0..2_000)
        .map(|_| {
            spawn(async move {
                let mut client =
                    Client::over(TcpStream::connect(address).await.expect("it listens")).await;
                let reply = client.call("/test/quiet").await;
                (client, reply)
            })
        })
        .collect();
    let mut held = Vec::new();
    for client in clients {
        held.push(within(client).await.expect("it is served"));
    }
    assert_eq!((node.counts.open(), node.calls.live()), (2_000, 2_000));
    drop(held);
    until(Duration::from_secs(5), "all have ended", || {
        node.counts.open() == 0
    })
    .await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_and_counted() {
    let node = node_with(AcceptorSettings {
        connections_max: 1,
        ..AcceptorSettings::default()
    });
    let mut client = Client::connect(&node).await;
    client.call("/test/refused").await;
    let mut second = TcpStream::connect(node.address).await.expect("it listens");
    let closed = within(second.read(&mut [0; 1])).await;
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!((node.counts.open(), node.counts.refused()), (1, 1));

    client.vanish();
    until(Duration::from_secs(1), "there is room again", || {
        node.counts.open() == 0
    })
    .await;
    Client::connect(&node).await.call("/test/refused").await;
}
