//! SIGKILL while the log goes from one segment to the next all the time: the segments are read back in their order.

use std::time::Duration;

use longlived_client::{BackoffOptions, Client, Item, Message};
use rand::RngExt as _;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::support::{PATIENCE, Server, spawn, within};
use super::tape::Tape;

const ROUNDS: usize = 12;
const PUBLISHERS: usize = 4;
/// Two of them fill a segment, so that the first of several publishers makes the next one.
const PAYLOAD_BYTES: usize = 30 << 10;

async fn publish(client: Client, number: usize, stop: CancellationToken) -> u64 {
    let publisher = client.publisher().timeout(PATIENCE);
    let mut last = 0;
    for n in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let payload = format!("{number}-{n:0PAYLOAD_BYTES$}");
        let message = Message::new("news", payload).message_id(format!("{number}-{n}"));
        let answer = publisher.publish(message).await.expect("it is stored");
        last = answer.position.sequence;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_follow_each_other_quickly_are_read_back_in_order_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data, "--segment-bytes", "65536"];
    let mut server = Server::start(&flags).await;
    let tape = Tape::new();
    let client = Client::builder(format!("http://{}", server.address))
        .backoff(BackoffOptions {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(100),
            ..BackoffOptions::default()
        })
        .recording(tape.recording())
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| spawn(publish(client.clone(), number, stop.clone())))
        .collect();
    for _ in 0..ROUNDS {
        sleep(Duration::from_millis(rand::rng().random_range(50..300))).await;
        tape.fault("sigkill");
        server.kill().await;
        server = Server::start_on(server.address, &flags).await;
    }
    tape.faults_over();
    stop.cancel();
    let mut head = 0;
    for publisher in publishers {
        head = head.max(
            within("the last answer", publisher)
                .await
                .expect("all was stored"),
        );
    }
    let reader = client.subscriber("reader").filter("news").earliest();
    let mut reader = reader.build().unwrap();
    let read = async {
        while reader.position().is_none_or(|at| at.sequence < head) {
            let item = reader.next().await.expect("it goes on");
            if let Item::Gap(gap) = item.expect("it is let in") {
                panic!("{gap}");
            }
        }
    };
    within("everything that was acknowledged", read).await;
    let summary = tape.lawful("server_segment_kill").summary;
    assert_eq!(
        (summary.epochs, summary.unknown, summary.refused),
        (1, 0, 0)
    );
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
}
