//! Against the real server, in this process.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use longlived_client::fleet::{Contract, Fleet, FleetConfig, Show};
use longlived_client::{
    BackoffOptions, Client, ClientBuilder, Durability, GapReason, GoAwayReason, Item, Lost,
    Message, Notice, Outcome, Position, SubscribeError,
};
use longlived_server::{Config, Environment, GeneratorConfig, HistoryClass, Limits, Server};
use longlived_testkit::wait::until_so;
use longlived_topic::TopicFilter;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use crate::scripted::{PATIENCE, Watched};

/// A server with a runtime of its own, so that it can be ended as SIGKILL would end it.
pub(crate) struct Node {
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // A runtime cannot be waited for within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let bound = Server::bind(config, Environment::system()).now_or_never();
        let server = bound.expect("a store in memory is open at once").unwrap();
        let addresses = server.local_addrs().iter();
        let addresses: Vec<_> = addresses.map(|one| one.tcp().unwrap()).collect();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(async move {
            let stop = async {
                // Without a word of stop the server runs until its runtime is gone.
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            server.run(stop).await.unwrap();
        });
        Self {
            address: addresses[0],
            addresses,
            runtime: Some(runtime),
            stop: Some(stop),
        }
    }

    pub(crate) fn any_port() -> Config {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            ..Config::default()
        }
    }

    fn at(address: SocketAddr) -> Config {
        Config {
            listen: vec![address.into()],
            ..Config::default()
        }
    }

    fn with_generator(config: Config) -> Config {
        Config {
            generator: Some(GeneratorConfig {
                every: Duration::from_millis(100),
                topic: None,
            }),
            ..config
        }
    }

    /// Any port, and these retention classes.
    fn keeping(history: &[(&str, u64)]) -> Config {
        let class = |&(filter, events): &(&str, u64)| HistoryClass {
            filter: TopicFilter::parse(filter).unwrap(),
            limits: Limits {
                events,
                age: None,
                ..Limits::DEFAULT
            },
        };
        Config {
            history: history.iter().map(class).collect(),
            ..Self::any_port()
        }
    }

    /// The places where it listens.
    pub(crate) fn places(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.address)).backoff(BackoffOptions {
            initial: Duration::from_millis(20),
            multiplier: 1.6,
            max: Duration::from_millis(200),
        })
    }

    /// Ends it without a word, and frees its port.
    async fn kill(mut self) -> SocketAddr {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
        self.address
    }

    /// Asks it to stop.
    pub(crate) fn begin_drain(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Asks it to stop, and waits until it has.
    async fn drain(mut self) -> SocketAddr {
        self.begin_drain();
        let is_free = || std::net::TcpListener::bind(self.address).is_ok();
        until_so("its port is free", is_free).await;
        self.address
    }
}

async fn connected(watched: &mut Watched) -> Outcome {
    loop {
        if let Notice::Connected { outcome, .. } = watched.notice().await {
            return outcome;
        }
    }
}

#[tokio::test]
async fn messages_come_in_order_each_once_by_every_way_to_publish() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let mut watched = Watched::new(client.subscriber("a").filter("t.>").build().unwrap());
    assert_eq!(connected(&mut watched).await, Outcome::New);
    let publisher = client.publisher();

    let first = publisher.publish(("t.one", "single")).await.unwrap();
    assert_eq!(first.durability, Durability::Memory);
    let lines = tokio_stream::iter((0..500).map(|line| Message::new("t.many", format!("{line}"))));
    let answers: Vec<_> = publisher.publish_stream(lines, 64).collect().await;
    assert_eq!(answers.len(), 500);
    let file = tokio_stream::iter((0..500).map(|line| Message::new("t.file", format!("{line}"))));
    let bulk = publisher.bulk(file).await.unwrap();
    assert_eq!((bulk.published, bulk.duplicates), (500, 0));

    let mut last = 0;
    for _ in 0..1_001 {
        let sequence = watched.event().await;
        assert!(sequence > last);
        last = sequence;
    }
    assert_eq!(bulk.last_position.unwrap().sequence, last);
}

#[tokio::test]
async fn a_message_id_is_stored_once() {
    let node = Node::start(Node::any_port());
    let publisher = node.client().build().unwrap().publisher();
    let message = Message::new("t", "hello").message_id("m1");
    let first = publisher.publish(message.clone()).await.unwrap();
    let second = publisher.publish(message).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!(first.position, second.position);
}

