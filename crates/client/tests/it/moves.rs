//! Streams that the real server tells to move, under publishing: nothing is lost, comes twice or pauses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use longlived_client::{Client, GoAwayReason, Item, Lost, Message, Notice};
use longlived_server::{Config, GeneratorConfig};
use longlived_topic::TopicName;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};

use crate::real::Node;
use crate::scripted::Watched;

const AGE: Duration = Duration::from_secs(1);
const SUBSCRIBERS: usize = 12;
/// Streams that each subscriber has in turn.
const STREAMS: u64 = 5;
const LAST: &[u8] = b"the last";

/// Two places of one node, as a balancer of connections sees two servers: all go to the first, until there is a second.
struct Balancer {
    places: [SocketAddr; 2],
    dials: [AtomicUsize; 2],
    has_second: AtomicBool,
}

impl Balancer {
    fn place(&self) -> SocketAddr {
        let count = |place: usize| self.dials[place].load(Ordering::SeqCst);
        let second = self.has_second.load(Ordering::SeqCst) && count(1) < count(0);
        let place = usize::from(second);
        self.dials[place].fetch_add(1, Ordering::SeqCst);
        self.places[place]
    }

    fn dials(&self) -> [usize; 2] {
        [0, 1].map(|place| self.dials[place].load(Ordering::SeqCst))
    }
}

fn ageing() -> Config {
    let mut config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into(); 2],
        max_stream_age: Some(AGE),
        ..Config::default()
    };
    Arc::make_mut(&mut config.acceptor.connection).age_max = Some(AGE);
    config
}

