//! A stream or a connection that takes nothing, beside those that go on. The others miss nothing, and the stalled one
//! finds its missed events when it reads again. The process tests measure its cost for the server.

use std::time::Duration;

use longlived_api::v1;
use prost::Message as _;
use tokio::{task::JoinHandle, time::timeout};

use super::support::{Frame, Node, Raw, RawReply, Windows, framed, message, request, spawn};

const PATH: &str = "/longlived.v1.SubscriptionService/Subscribe";
/// Readers that go on are done by then, also on a busy machine. Counts are compared.
const GENEROUS: Duration = Duration::from_secs(60);

async fn open(raw: &mut Raw, id: &str) -> RawReply {
    let body = framed(&request(id, &["t"]).encode_to_vec());
    let mut reply = raw.call(PATH, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    reply
}

async fn open_all(raw: &mut Raw, name: &str, streams: usize) -> Vec<RawReply> {
    let mut replies = Vec::new();
    for n in 0..streams {
        replies.push(open(raw, &format!("{name}-{n}")).await);
    }
    replies
}

fn messages(count: u64, payload: &str) -> Vec<v1::PublishRequest> {
    (0..count).map(|_| message("t", payload)).collect()
}

/// All events of the topic from the first to `last`, in order and each once, with no Gap among them.
async fn read_all(reply: &mut RawReply, last: u64) {
    for sequence in 1..=last {
        let event = loop {
            match reply.frame().await {
                Frame::Event(event) => break event,
                Frame::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(event.sequence, sequence);
        assert_eq!(event.previous_sequence, sequence - 1);
    }
}

/// Each reads on a task of its own.
fn reading(replies: Vec<RawReply>, last: u64) -> Vec<JoinHandle<()>> {
    let read = |mut reply: RawReply| spawn(async move { read_all(&mut reply, last).await });
    replies.into_iter().map(read).collect()
}

/// Returns when all of them have read everything; how many that were.
async fn done(readers: Vec<JoinHandle<()>>) -> usize {
    let count = readers.len();
    let all = timeout(GENEROUS, async {
        for reader in readers {
            reader.await.expect("it reads everything");
        }
    });
    all.await.expect("the others go on");
    count
}

#[tokio::test]
async fn a_stalled_stream_slows_none_of_the_99_others_of_its_connection() {
    const LAST: u64 = 3_000;
    // The missed events of the stalled one have left the live tail when it reads again.
    let node = Node::start_with(|config| config.log.tail_bytes_max = 64 << 10);
    let window = Windows::default().stream_window as usize;
    let mut raw = Raw::connect(node.address).await;
    let mut stalled = open(&mut raw, "stalled").await;
    let others = reading(open_all(&mut raw, "other", 99).await, LAST);

    let payload = "x".repeat(128);
    node.publish_all(messages(LAST, &payload)).await;
    assert_eq!(done(others).await, 99);

    // Its window was filled, but for less than one event, and nothing else came.
    stalled.hold(window - 1024).await;
    assert!(stalled.held() <= window);
    assert!(stalled.held() < LAST as usize * payload.len() / 4);
    read_all(&mut stalled, LAST).await;
}

/// Streams of one topic share a reader, and must keep their place with windows of every size.
#[tokio::test]
async fn streams_of_one_topic_get_everything_with_any_windows_of_theirs_and_their_connection() {
    const LAST: u64 = 400;
    let rooms = [
        (700, 65_535),
        (5_000, 65_535),
        (1 << 20, 65_535),
        (700, 1 << 20),
    ];
    let node = Node::start_with(|config| config.log.tail_bytes_max = 256 << 10);
    let mut readers = Vec::new();
    for (number, (stream_window, connection_window)) in rooms.into_iter().enumerate() {
        let windows = Windows {
            stream_window,
            connection_window,
            socket_bytes: None,
        };
        let mut raw = Raw::connect_with(node.address, windows).await;
        let replies = open_all(&mut raw, &format!("room-{number}"), 30).await;
        readers.extend(reading(replies, LAST));
    }
    // Small events and some that fill windows, singly and in batches.
    for first in (0..LAST).step_by(20) {
        let sizes = (first..first + 20).map(|n| {
            if n % 50 == 7 {
                40_000
            } else {
                n as usize % 300
            }
        });
        let batch = sizes.map(|size| message("t", &"x".repeat(size)));
        node.publish_all(batch.collect()).await;
    }
    assert_eq!(done(readers).await, 4 * 30);
}

#[tokio::test]
async fn a_connection_that_is_not_read_slows_no_other_and_then_gets_all_it_missed() {
    const LAST: u64 = 1_200;
    // The events of all its streams are far more than the kernel's buffer: 96 MB in all.
    const PAYLOAD_BYTES: usize = 4 << 10;
    const STREAMS: usize = 20;
    let node = Node::start_with(|config| config.log.tail_bytes_max = 1 << 20);
    // Only the socket stalls it: no window of it is ever used up.
    let wide = Windows {
        stream_window: 64 << 20,
        connection_window: 1 << 30,
        socket_bytes: Some(16 << 10),
    };
    let mut stuck = Raw::connect_with(node.address, wide).await;
    let stalled = open_all(&mut stuck, "stalled", STREAMS).await;
    stuck.freeze();

    let mut others = Vec::new();
    for n in 0..2 {
        let mut raw = Raw::connect(node.address).await;
        let replies = open_all(&mut raw, &format!("other-{n}"), STREAMS).await;
        others.extend(reading(replies, LAST));
    }
    node.publish_all(messages(LAST, &"x".repeat(PAYLOAD_BYTES)))
        .await;
    assert_eq!(done(others).await, 2 * STREAMS);

    stuck.thaw();
    assert_eq!(done(reading(stalled, LAST)).await, STREAMS);
}
