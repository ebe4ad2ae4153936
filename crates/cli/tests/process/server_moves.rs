//! `--max-stream-age` and `--drain-overlap` of the real server, with the client library on several connections.

use futures_util::StreamExt as _;
use longlived_client::{Client, GoAwayReason, Item, Lost, Notice, Subscriber};
use rustix::process::Signal;

use super::server_signals::NO_DRAIN_TIMEOUT;
use super::support::{Server, within};

const SUBSCRIBERS: usize = 8;

/// A subscriber to the generator's topic, and what it has.
struct Reader {
    subscriber: Subscriber,
    last: Option<u64>,
    streams: u64,
}

impl Reader {
    fn new(client: &Client, number: usize) -> Self {
        let subscriber = client.subscriber(format!("s-{number}")).filter("t");
        Self {
            subscriber: subscriber.build().expect("a subscriber"),
            last: None,
            streams: 0,
        }
    }

    /// The next notice. Events before it come each once, in order.
    async fn notice(&mut self) -> Notice {
        loop {
            let item = within("an item", self.subscriber.next()).await;
            match item.expect("it goes on").expect("no error") {
                Item::Event(event) => {
                    let sequence = event.position.sequence;
                    assert!(self.last.is_none_or(|last| sequence == last + 1));
                    self.last = Some(sequence);
                }
                Item::Notice(notice) => return notice,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Until it has had that many streams. No stream ended before its successor had begun.
    async fn move_to(&mut self, stream: u64) {
        while self.streams < stream {
            match self.notice().await {
                Notice::Connected { streams, .. } => self.streams = streams,
                Notice::Disconnected { reason, .. } => {
                    // The end of the old one may come before the first word of the new one.
                    assert_eq!(reason, Lost::GoAway(GoAwayReason::Replaced));
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn streams_of_a_second_lose_nothing_and_a_drain_with_an_overlap_ends_when_it_is_over() {
    let mut arguments = vec!["--max-stream-age", "1s", "--drain-overlap", "1500ms"];
    arguments.extend(["--generate-every", "10ms", "--generate-topic", "t"]);
    arguments.extend(NO_DRAIN_TIMEOUT);
    let mut server = Server::start(&arguments).await;
    let client = Client::builder(format!("http://{}", server.address)).connections(3);
    let client = client.build().expect("a client");
    let mut readers: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| Reader::new(&client, number))
        .collect();
    let moved = readers.iter_mut().map(|reader| reader.move_to(5));
    futures_util::future::join_all(moved).await;
    assert!(readers.iter().all(|reader| reader.last > Some(100)));

    server.signal(Signal::TERM);
    let told = readers.iter_mut().map(async |reader| {
        let mut told_at = None;
        loop {
            match reader.notice().await {
                Notice::HandingOver {
                    reason: GoAwayReason::Draining,
                    ..
                } => {
                    told_at.get_or_insert(reader.last);
                }
                Notice::Disconnected {
                    reason: Lost::GoAway(GoAwayReason::Draining),
                    ..
                } => return (told_at.expect("it was told before"), reader.last),
                _ => {}
            }
        }
    });
    for (told_at, last) in futures_util::future::join_all(told).await {
        assert!(last > told_at.map(|at| at + 50), "{told_at:?} to {last:?}");
    }
    assert!(server.ended().await.success());
}
