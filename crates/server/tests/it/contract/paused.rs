//! Stock clients that do not read for a while, while many small events come one by one. The events pile up in the
//! client's own HTTP/2 library, which counts small frames and ends the connection when they are too many.

use std::time::Duration;

use longlived_api::v1;
use tokio::time::timeout;

use super::support::{Frame, Node, Stream, endpoint, message, request, within};

/// However busy the machine is, everything is read by then.
const GENEROUS: Duration = Duration::from_secs(300);

/// Publishes that many messages, each when the one before is stored, so that each is delivered by itself.
async fn publish_one_by_one(node: &Node, count: u64) {
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut client = node.publishing();
    let messages = tokio_stream::wrappers::ReceiverStream::new(receive);
    let answers = within("headers", client.publish_stream(messages)).await;
    let mut answers = answers.expect("let in").into_inner();
    for _ in 0..count {
        send.send(message("t", "x")).await.expect("it is taken");
        let answer = within("an answer", answers.message()).await;
        answer.expect("it is stored").expect("an answer");
    }
}

/// A client on a connection of its own, with nothing set.
async fn stock(node: &Node, id: &str, streams: usize) -> Vec<Stream> {
    let channel = within("a connection", endpoint(node.address).connect()).await;
    let channel = channel.expect("the node listens");
    let mut opened = Vec::new();
    for number in 0..streams {
        let mut client =
            v1::subscription_service_client::SubscriptionServiceClient::new(channel.clone());
        let subscribe = client.subscribe(request(&format!("{id}-{number}"), &["t"]));
        let response = within("headers", subscribe).await.expect("let in");
        let mut stream = Stream::new(response.into_inner());
        stream.welcome().await;
        opened.push(stream);
    }
    opened
}

/// All events from the first to `last` in order and each once, and nothing that says otherwise.
async fn read_all(stream: &mut Stream, last: u64) {
    read_after(stream, 0, last).await;
}

async fn read_after(stream: &mut Stream, mut sequence: u64, last: u64) {
    while sequence < last {
        match stream.frame().await {
            Frame::Event(event) => {
                assert_eq!(event.sequence, sequence + 1);
                assert_eq!(event.previous_sequence, sequence);
                sequence = event.sequence;
            }
            Frame::Progress(progress) => {
                let position = progress.position.expect("a position");
                assert!(
                    position.sequence <= sequence,
                    "{position:?} after {sequence}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stock_client_that_pauses_while_20_000_small_events_come_keeps_its_connection() {
    const LAST: u64 = 20_000;
    let node = Node::start();
    let mut paused = stock(&node, "paused", 1).await;
    let all = timeout(GENEROUS, async {
        publish_one_by_one(&node, LAST).await;
        read_all(&mut paused[0], LAST).await;
        // It is the same connection, and goes on.
        publish_one_by_one(&node, 1).await;
        read_after(&mut paused[0], LAST, LAST + 1).await;
    });
    all.await.expect("in time");
}

/// They share the connection's window, which is large enough for all of it, and its limit for small frames, which is
/// lower.
#[tokio::test]
async fn so_does_one_whose_twenty_streams_pause_beside_one_that_reads() {
    const LAST: u64 = 800;
    let node = Node::start();
    let mut all = stock(&node, "paused", 21).await;
    let mut reading = all.pop().expect("one more");
    let read = timeout(GENEROUS, async {
        tokio::join!(
            publish_one_by_one(&node, LAST),
            read_all(&mut reading, LAST)
        );
        for paused in &mut all {
            read_all(paused, LAST).await;
        }
    });
    read.await.expect("in time");
}