#[tokio::test]
async fn history_is_read_from_its_beginning_and_from_a_saved_position() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let publisher = client.publisher();
    let mut positions = Vec::new();
    for line in 0..10 {
        positions.push(
            publisher
                .publish(("t", format!("{line}")))
                .await
                .unwrap()
                .position,
        );
    }
    let mut all = Watched::new(
        client
            .subscriber("a")
            .filter("t")
            .earliest()
            .build()
            .unwrap(),
    );
    for position in &positions {
        assert_eq!(all.event().await, position.sequence);
    }
    let rest = client
        .subscriber("b")
        .filter("t")
        .resume_after(positions[6]);
    let mut rest = Watched::new(rest.build().unwrap());
    assert_eq!(connected(&mut rest).await, Outcome::Resumed);
    for position in &positions[7..] {
        assert_eq!(rest.event().await, position.sequence);
    }
}

#[tokio::test]
async fn a_killed_server_that_lost_its_history_is_a_gap_and_the_subscription_goes_on() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let mut watched = Watched::new(client.subscriber("a").filter("t").build().unwrap());
    connected(&mut watched).await;
    let before = client.publisher().publish(("t", "before")).await.unwrap();
    assert_eq!(watched.event().await, before.position.sequence);
    let address = node.kill().await;
    let _node = Node::start(Node::at(address));
    assert_eq!(connected(&mut watched).await, Outcome::Reset);
    match watched.beyond_notices().await {
        Item::Gap(gap) => {
            assert_eq!(gap.reason, GapReason::EpochChanged);
            assert_ne!(gap.through.epoch, before.position.epoch);
        }
        other => panic!("{other:?}"),
    }
    let after = client.publisher().publish(("t", "after")).await.unwrap();
    assert_eq!(watched.event().await, after.position.sequence);
}

#[tokio::test]
async fn a_draining_server_sends_its_subscribers_away_and_they_come_back() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let mut watched = Watched::new(client.subscriber("a").filter("t").build().unwrap());
    connected(&mut watched).await;
    let address = node.drain().await;
    loop {
        if let Notice::Disconnected { reason, .. } = watched.notice().await {
            assert_eq!(reason, Lost::GoAway(GoAwayReason::Draining));
            break;
        }
    }
    let _node = Node::start(Node::at(address));
    connected(&mut watched).await;
}

#[tokio::test]
async fn another_instance_takes_the_id_over_and_the_first_stops() {
    let node = Node::start(Node::any_port());
    let first = node.client().instance(1).build().unwrap();
    let second = node.client().instance(2).build().unwrap();
    let mut older = Watched::new(first.subscriber("a").filter("t").build().unwrap());
    connected(&mut older).await;
    let mut newer = Watched::new(second.subscriber("a").filter("t").build().unwrap());
    connected(&mut newer).await;
    assert!(matches!(older.error().await, SubscribeError::TakenOver(_)));
    let published = second.publisher().publish(("t", "hello")).await.unwrap();
    assert_eq!(newer.event().await, published.position.sequence);
}

#[tokio::test]
async fn bad_requests_stop_with_the_servers_reason() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    for (id, filter) in [("", "t"), ("a", "t..x"), ("a b", "t")] {
        let mut watched = Watched::new(client.subscriber(id).filter(filter).build().unwrap());
        match watched.error().await {
            SubscribeError::Refused(refusal) => {
                assert_eq!(
                    refusal.code,
                    tonic::Code::InvalidArgument,
                    "{id:?} {filter}: {refusal}"
                );
            }
            other => panic!("{id:?} {filter}: {other}"),
        }
    }
}

#[tokio::test]
async fn unsubscribe_is_answered_and_the_stream_ends_with_ok() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let mut subscriber = client.subscriber("a").filter("t").build().unwrap();
    assert!(matches!(
        subscriber.next().await,
        Some(Ok(Item::Notice(Notice::Connected { .. })))
    ));
    timeout(PATIENCE, subscriber.unsubscribe())
        .await
        .unwrap()
        .unwrap();
}

