//! The states in which the node counts its subscribers: each in one, with any behaviour of its reader.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use h2::SendStream;
use longlived_api::{protos, v1};
use longlived_broker::{
    Environment, ReadError, Store,
    storage::{MemoryStore, Page, Query, RetentionConfig},
    testkit::Delegate,
};
use longlived_topic::TopicFilter;
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    metrics::scrape,
    random::Dice,
    support::{Node, Raw, RawReply, Windows, framed, message, request, spawn, until},
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const LEGACY: &str = "/protos.Longlived/Subscribe";
const TOPIC: &str = "t";

/// The number of live subscribers in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States {
    pub(super) live: usize,
    pub(super) catching_up: usize,
    pub(super) stalled: usize,
    pub(super) parked: usize,
}

impl States {
    fn sum(self) -> usize {
        self.live + self.catching_up + self.stalled + self.parked
    }

    async fn of(metrics: SocketAddr) -> Self {
        let samples = scrape(metrics).await;
        let of = |state| {
            let name = format!("longlived_subscribers{{state=\"{state}\"}}");
            let number = samples[&name].to_string();
            number.parse().expect("a whole number")
        };
        Self {
            live: of("live"),
            catching_up: of("catching_up"),
            stalled: of("stalled"),
            parked: of("parked"),
        }
    }
}

impl Node {
    /// How many subscribers are live.
    pub(super) async fn live(&self) -> usize {
        let metrics = self.metrics.expect("it tells metrics");
        States::of(metrics).await.sum()
    }

    /// Waits until this number of subscribers is live.
    pub(super) async fn until_live(&self, subscribers: usize) {
        until(&format!("{subscribers} are live"), async || {
            (self.live().await == subscribers).then_some(())
        })
        .await;
    }
}

/// Waits for these states; as many subscribers as in them are live all the time.
pub(super) async fn until_states(metrics: SocketAddr, wanted: States) {
    until(&format!("{wanted:?}"), async || {
        let states = States::of(metrics).await;
        assert_eq!(states.sum(), wanted.sum(), "{states:?}");
        (states == wanted).then_some(())
    })
    .await;
}

/// A memory store whose readers wait while it is closed.
struct Gate {
    inner: Arc<MemoryStore>,
    open: watch::Sender<bool>,
}

impl Delegate for Gate {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn read(&self, query: Query) -> BoxFuture<'static, Result<Page, ReadError>> {
        let (store, mut open) = (self.inner.clone(), self.open.subscribe());
        async move {
            open.wait_for(|open| *open)
                .await
                .expect("the gate is there");
            store.read(query).await
        }
        .boxed()
    }
}

/// A node with small tails, and the gate to its history.
fn gated() -> (Node, SocketAddr, Arc<Gate>) {
    let retention = RetentionConfig::new(Vec::new());
    let gate = Arc::new(Gate {
        inner: Arc::new(MemoryStore::new(Environment::system(), retention, 1_000)),
        open: watch::Sender::new(true),
    });
    let node = Node::start_with_store(gate.clone(), |config| {
        config.legacy_topics = vec![TopicFilter::parse(TOPIC).expect("a filter")];
        config.log.tail_bytes_max = 256 << 10;
    });
    let metrics = node.metrics.expect("it tells metrics");
    (node, metrics, gate)
}

async fn flood(node: &Node, messages: usize) {
    let payload = "x".repeat(16 << 10);
    let all = (0..messages).map(|_| message(TOPIC, &payload)).collect();
    node.publish_all(all).await;
}

/// Begins a stream; its request side, where that stays open.
async fn open(raw: &mut Raw, path: &str, number: i32) -> (RawReply, Option<SendStream<Bytes>>) {
    let id = format!("s-{number}");
    match path {
        LEGACY => {
            let request = protos::Request { id: number };
            (
                raw.call(LEGACY, &[], framed(&request.encode_to_vec()))
                    .await,
                None,
            )
        }
        SESSION => {
            let (response, mut say) = raw.begin(SESSION, &[]).await;
            let open = v1::session_request::Request::Open(request(&id, &[TOPIC]));
            let open = v1::SessionRequest {
                request: Some(open),
            };
            let said = say.send_data(framed(&open.encode_to_vec()), false);
            said.expect("the stream stands");
            (RawReply::of(response).await, Some(say))
        }
        _ => {
            let request = request(&id, &[TOPIC]).encode_to_vec();
            (raw.call(path, &[], framed(&request)).await, None)
        }
    }
}

/// Reads everything that comes, until the task is aborted, which resets the stream.
fn reading(reply: RawReply) -> JoinHandle<()> {
    reading_beside(reply, None)
}

/// The same of a stream whose request side is open.
fn reading_beside(mut reply: RawReply, say: Option<SendStream<Bytes>>) -> JoinHandle<()> {
    spawn(async move {
        while let Some(Ok(_)) = reply.chunk().await {}
        drop(say);
    })
}

async fn goes_through_each_state_and_comes_back(path: &str) {
    let (mut node, metrics, gate) = gated();
    node.until_live(0).await;
    let mut raw = Raw::connect(node.address).await;
    let (reply, say) = open(&mut raw, path, 1).await;
    let one = |of: fn(&mut States) -> &mut usize| {
        let mut states = States::default();
        *of(&mut states) = 1;
        states
    };
    until_states(metrics, one(|it| &mut it.live)).await;

    // More than the window of its stream, and less than the tails hold.
    flood(&node, 8).await;
    until_states(metrics, one(|it| &mut it.stalled)).await;
    // More than the tails hold.
    flood(&node, 40).await;
    until_states(metrics, one(|it| &mut it.parked)).await;
    gate.open.send_replace(false);
    let reader = reading_beside(reply, say);
    until_states(metrics, one(|it| &mut it.catching_up)).await;
    gate.open.send_replace(true);
    until_states(metrics, one(|it| &mut it.live)).await;

    // It ends in any state: here it has nothing to read.
    reader.abort();
    node.until_live(0).await;
    // And here it takes nothing, so it is reset.
    let (reply, _say) = open(&mut raw, path, 2).await;
    until_states(metrics, one(|it| &mut it.live)).await;
    flood(&node, 48).await;
    until_states(metrics, one(|it| &mut it.parked)).await;
    node.drain();
    node.until_live(0).await;
    drop(reply);
    node.ended().await;
}