/// Reads to the last message, and counts in `moved` when it has had its streams.
async fn follow(mut watched: Watched, moved: Arc<AtomicUsize>) {
    let mut last = 0;
    loop {
        match watched.item().await {
            Item::Event(event) => {
                let sequence = event.position.sequence;
                assert_eq!(sequence, last + 1, "each once, in order");
                last = sequence;
                if *event.payload == *LAST {
                    return;
                }
            }
            Item::Notice(Notice::Connected { streams, .. }) if streams == STREAMS => {
                moved.fetch_add(1, Ordering::SeqCst);
            }
            // The end of the old stream, which the new one has replaced, may come before the first word of that.
            Item::Notice(Notice::Disconnected { reason, retry_in }) => {
                assert_eq!(reason, Lost::GoAway(GoAwayReason::Replaced));
                assert_eq!(retry_in, Duration::ZERO);
            }
            Item::Notice(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn streams_move_to_new_connections_at_their_age_and_spread_while_each_message_comes_once() {
    let node = Node::start(ageing());
    let balancer = Arc::new(Balancer {
        places: node.places().try_into().unwrap(),
        dials: [AtomicUsize::new(0), AtomicUsize::new(0)],
        has_second: AtomicBool::new(false),
    });
    let through = balancer.clone();
    let client = (node.client())
        .connections(2)
        .connector(move |_| TcpStream::connect(through.place()))
        .build()
        .unwrap();
    let moved = Arc::new(AtomicUsize::new(0));
    let mut followed = tokio::task::JoinSet::new();
    for number in 0..SUBSCRIBERS {
        let subscriber = client.subscriber(format!("s-{number}")).filter("t");
        let mut watched = Watched::new(subscriber.build().unwrap());
        let first = watched.notice().await;
        assert!(matches!(first, Notice::Connected { .. }), "{first}");
        followed.spawn(follow(watched, moved.clone()));
    }
    assert_eq!(balancer.dials(), [2, 0]);
    balancer.has_second.store(true, Ordering::SeqCst);

    // Its own connection comes of age too. A message without an id is published once: one that may be stored is an error.
    let began = Instant::now();
    let publisher = client.publisher();
    let mut pace = interval(Duration::from_millis(2));
    while moved.load(Ordering::SeqCst) < SUBSCRIBERS {
        pace.tick().await;
        let stored = publisher.publish(("t", "x")).await;
        stored.expect("it is stored");
        let ended = followed.try_join_next();
        assert!(ended.is_none(), "the last message has not come: {ended:?}");
    }
    publisher.publish(Message::new("t", LAST)).await.unwrap();
    while let Some(ended) = followed.join_next().await {
        ended.unwrap();
    }

    let [first, second] = balancer.dials();
    assert!(first.abs_diff(second) <= 1, "{first} and {second}");
    // Each of three connections in turn, and not one for each stream.
    let ages = began.elapsed().as_secs_f64() / AGE.mul_f64(0.9).as_secs_f64();
    let most = 3.0 * (ages + 2.0);
    assert!((first + second) as f64 <= most, "{first} and {second}");
}

#[tokio::test]
async fn a_connection_that_takes_no_more_streams_gets_none_while_its_own_go_on() {
    let mut config = Node::any_port();
    Arc::make_mut(&mut config.acceptor.connection).age_max = Some(AGE);
    let node = Node::start(config);
    let (address, dials) = (node.places()[0], Arc::new(AtomicUsize::new(0)));
    let counted = dials.clone();
    let client = node.client().connector(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        TcpStream::connect(address)
    });
    let client = client.build().unwrap();
    let mut subscribers = Vec::new();
    let mut pace = interval(Duration::from_millis(10));
    // With the connection of the publisher there are three.
    while dials.load(Ordering::SeqCst) < 3 {
        pace.tick().await;
        let subscriber = client.subscriber(format!("s-{}", subscribers.len()));
        let mut watched = Watched::new(subscriber.filter("t").build().unwrap());
        let first = watched.notice().await;
        assert!(matches!(first, Notice::Connected { .. }), "{first}");
        subscribers.push(watched);
        if subscribers.len() == 1 {
            client.publisher().publish(("other", "x")).await.unwrap();
        }
    }
    let stored = client.publisher().publish(("t", "x")).await.unwrap();
    for watched in &mut subscribers {
        match watched.beyond_notices().await {
            Item::Event(event) => assert_eq!(event.position, stored.position),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_of_messages_goes_on_over_the_ages_of_its_connection() {
    let node = Node::start(ageing());
    let client: Client = node.client().build().unwrap();
    let began = Instant::now();
    let mut pace = interval(Duration::from_millis(5));
    let mut sequence = 0;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = client.publisher().publish_stream(messages, 4);
    while began.elapsed() < AGE * 3 {
        pace.tick().await;
        send.send(Message::new("t", "x")).await.unwrap();
        let answer = tokio_stream::StreamExt::next(&mut answers).await;
        let stored = answer.expect("it goes on").expect("it is stored");
        sequence += 1;
        assert_eq!(stored.position.sequence, sequence);
    }
}

#[tokio::test]
async fn a_drain_with_an_overlap_delivers_until_its_end_though_there_is_nowhere_to_go() {
    let mut node = Node::start(Config {
        drain_overlap: Duration::from_secs(2),
        generator: Some(GeneratorConfig {
            every: Duration::from_millis(10),
            topic: Some(TopicName::parse("t").unwrap()),
        }),
        ..Node::any_port()
    });
    let client = node.client().build().unwrap();
    let mut watched = Watched::new(client.subscriber("s").filter("t").build().unwrap());
    let mut last = watched.event().await;
    node.begin_drain();
    let mut handing_over = false;
    let mut after = 0;
    loop {
        match watched.item().await {
            Item::Event(event) => {
                assert_eq!(event.position.sequence, last + 1);
                last += 1;
                after += u32::from(handing_over);
            }
            Item::Notice(Notice::HandingOver { reason, .. }) => {
                assert_eq!(reason, GoAwayReason::Draining);
                handing_over = true;
            }
            Item::Notice(Notice::Disconnected { reason, .. }) => {
                assert_eq!(reason, Lost::GoAway(GoAwayReason::Draining));
                break;
            }
            Item::Notice(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(after >= 50, "{after} events while it drained");
}
