//! The node goes away, with any behaviour of its peers.

use std::time::Duration;

use tokio::net::TcpStream;

use super::support::{Client, node, pass, request, until, within};

#[tokio::test]
async fn while_draining_new_calls_are_told_when_to_come_back() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let _running = client.ask("/test/quiet").await;
    node.drain.begin();
    let mut newcomer = Client::connect(node.address).await;
    for client in [&mut client, &mut newcomer] {
        let reply = client.ask("/test/echo").await;
        assert!(reply.headers_only);
        assert_eq!(reply.header("grpc-status"), Some("14"));
        assert_eq!(reply.header("grpc-retry-pushback-ms"), Some("1234"));
        assert!(reply.header("x-request-id").is_some());
    }
    let health = client.ask("/grpc.health.v1.Health/Check").await;
    assert_eq!(
        health.header("grpc-status"),
        Some("12"),
        "it reaches the service"
    );
    assert_eq!(node.calls.live(), 1, "the running call goes on");
}

#[tokio::test]
async fn a_connection_ends_with_its_last_stream() {
    let node = node();
    let mut idle = Client::connect(node.address).await;
    idle.ask("/test/refused").await;
    let mut busy = Client::connect(node.address).await;
    let mut quiet = busy.ask("/test/quiet").await;
    node.drain.go_away();
    until("the idle one has ended", || node.counts.open() == 1).await;
    assert!(
        busy.send(request("/test/echo"), None).await.is_err(),
        "no new call after GOAWAY"
    );
    quiet.cancel();
    within("a step", node.tasks.close_and_wait()).await;
    assert!(
        TcpStream::connect(node.address).await.is_err(),
        "nobody listens"
    );
}

#[tokio::test]
async fn stuck_and_silent_connections_end_at_the_kill() {
    let node = node();
    let silent = TcpStream::connect(node.address).await.expect("it listens");
    let mut stalled = Client::connect(node.address).await;
    let mut reply = stalled.ask("/test/endless").await;
    reply.hold(64 << 10).await;
    let mut stuck = Client::connect(node.address).await;
    let mut unread = stuck.ask("/test/endless").await;
    unread.chunk().await.expect("endless").expect("no error");
    stuck.freeze();
    until("all are there", || node.counts.open() == 3).await;

    node.drain.go_away();
    until("the silent one has ended", || node.counts.open() == 2).await;
    pass(Duration::from_secs(3)).await;
    assert_eq!(node.counts.open(), 2, "the others have until the kill");
    node.drain.kill();
    tokio::time::timeout(Duration::from_secs(1), node.tasks.close_and_wait())
        .await
        .expect("nothing is left");
    assert_eq!(node.calls.live(), 0);
    drop(silent);
}
