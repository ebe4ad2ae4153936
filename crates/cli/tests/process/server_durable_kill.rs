//! SIGKILL under load with a data directory: nobody loses, repeats or is told of a gap, whenever it comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use longlived_client::{
    BackoffOptions, Client, Item, Message, Notice, Published, SubscriberHandle,
};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::IntervalStream;

use super::support::{PATIENCE, Server, number, spawn, until};
use super::tape::Tape;

const CONNECTIONS: usize = 100;
const STREAMS_EACH: usize = 10;
const TOPICS: usize = 100;
const PUBLISHERS: usize = 4;
const PAYLOAD_BYTES: usize = 256;
/// Messages a second, of which each has ten readers. A build without optimisation does not carry more on two cores
/// that others use too: it would spend the test on catching up.
const USUAL_RATE: u64 = if cfg!(debug_assertions) { 500 } else { 2_000 };
/// How soon everybody has to be at the head after the last fault ...
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// ... and where the machine is slow, as a multiple of the first start of the same subscribers.
const FIRST_TIMES: u32 = 8;
/// Messages published ahead of the reader that is furthest behind. A machine that carries the rate never reaches this
/// limit. On a slower one the readers would never catch up without it.
const AHEAD_MAX: u64 = 2_000;

/// A number for a longer run than the gate's.
fn topic(number: usize) -> String {
    format!("load.t{number}")
}

