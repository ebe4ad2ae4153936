//! What is refused before a method sees it, and connections that are ended for what their peer did: each is counted by its reason.

use std::sync::Arc;

use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;
use longlived_server::testkit::connection_counts::{Cut, Refused};
use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{END_STREAM, PING, call, frame};

use super::support::{Node, node, node_with, until};

fn refused(node: &Node) -> Vec<(Refused, u64)> {
    node.counts.refused_requests().collect()
}

fn cut(node: &Node) -> Vec<(Cut, u64)> {
    node.counts.cut().collect()
}

#[tokio::test]
async fn requests_that_reach_no_method_are_counted_by_the_reason() {
    let node = node_with(AcceptorSettings {
        connection: Arc::new(ConnectionSettings {
            streams_max: 2,
            ..ConnectionSettings::default()
        }),
        ..AcceptorSettings::default()
    });
    let mut peer = Attacker::hello(node.address).await;
    assert_eq!(refused(&node), Refused::ALL.map(|reason| (reason, 0)));
    let malformed = Block::post("/").field("A", "b");
    peer.send(&malformed.headers(1, END_STREAM)).await;
    let large = Block::post("/").field("a", vec![b'x'; 20_000]);
    peer.send(&large.in_frames(3, None, &[16_000])).await;
    assert!(peer.is_answered(1).await, "the large one has its answer");
    let quiet = Block::post("/test/quiet");
    peer.send(&[quiet.headers(5, END_STREAM), quiet.headers(7, END_STREAM)].concat())
        .await;
    peer.send(&[call(9), call(11)].concat()).await;
    assert!(peer.is_taken().await);
    let expected = [
        (Refused::StreamsMax, 2),
        (Refused::Malformed, 1),
        (Refused::Headers, 1),
    ];
    assert_eq!(refused(&node), expected);
    assert!(cut(&node).iter().all(|(_, count)| *count == 0));
}

#[tokio::test]
async fn connections_that_are_ended_for_what_their_peer_did_are_counted_by_the_reason() {
    let node = node();
    let mut flood = Attacker::hello(node.address).await;
    let pings = frame(PING, 0, 0, b"are you?").repeat(100);
    while flood.send(&pings).await {}
    let mut broken = Attacker::hello(node.address).await;
    broken.send(&frame(PING, 0, 1, b"a stream")).await;
    broken.end().await;
    let both = [(Cut::Flood, 1), (Cut::Protocol, 1)];
    until("both are counted", || cut(&node) == both).await;
}