async fn survives_a_kill(contract: Contract, clients: u32) {
    let node = Node::start(Node::with_generator(Node::any_port()));
    let client = node.client().connections(2).build().unwrap();
    let config = FleetConfig {
        clients,
        stagger: Duration::from_millis(1),
        topics: vec!["story".to_owned()],
        inbox: true,
        audit: vec!["story".to_owned()],
        contract,
        show: Show::Nothing,
        stop_timeout: PATIENCE,
    };
    let fleet = Fleet::start(client.clone(), config);
    let reach = async |what: &dyn Fn(&Fleet) -> bool| {
        until_so("the fleet gets there", || what(&fleet)).await;
    };
    let publisher = client.publisher();
    let publish = async |count: u32| {
        for line in 0..count {
            let message = Message::new("story", format!("line {line}"));
            let answer = publisher.publish(message).await.unwrap();
            fleet.acknowledged(answer.position, "story");
        }
    };
    reach(&|fleet| fleet.snapshot().connected == clients).await;
    reach(&|fleet| fleet.snapshot().delivered > u64::from(clients) * 3).await;
    publish(20).await;
    let address = node.kill().await;
    reach(&|fleet| fleet.snapshot().connected == 0).await;
    let _node = Node::start(Node::with_generator(Node::at(address)));
    reach(&|fleet| fleet.snapshot().connected == clients).await;
    publish(20).await;
    let so_far = fleet.snapshot().delivered;
    reach(&|fleet| fleet.snapshot().delivered > so_far + u64::from(clients) * 3).await;
    if contract == Contract::V1 {
        reach(&|fleet| fleet.outstanding() == 0).await;
    }
    let verdict = fleet.stop().await;
    assert!(verdict.survived(), "{verdict:#?}");
    assert_eq!(verdict.unsubscribed_ok, clients, "{verdict:#?}");
    assert_eq!(verdict.failed, 0, "{verdict:#?}");
    if contract == Contract::V1 {
        assert_eq!((verdict.lost, verdict.repeated), (Some(0), Some(0)));
        assert_eq!(
            verdict.gaps,
            u64::from(clients),
            "each is told once that its history is gone"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fleet_survives_a_killed_server() {
    survives_a_kill(Contract::V1, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fleet_of_the_frozen_contract_survives_a_killed_server() {
    survives_a_kill(Contract::Protos, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_large_fleet_survives_a_killed_server() {
    survives_a_kill(Contract::V1, 300).await;
}

#[tokio::test]
async fn a_stream_that_resumes_at_the_head_hears_at_once_that_it_is_current() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let position = client
        .publisher()
        .publish(("t", "hello"))
        .await
        .unwrap()
        .position;
    let subscriber = client.subscriber("a").filter("t").resume_after(position);
    let mut watched = Watched::new(subscriber.build().unwrap());
    connected(&mut watched).await;
    let notice = timeout(Duration::from_secs(2), watched.notice())
        .await
        .expect("at once");
    assert_eq!(notice, Notice::Current { position });
}

/// The contract's words reach the server as the builder means them.
#[tokio::test]
async fn a_promise_of_silence_is_kept_by_the_server() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let subscriber = client
        .subscriber("a")
        .filter("t")
        .max_silence(Duration::from_secs(2))
        .build()
        .unwrap();
    let mut watched = Watched::new(subscriber);
    match watched.notice().await {
        Notice::Connected { max_silence, .. } => assert!(max_silence.is_some()),
        other => panic!("{other:?}"),
    }
}

/// Publishes one message to each topic, in this order, and returns their positions.
async fn publish_to(client: &Client, topics: &[&str]) -> Vec<Position> {
    let publisher = client.publisher();
    let mut positions = Vec::new();
    for topic in topics {
        let answer = publisher.publish((*topic, "hello")).await.unwrap();
        positions.push(answer.position);
    }
    positions
}

#[tokio::test]
async fn events_that_a_live_reader_keeps_in_the_tail_are_resumed_though_history_let_them_go() {
    let node = Node::start(Node::keeping(&[("orders.>", 2)]));
    let client = node.client().build().unwrap();
    let live = client.subscriber("live").filter("orders.>");
    let mut live = Watched::new(live.build().unwrap());
    assert_eq!(connected(&mut live).await, Outcome::New);
    let positions = publish_to(&client, &["orders.eu"; 10]).await;
    for position in &positions {
        assert_eq!(live.event().await, position.sequence);
    }
    let late = client.subscriber("late").filter("orders.>");
    let late = late.resume_after(positions[2]).build().unwrap();
    let mut late = Watched::new(late);
    assert_eq!(connected(&mut late).await, Outcome::Resumed);
    for position in &positions[3..] {
        assert_eq!(late.event().await, position.sequence);
    }
}

/// The items of a subscriber of `a` and `b`, in order, that resumes after one of five messages. The third message is no
/// longer kept.
async fn resumed_among_classes(after: usize) -> (Outcome, Vec<Item>) {
    let node = Node::start(Node::keeping(&[("a", 1), ("b", 100)]));
    let client = node.client().build().unwrap();
    let positions = publish_to(&client, &["b", "b", "a", "a", "b"]).await;
    let subscriber = client.subscriber("late").filter("a").filter("b");
    let subscriber = subscriber.resume_after(positions[after - 1]);
    let mut watched = Watched::new(subscriber.build().unwrap());
    let outcome = connected(&mut watched).await;
    let mut items = Vec::new();
    loop {
        match watched.item().await {
            Item::Notice(Notice::Current { position }) => {
                assert_eq!(position, positions[4]);
                return (outcome, items);
            }
            Item::Notice(Notice::Progress { .. }) => {}
            item => items.push(item),
        }
    }
}

/// Numbers for events, ranges for gaps; a violation fails the test.
fn told(items: &[Item]) -> Vec<String> {
    let told = |item: &Item| match item {
        Item::Event(event) => event.position.sequence.to_string(),
        Item::Gap(gap) => {
            assert_eq!(gap.reason, GapReason::Trimmed);
            let after = gap.after.unwrap().sequence;
            format!("gap {}..={}", after + 1, gap.through.sequence)
        }
        other => panic!("{other:?}"),
    };
    items.iter().map(told).collect()
}

#[tokio::test]
async fn a_gap_between_kept_events_of_other_classes_comes_in_its_place() {
    let (outcome, items) = resumed_among_classes(1).await;
    assert_eq!(outcome, Outcome::Resumed);
    assert_eq!(told(&items), ["2", "gap 3..=3", "4", "5"]);
}

#[tokio::test]
async fn a_gap_that_comes_first_is_announced_as_a_reset() {
    let (outcome, items) = resumed_among_classes(2).await;
    assert_eq!(outcome, Outcome::Reset);
    assert_eq!(told(&items), ["gap 3..=3", "4", "5"]);
}

/// A drain did not store the messages that it did not answer, so they may be sent again even without ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_publisher_without_ids_goes_on_over_a_drain_with_the_unanswered_messages() {
    let node = Node::start(Node::any_port());
    let client = node.client().build().unwrap();
    let lines = tokio_stream::iter((0..).map(|line| Message::new("t", format!("{line}"))));
    let mut answers = client.publisher().publish_stream(lines, 64);
    let mut next = async || timeout(PATIENCE, answers.next()).await.unwrap();
    let first = next().await.unwrap().unwrap().position;
    for sequence in 2..=100 {
        assert_eq!(next().await.unwrap().unwrap().position.sequence, sequence);
    }
    let restart = async {
        let address = node.drain().await;
        Node::start(Node::at(address))
    };
    let into_the_next_history = async {
        let mut answered = 100;
        loop {
            let position = next().await.unwrap().unwrap().position;
            if position.epoch != first.epoch {
                assert_eq!(position.sequence, 1);
                return answered;
            }
            answered += 1;
            assert_eq!(position.sequence, answered);
        }
    };
    let (_node, answered) = tokio::join!(restart, into_the_next_history);
    let reader = client.subscriber("a").filter("t").earliest();
    match Watched::new(reader.build().unwrap()).beyond_notices().await {
        Item::Event(event) => assert_eq!(event.payload, answered.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn publishing_does_not_wait_for_the_subscribers_of_its_client() {
    const STREAMS: u32 = 2;
    let mut config = Node::any_port();
    let connection = std::sync::Arc::make_mut(&mut config.acceptor.connection);
    connection.streams_max = STREAMS;
    let node = Node::start(config);
    let client = node.client().build().unwrap();
    let mut subscribers = Vec::new();
    for number in 0..STREAMS {
        let subscriber = client.subscriber(format!("s-{number}")).filter("t");
        let mut watched = Watched::new(subscriber.build().unwrap());
        while !matches!(watched.item().await, Item::Notice(Notice::Connected { .. })) {}
        subscribers.push(watched);
    }
    let publisher = client.publisher();
    let bulk = publisher.bulk(tokio_stream::once(Message::new("t", "x")));
    let bulk = timeout(PATIENCE, bulk).await.expect("it does not wait");
    assert_eq!(bulk.unwrap().published, 1);
    let mut stream = publisher.publish_stream(tokio_stream::once(Message::new("t", "y")), 8);
    let stored = timeout(PATIENCE, stream.next()).await;
    stored.expect("it does not wait").unwrap().unwrap();
}