/// Subscribers that are read until they are dropped.
struct Readers {
    handles: Vec<SubscriberHandle>,
    connected: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    fn start(client: &Client) -> Self {
        let mut readers = Self {
            handles: Vec::new(),
            connected: Arc::default(),
            tasks: Vec::new(),
        };
        for number in 0..CONNECTIONS * STREAMS_EACH {
            let subscriber = client.subscriber(format!("s-{number}"));
            // Subscribers are given the connections in turn; each topic has readers on ten of them.
            let mut subscriber = subscriber
                .filter(topic(number / STREAMS_EACH % TOPICS))
                .build()
                .expect("a subscription");
            readers.handles.push(subscriber.handle());
            let connected = readers.connected.clone();
            readers.tasks.push(spawn(async move {
                while let Some(item) = subscriber.next().await {
                    match item {
                        Ok(Item::Notice(Notice::Connected { .. })) => {
                            connected.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(Item::Event(_) | Item::Notice(_)) => {}
                        other => panic!("{}: {other:?}", subscriber.id()),
                    }
                }
            }));
        }
        readers
    }

    /// The topic that a reader follows.
    fn with_topics(&self) -> impl Iterator<Item = (String, &SubscriberHandle)> {
        let handles = self.handles.iter().enumerate();
        handles.map(|(number, handle)| (topic(number / STREAMS_EACH % TOPICS), handle))
    }

    /// The sequence of the reader that is furthest behind on its topic; followed until the readers are gone.
    fn slowest(
        &mut self,
        heads: &Arc<parking_lot::Mutex<BTreeMap<String, u64>>>,
    ) -> watch::Receiver<u64> {
        let (told, slowest) = watch::channel(0);
        let readers: Vec<_> = self
            .with_topics()
            .map(|(topic, handle)| (topic, handle.clone()))
            .collect();
        let heads = heads.clone();
        self.tasks.push(spawn(async move {
            loop {
                let expected = heads.lock().clone();
                let head = expected.values().max().copied().unwrap_or(0);
                let behind = readers.iter().filter_map(|(topic, handle)| {
                    let at = handle.position().map_or(0, |position| position.sequence);
                    expected
                        .get(topic)
                        .is_some_and(|expected| at < *expected)
                        .then_some(at)
                });
                // A reader with all events of its topic is not behind, even if the last of them has a low sequence.
                told.send_replace(behind.min().unwrap_or(head));
                sleep(Duration::from_millis(100)).await;
            }
        }));
        slowest
    }

    /// Waits until every reader has all acknowledged messages, and returns the time since `began`.
    async fn all_at(&self, heads: &BTreeMap<String, u64>, began: Instant) -> Duration {
        until("everybody is at the head", async || {
            self.tasks
                .iter()
                .for_each(|task| assert!(!task.is_finished(), "a subscriber gave up"));
            let behind = self.with_topics().any(|(topic, handle)| {
                let at = handle.position().map_or(0, |position| position.sequence);
                heads.get(&topic).is_some_and(|expected| at < *expected)
            });
            (!behind).then_some(())
        })
        .await;
        began.elapsed()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Publishes at a rate until it is told to stop; returns the last acknowledged sequence of each topic.
async fn publish(
    client: Client,
    number: usize,
    rate: u64,
    stop: Arc<AtomicBool>,
    slowest: watch::Receiver<u64>,
    seen: Arc<parking_lot::Mutex<BTreeMap<String, u64>>>,
) {
    let heads = seen.clone();
    let ahead = move |slowest: u64| {
        let head = heads.lock().values().max().copied().unwrap_or(0);
        head.saturating_sub(slowest)
    };
    let every = Duration::from_nanos(1_000_000_000 * PUBLISHERS as u64 / rate);
    let payload = vec![b'x'; PAYLOAD_BYTES - 16];
    let sent: Arc<parking_lot::Mutex<std::collections::VecDeque<String>>> = Arc::default();
    let to = sent.clone();
    let mut n = 0;
    let messages = IntervalStream::new(interval(every))
        .then(move |_| {
            let (mut slowest, ahead) = (slowest.clone(), ahead.clone());
            async move {
                let near = slowest.wait_for(|slowest| ahead(*slowest) < AHEAD_MAX);
                // Without further news it goes on to the end.
                drop(near.await);
            }
        })
        .take_while(move |()| !stop.load(Ordering::Relaxed))
        .map(move |()| {
            n += 1;
            let topic = topic((n * PUBLISHERS + number) % TOPICS);
            to.lock().push_back(topic.clone());
            // Each payload is another, so that none can stand in for another.
            let mut payload = payload.clone();
            payload.extend_from_slice(format!("{number:02}-{n:013}").as_bytes());
            Message::new(topic, payload).message_id(format!("p{number}-{n}"))
        });
    let publisher = client.publisher().timeout(PATIENCE);
    let mut answers = publisher.publish_stream(messages, 256);
    while let Some(answer) = answers.next().await {
        let Published { position, .. } = answer.expect("it is stored in the end");
        let topic = sent.lock().pop_front().expect("answers come in order");
        seen.lock().insert(topic, position.sequence);
    }
}

/// Waits until more was acknowledged on every topic, and returns the last of each.
async fn load_flows(heads: &parking_lot::Mutex<BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let before = heads.lock().clone();
    until("messages on every topic", async || {
        let now = heads.lock().clone();
        let more = now
            .iter()
            .filter(|(topic, at)| before.get(*topic) < Some(*at));
        (more.count() == TOPICS).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_server_that_is_killed_under_load_loses_and_repeats_nothing() {
    let rounds = number("LONGLIVED_KILL_ROUNDS", 10);
    let rate = number("LONGLIVED_KILL_RATE", USUAL_RATE);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let flags = ["--data-dir", data];
    let mut server = Server::start(&flags).await;
    let address = server.address;
    let tape = Tape::new();
    let client = Client::builder(format!("http://{address}"))
        .connections(CONNECTIONS)
        .connect_timeout(Duration::from_secs(2))
        .backoff(BackoffOptions {
            initial: Duration::from_millis(100),
            multiplier: 1.6,
            max: Duration::from_millis(500),
        })
        .recording(tape.recording())
        .build()
        .unwrap();
    let began = Instant::now();
    let mut readers = Readers::start(&client);
    until("everybody subscribed", async || {
        let connected = readers.connected.load(Ordering::Relaxed);
        (connected >= readers.handles.len() as u64).then_some(())
    })
    .await;
    let first_time = began.elapsed();
    println!("everybody subscribed after {first_time:?}");

    let stop = Arc::new(AtomicBool::new(false));
    let heads: Arc<parking_lot::Mutex<BTreeMap<String, u64>>> = Arc::default();
    let slowest = readers.slowest(&heads);
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            spawn(publish(
                client.clone(),
                number,
                rate,
                stop.clone(),
                slowest.clone(),
                heads.clone(),
            ))
        })
        .collect();
    for round in 0..rounds {
        // Every third time the load has come back before; between those it may be in the middle of that.
        if round % 3 == 0 {
            let expected = load_flows(&heads).await;
            readers.all_at(&expected, Instant::now()).await;
        }
        sleep(Duration::from_millis(rand::rng().random_range(0..1_000))).await;
        let head = heads.lock().values().max().copied().unwrap_or(0);
        println!("round {round}: {head} events, {:?}", began.elapsed());
        tape.fault("sigkill");
        server.kill().await;
        server = Server::start_on(address, &flags).await;
        assert_eq!(server.address, address, "round {round}");
    }
    tape.faults_over();
    let over = Instant::now();
    let expected = load_flows(&heads).await;
    let back = readers.all_at(&expected, over).await;
    println!("everybody was at the head {back:?} after the last fault, under load");
    assert!(back < HEAD_WITHIN.max(first_time * FIRST_TIMES), "{back:?}");
    stop.store(true, Ordering::Relaxed);
    for publisher in publishers {
        publisher.await.expect("all was acknowledged");
    }
    let heads = heads.lock().clone();
    assert_eq!(heads.len(), TOPICS);
    readers.all_at(&heads, over).await;
    let lasted = began.elapsed();

    // Closed while all subscribers are still there: these are to be current.
    let judging = Instant::now();
    let summary = tape.lawful("server_durable_kill").summary;
    println!(
        "{rounds} rounds in {lasted:?}, judged in {:?}",
        judging.elapsed()
    );
    assert_eq!(summary.at_head_not_judged, 0);
    assert_eq!(summary.faults.get("sigkill").copied().unwrap_or(0), rounds);
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
    assert_eq!(
        (
            summary.epochs,
            summary.dropped,
            summary.unknown,
            summary.refused
        ),
        (1, 0, 0, 0)
    );
    let readers_of_each = (CONNECTIONS * STREAMS_EACH / TOPICS) as u64;
    assert_eq!(summary.delivered, summary.acknowledged * readers_of_each);
    // Every third round, and at the end, there was more on every topic.
    let flows = rounds.div_ceil(3) + 1;
    assert!(
        summary.acknowledged >= flows * TOPICS as u64,
        "hardly any load"
    );
}