#[tokio::test]
async fn a_subscriber_is_counted_in_each_state_and_leaves_it() {
    goes_through_each_state_and_comes_back(SUBSCRIBE).await;
}

#[tokio::test]
async fn a_session_is_counted_in_each_state_and_leaves_it() {
    goes_through_each_state_and_comes_back(SESSION).await;
}

#[tokio::test]
async fn a_subscriber_of_the_frozen_contract_is_counted_in_each_state_and_leaves_it() {
    goes_through_each_state_and_comes_back(LEGACY).await;
}

#[tokio::test]
async fn a_part_of_an_event_that_the_window_holds_is_held_although_nothing_comes_after_it() {
    let (node, metrics, _gate) = gated();
    let mut raw = Raw::connect(node.address).await;
    let (mut reply, _) = open(&mut raw, SUBSCRIBE, 1).await;
    node.publish(TOPIC, &"x".repeat(128 << 10)).await;
    let stalled = States {
        stalled: 1,
        ..States::default()
    };
    until_states(metrics, stalled).await;
    reply.frame().await;
    reply.frame().await;
    let live = States {
        live: 1,
        ..States::default()
    };
    until_states(metrics, live).await;
}

/// Streams of one topic and one connection share a reader: they are counted one by one all the same.
async fn a_connection_that_takes_nothing(windows: Windows, stop: fn(&Raw), go_on: fn(&Raw)) {
    const STREAMS: u8 = 5;
    let (node, metrics, _gate) = gated();
    let mut raw = Raw::connect_with(node.address, windows).await;
    let mut replies = Vec::new();
    for number in 0..STREAMS {
        replies.push(open(&mut raw, SUBSCRIBE, number.into()).await.0);
    }
    let live = States {
        live: STREAMS.into(),
        ..States::default()
    };
    until_states(metrics, live).await;
    stop(&raw);
    flood(&node, 10).await;
    flood(&node, 90).await;
    let parked = States {
        parked: STREAMS.into(),
        ..States::default()
    };
    until_states(metrics, parked).await;
    go_on(&raw);
    let readers: Vec<_> = replies.into_iter().map(reading).collect();
    until_states(metrics, live).await;
    readers.iter().for_each(JoinHandle::abort);
    node.until_live(0).await;
}

#[tokio::test]
async fn streams_whose_connection_has_no_window_left_are_counted_one_by_one() {
    let windows = Windows {
        stream_window: 16 << 20,
        connection_window: 65_535,
        socket_bytes: None,
    };
    a_connection_that_takes_nothing(windows, |_| {}, |_| {}).await;
}

#[tokio::test]
async fn streams_whose_socket_takes_nothing_are_counted_one_by_one() {
    let windows = Windows {
        stream_window: 64 << 20,
        connection_window: 1 << 30,
        socket_bytes: Some(16 << 10),
    };
    a_connection_that_takes_nothing(windows, Raw::freeze, Raw::thaw).await;
}

/// A stream of the test below.
enum Reader {
    Stands(Box<RawReply>),
    Reads(JoinHandle<()>),
}

#[tokio::test]
async fn each_subscriber_is_in_one_state_with_any_reader_and_all_are_live_again_when_they_read() {
    const STEPS: usize = 120;
    let (node, metrics, _gate) = gated();
    let mut dice = Dice(4_711);
    let mut raws = Vec::new();
    for connection_window in [65_535, 1 << 20] {
        let windows = Windows {
            connection_window,
            ..Windows::default()
        };
        raws.push(Raw::connect_with(node.address, windows).await);
    }
    let mut readers: Vec<Reader> = Vec::new();
    let mut opened = 0;
    for _ in 0..STEPS {
        match dice.below(6) {
            0 | 1 if readers.len() < 20 => {
                opened += 1;
                let path = dice.pick(&[SUBSCRIBE, LEGACY]);
                let raw = &mut raws[dice.below(2) as usize];
                readers.push(Reader::Stands(Box::new(open(raw, path, opened).await.0)));
            }
            2 if !readers.is_empty() => {
                let at = dice.below(readers.len() as u64) as usize;
                if let Reader::Reads(task) = readers.swap_remove(at) {
                    task.abort();
                }
            }
            3 if !readers.is_empty() => {
                let at = dice.below(readers.len() as u64) as usize;
                let reader = match readers.swap_remove(at) {
                    Reader::Stands(reply) => Reader::Reads(reading(*reply)),
                    reads @ Reader::Reads(_) => reads,
                };
                readers.push(reader);
            }
            _ => flood(&node, dice.below(30) as usize + 1).await,
        }
        // Those that left have left when the node has read that.
        node.until_live(readers.len()).await;
    }
    let readers: Vec<_> = readers
        .into_iter()
        .map(|reader| match reader {
            Reader::Stands(reply) => reading(*reply),
            Reader::Reads(task) => task,
        })
        .collect();
    assert!(readers.len() > 2, "that there was something to count");
    let live = States {
        live: readers.len(),
        ..States::default()
    };
    until_states(metrics, live).await;
    readers.iter().for_each(JoinHandle::abort);
    node.until_live(0).await;
}
