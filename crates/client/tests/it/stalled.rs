//! Subscribers that are not read: their events wait in this program, and cost the others nothing.

use longlived_client::{Item, Notice, Subscriber};
use longlived_testkit::wait::within;
use tokio_stream::StreamExt as _;

use crate::real::Node;

async fn next(subscriber: &mut Subscriber) -> Item {
    let item = within("an item", subscriber.next()).await;
    item.expect("no end").expect("no error")
}

/// The next `count` events; the loss of the stream fails the test.
async fn events(subscriber: &mut Subscriber, count: u64) {
    let mut read = 0;
    while read < count {
        match next(subscriber).await {
            Item::Event(event) => {
                read += 1;
                assert_eq!(event.position.sequence, read);
            }
            Item::Notice(Notice::Current { .. } | Notice::Progress { .. }) => {}
            other => panic!("after {read} events: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_thousand_stalled_streams_of_one_connection_keep_it_while_small_events_come() {
    const STREAMS: usize = 1_000;
    const EVENTS: u64 = 80;
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let subscriber = |number| client.subscriber(format!("s-{number}")).filter("t").build();
    let mut stalled: Vec<_> = (0..STREAMS).map(|one| subscriber(one).unwrap()).collect();
    for subscriber in &mut stalled {
        let opened = next(subscriber).await;
        assert!(matches!(opened, Item::Notice(Notice::Connected { .. })));
    }
    let mut reading = subscriber(STREAMS).unwrap();
    let opened = next(&mut reading).await;
    assert!(matches!(opened, Item::Notice(Notice::Connected { .. })));
    let publish = async {
        for _ in 0..EVENTS {
            client.publisher().publish(("t", "x")).await.unwrap();
        }
    };
    tokio::join!(publish, events(&mut reading, EVENTS));
    for subscriber in &mut stalled {
        events(subscriber, EVENTS).await;
    }
}
