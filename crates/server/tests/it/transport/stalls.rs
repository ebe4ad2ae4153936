//! Readers that stop reading, streams that are reset, connections that break: nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use longlived_server::testkit::acceptor::AcceptorSettings;

use super::support::{Client, node, node_with, pass, request, until, within};

#[tokio::test]
async fn a_stalled_stream_stops_no_other_stream_and_no_other_connection() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut stalled = client.ask("/test/endless").await;
    stalled.hold(64 << 10).await;

    let mut other = Client::connect(node.address).await;
    for client in [&mut client, &mut other] {
        let mut reply = client.ask("/test/endless").await;
        let mut read = 0;
        while read < 4 << 20 {
            read += reply
                .chunk()
                .await
                .expect("endless")
                .expect("no error")
                .len();
        }
    }
    // The others ended with their replies, the stalled one stands.
    until("one is left", || node.calls.live() == 1).await;
}

#[tokio::test]
async fn a_stalled_stream_can_be_reset_from_outside_its_body() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut stalled = client.ask("/test/endless").await;
    stalled.hold(64 << 10).await;
    assert_eq!(node.calls.live(), 1);

    node.calls.aborts.lock()[0].abort();
    until("the body is dropped", || node.calls.live() == 0).await;
    assert_eq!(stalled.reset_reason().await, Some(Reason::CANCEL));
    assert_eq!(
        client.ask("/test/refused").await.header("grpc-status"),
        Some("8")
    );
}

#[tokio::test]
async fn an_answer_of_which_its_peer_takes_nothing_is_let_go_and_one_that_is_read_is_not() {
    let mut settings = AcceptorSettings::default();
    Arc::make_mut(&mut settings.connection).answer_timeout = Duration::from_secs(2);
    let node = node_with(settings);
    let mut client = Client::connect(node.address).await;
    let mut read = client.ask("/test/endless").await;
    let mut stalled = client.ask("/test/endless").await;
    stalled.hold(64 << 10).await;
    assert_eq!(node.calls.live(), 2);
    // A few bytes at a time, and its window never has much.
    while node.calls.live() == 2 {
        read.chunk().await.expect("endless").expect("no error");
        pass(Duration::from_millis(10)).await;
    }
    assert_eq!(stalled.reset_reason().await, Some(Reason::CANCEL));
    for _ in 0..100 {
        read.chunk().await.expect("endless").expect("no error");
    }
}

#[tokio::test]
async fn a_quiet_stream_can_be_reset_from_outside_its_body() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut quiet = client.ask("/test/quiet").await;
    node.calls.aborts.lock()[0].abort();
    assert_eq!(quiet.reset_reason().await, Some(Reason::CANCEL));
    assert_eq!(node.calls.live(), 0);
}

#[tokio::test]
async fn a_stalled_stream_ends_at_its_deadline() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut timed = request("/test/endless");
    timed
        .headers_mut()
        .insert("grpc-timeout", "300m".parse().expect("a header value"));
    let mut stalled = client.send(timed, None).await.expect("a response");
    stalled.hold(64 << 10).await;
    until("the body is dropped", || node.calls.live() == 0).await;
    assert_eq!(stalled.reset_reason().await, Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_reset_by_the_peer_drops_the_body() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut quiet = client.ask("/test/quiet").await;
    let mut stalled = client.ask("/test/endless").await;
    stalled.hold(64 << 10).await;
    assert_eq!(node.calls.live(), 2);
    quiet.cancel();
    stalled.cancel();
    until("both bodies are dropped", || node.calls.live() == 0).await;
}

#[tokio::test]
async fn a_reset_before_the_response_drops_the_call() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    {
        let call = client.send(request("/test/never"), None);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), call)
                .await
                .is_err()
        );
        // Dropping the unanswered call resets its stream.
    }
    until("the call is dropped", || node.calls.live() == 0).await;
}

#[tokio::test]
async fn a_closed_connection_drops_all_its_bodies() {
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut replies = Vec::new();
    for _ in 0..20 {
        replies.push(client.ask("/test/quiet").await);
    }
    let mut stalled = client.ask("/test/endless").await;
    stalled.hold(64 << 10).await;
    assert_eq!(node.calls.live(), 21);
    client.vanish();
    until("all bodies are dropped", || node.calls.live() == 0).await;
    until("the connection has ended", || node.counts.open() == 0).await;
}

#[tokio::test]
async fn a_connection_that_takes_nothing_harms_no_other() {
    let node = node();
    // Its socket is not read after the first chunk: only the bytes that the kernel takes go out.
    let mut stuck = Client::connect(node.address).await;
    let mut reply = stuck.ask("/test/endless").await;
    reply.chunk().await.expect("endless").expect("no error");
    stuck.freeze();

    let mut other = Client::connect(node.address).await;
    let mut reply = within("a step", other.ask("/test/endless")).await;
    let mut read = 0;
    while read < 16 << 20 {
        read += reply
            .chunk()
            .await
            .expect("endless")
            .expect("no error")
            .len();
    }
}
