//! Connections of a limited age: they take no more calls, and those that they have go on.

use std::sync::Arc;
use std::time::Duration;

use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;

use super::support::{Client, Node, node_with, pass, request, until};

const AGE: Duration = Duration::from_secs(3_600);

fn ageing() -> Node {
    let connection = ConnectionSettings {
        age_max: Some(AGE),
        ..ConnectionSettings::default()
    };
    node_with(AcceptorSettings {
        connection: Arc::new(connection),
        ..AcceptorSettings::default()
    })
}

#[tokio::test]
async fn a_connection_of_its_age_takes_no_more_calls_and_ends_with_its_last_stream() {
    let node = ageing();
    let mut idle = Client::connect(node.address).await;
    idle.ask("/test/refused").await;
    let mut busy = Client::connect(node.address).await;
    let mut quiet = busy.ask("/test/quiet").await;
    pass(AGE * 8 / 10).await;
    assert_eq!(
        busy.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
    pass(AGE * 2 / 10).await;
    until("the idle one has ended", || node.counts.open() == 1).await;
    assert!(
        busy.send(request("/test/echo"), None).await.is_err(),
        "no new call after GOAWAY"
    );
    assert_eq!(node.calls.live(), 1, "the running call goes on");
    pass(AGE).await;
    assert_eq!(node.calls.live(), 1, "for as long as it wants");

    let mut young = Client::connect(node.address).await;
    assert_eq!(
        young.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
    quiet.cancel();
    until("it has ended with its stream", || node.counts.open() == 1).await;
}

#[tokio::test]
async fn connections_that_came_together_do_not_go_together() {
    let node = ageing();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(node.address).await;
        client.ask("/test/refused").await;
        clients.push(client);
    }
    pass(AGE * 95 / 100).await;
    until("about half have ended", || {
        (5..=15).contains(&node.counts.open())
    })
    .await;
    pass(AGE * 5 / 100).await;
    until("all have ended", || node.counts.open() == 0).await;
}
