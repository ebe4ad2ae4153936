//! A disk that is full: publishing is refused at once, everything else goes on, and free space is all that is needed.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longlived_client::{
    BackoffOptions, Client, Event, Item, Message, Position, PublishError, Published, TopicsQuery,
};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::mounted::Mounted;
use super::support::{Server, skipped, until, until_after, within};
use super::tape::Tape;

const DISK_MEBIBYTES: u32 = 24;
const PAYLOAD_BYTES: usize = 128 << 10;
const TOPIC: &str = "fill.disk";
/// The longest time of a refusal by the contract, beyond that of a call that stores nothing.
const REFUSED_WITHIN: Duration = Duration::from_millis(100);
/// Calls of that kind that one refusal may take: as many as a busy machine makes of one by chance.
const CALLS: u32 = 8;
const REFUSALS: usize = 20;
/// Less than the wait that a refusal asks for, which is 5 s.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Longer than the maintenance of the store waits between two rounds.
const FULL_FOR: Duration = Duration::from_millis(2_500);
const PUBLISHING: &str = "longlived.v1.PublishService";
/// Space for 512 KiB at a time, so that retention has whole files to remove; the least reserve there is.
const SIZES: [&str; 4] = ["--segment-bytes", "524288", "--disk-reserve", "1048576"];

/// A small disk, or the reason why the test is skipped.
fn small_disk() -> Option<Mounted> {
    let disk = Mounted::in_memory(DISK_MEBIBYTES);
    disk.inspect_err(|reason| skipped("a full disk, a small one cannot be mounted", reason))
        .ok()
}

/// A client that counts.
struct Load {
    client: Client,
    messages: AtomicU64,
    // Answers that did not come in time, after which the message was sent again.
    unanswered: AtomicU64,
}

fn load(server: &Server, tape: &Tape) -> Load {
    let backoff = BackoffOptions {
        initial: Duration::from_millis(50),
        max: Duration::from_millis(500),
        ..BackoffOptions::default()
    };
    let client = Client::builder(format!("http://{}", server.address)).backoff(backoff);
    Load {
        client: client.recording(tape.recording()).build().unwrap(),
        messages: AtomicU64::new(0),
        unanswered: AtomicU64::new(0),
    }
}

/// One more message. The time is too short for the wait that a refusal asks for, so a refusal is returned at once. A slow
/// machine may not answer in that time; then the message is sent again, with its id.
async fn publish(load: &Load) -> Result<Published, PublishError> {
    let number = load.messages.fetch_add(1, Ordering::Relaxed);
    let mut payload = vec![b'x'; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    let message = Message::new(TOPIC, payload).message_id(number.to_string());
    let publisher = load.client.publisher().timeout(ATTEMPT);
    within("an answer to a message", async {
        loop {
            match Box::pin(publisher.publish(message.clone())).await {
                Err(PublishError::Unknown { .. }) => {
                    load.unanswered.fetch_add(1, Ordering::Relaxed)
                }
                answer => return answer,
            };
        }
    })
    .await
}

/// Publishes until the disk is full and stays so: sealing the log frees some of it. Returns the acknowledged messages,
/// and the time of the slowest refusal.
async fn fill(load: &Load) -> (Vec<Position>, Duration) {
    let mut stored = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut refused_since: Option<Instant> = None;
    until("a disk that stays full", async || {
        loop {
            let asked = Instant::now();
            match publish(load).await {
                Ok(published) => {
                    stored.push(published.position);
                    refused_since = None;
                }
                Err(error) => {
                    assert_full(&error);
                    slowest = slowest.max(asked.elapsed());
                    let refused_for = refused_since.get_or_insert(asked).elapsed();
                    return (refused_for > FULL_FOR).then_some(());
                }
            }
        }
    })
    .await;
    (stored, slowest)
}

fn assert_full(error: &PublishError) {
    match error {
        PublishError::Refused(refusal) => {
            assert_eq!(refusal.code, Code::ResourceExhausted, "{refusal}");
        }
        other => panic!("{other}"),
    }
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let mut health = HealthClient::new(server.channel());
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = within("the health", health.check(request)).await;
    answer.expect("it is known").into_inner().status()
}

async fn publishing_is(server: &Server, wanted: ServingStatus) {
    until("the health of publishing", async || {
        (health(server, PUBLISHING).await == wanted).then_some(())
    })
    .await;
    // Only publishing: a balancer must not take the node from its subscribers.
    for service in ["", "longlived.v1.SubscriptionService"] {
        assert_eq!(health(server, service).await, ServingStatus::Serving);
    }
}

/// Reads a subscription until an event at or above a position; its events.
async fn read_to(client: &Client, id: &str, after: Option<Position>, to: Position) -> Vec<Event> {
    let subscriber = client.subscriber(id).filter(TOPIC);
    let mut subscriber = match after {
        Some(after) => subscriber.resume_after(after),
        None => subscriber.earliest(),
    }
    .build()
    .unwrap();
    let mut events = Vec::new();
    let read = async {
        while subscriber
            .position()
            .is_none_or(|at| at.sequence < to.sequence)
        {
            let item = subscriber.next().await.expect("it goes on");
            if let Item::Event(event) = item.expect("it is let in") {
                events.push(event);
            }
        }
    };
    within("the stored messages", read).await;
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_to_publish_and_goes_on_when_there_is_space() {
    let Some(disk) = small_disk() else { return };
    let data = disk.join("data");
    let flags = [&["--data-dir", data.to_str().unwrap()], &SIZES[..]].concat();
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 10 << 20]).unwrap();
    let mut server = Server::start(&flags).await;
    let tape = Tape::new();
    let load = load(&server, &tape);
    let client = &load.client;
    let mut live = client
        .subscriber("live")
        .filter(TOPIC)
        .earliest()
        .build()
        .unwrap();
    publishing_is(&server, ServingStatus::Serving).await;

    let (mut stored, took) = within("a full disk", fill(&load)).await;
    let (mut refusals, mut calls) = (Vec::new(), Vec::new());
    while refusals.len() < REFUSALS {
        let asked = Instant::now();
        health(&server, PUBLISHING).await;
        calls.push(asked.elapsed());
        let asked = Instant::now();
        match publish(&load).await {
            // The log was sealed only now.
            Ok(published) => stored.push(published.position),
            Err(error) => {
                assert_full(&error);
                refusals.push(asked.elapsed());
            }
        }
    }
    refusals.sort_unstable();
    calls.sort_unstable();
    let (median, call) = (refusals[REFUSALS / 2], calls[REFUSALS / 2]);
    println!(
        "full after {} messages; refused within {took:?}, then {median:?} in the median, other calls {call:?}",
        stored.len()
    );
    assert!(
        median < REFUSED_WITHIN + CALLS * call,
        "{refusals:?}, {calls:?}"
    );
    assert!(stored.len() > 20, "{}", stored.len());
    publishing_is(&server, ServingStatus::NotServing).await;

    // A live, a returning and a new subscriber get everything.
    let last = *stored.last().unwrap();
    let mut seen = 0;
    let read = async {
        while live.position().is_none_or(|at| at.sequence < last.sequence) {
            let item = live
                .next()
                .await
                .expect("it goes on")
                .expect("it is let in");
            seen += usize::from(matches!(item, Item::Event(_)));
        }
    };
    within("the live subscriber is at the head", read).await;
    assert_eq!(seen, stored.len());
    let half = stored.len() / 2;
    let resumed = read_to(client, "resumed", Some(stored[half]), last).await;
    assert_eq!(resumed.len(), stored.len() - half - 1);
    assert_eq!(read_to(client, "new", None, last).await.len(), stored.len());

    // Killed while it is full, it starts, has everything, and still refuses.
    tape.fault("sigkill");
    server.kill().await;
    let mut server = Server::start_on(server.address, &flags).await;
    assert_eq!(
        read_to(client, "restarted", None, last).await.len(),
        stored.len()
    );
    // Space that the log had taken ahead is free after a start; then the disk is full again.
    let (more, _) = within("a full disk", fill(&load)).await;
    let last = *more.last().unwrap_or(&last);
    println!("{} more after the restart", more.len());
    publishing_is(&server, ServingStatus::NotServing).await;

    fs::remove_file(&ballast).unwrap();
    let again = until("it takes messages again", async || {
        publish(&load).await.ok()
    })
    .await;
    assert_eq!(again.position.sequence, last.sequence + 1);
    publishing_is(&server, ServingStatus::Serving).await;
    let read = async {
        while live.position().is_none_or(|at| at != again.position) {
            let item = live.next().await.expect("it goes on");
            item.expect("it comes back");
        }
    };
    within("the live subscriber goes on", read).await;

    tape.fault("sigkill");
    server.kill().await;
    let _server = Server::start_on(server.address, &flags).await;
    tape.faults_over();
    let everything = read_to(client, "at-the-end", None, again.position).await;
    assert_eq!(everything.len(), stored.len() + more.len() + 1);
    let summary = tape.lawful("server_disk_full").summary;
    let unanswered = load.unanswered.into_inner();
    assert_eq!((summary.epochs, summary.unknown), (1, unanswered));
    assert!(summary.gaps.is_empty(), "{:?}", summary.gaps);
    assert_eq!(summary.acknowledged, everything.len() as u64);
}

/// Publishes until the disk is full, and tells whether it was so before retention began to free space.
async fn fill_before_retention(load: &Load) -> Option<Vec<Position>> {
    let mut stored = Vec::new();
    loop {
        match publish(load).await {
            Ok(published) => stored.push(published.position),
            Err(error) => {
                assert_full(&error);
                return Some(stored);
            }
        }
        let page = load.client.topics(&TopicsQuery::new(TOPIC)).await;
        let topics = page.expect("it lists its topics").topics;
        let kept: u64 = topics.iter().map(|topic| topic.events).sum();
        if kept < stored.len() as u64 {
            println!("retention has begun after {} messages", stored.len());
            return None;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_messages_again_when_retention_has_freed_space() {
    // How long this machine takes to fill the disk is not known before.
    for age in [5, 40, 320].map(Duration::from_secs) {
        let Some(disk) = small_disk() else { return };
        if retention_frees_space(&disk, age).await {
            return;
        }
    }
    panic!("retention is always faster than filling {DISK_MEBIBYTES} MiB");
}

/// Whether the disk was full before the first message was that old.
async fn retention_frees_space(disk: &Mounted, age: Duration) -> bool {
    let data = disk.join("data");
    let mut flags = [&["--data-dir", data.to_str().unwrap()], &SIZES[..]].concat();
    let history = format!("fill.>=age:{}s", age.as_secs());
    flags.extend(["--history", &history, "--retention-interval", "50ms"]);
    let mut server = Server::start(&flags).await;
    let tape = Tape::new();
    let load = load(&server, &tape);
    let client = &load.client;
    let Some(stored) = fill_before_retention(&load).await else {
        return false;
    };
    println!(
        "full after {} messages, before {age:?} were over",
        stored.len()
    );
    // It has to grow that old first.
    until_after(age, "retention has let everything go", async || {
        let page = client.topics(&TopicsQuery::new(TOPIC)).await;
        let topics = page.expect("it lists its topics").topics;
        let is_gone = topics.iter().all(|topic| topic.events == 0);
        is_gone.then_some(())
    })
    .await;
    let mut again = until("there is room", async || publish(&load).await.ok()).await;
    // More than the reserve, and more than a log that was written out can have freed.
    for _ in 0..stored.len() / 2 {
        again = publish(&load).await.expect("there is room");
    }
    publishing_is(&server, ServingStatus::Serving).await;
    // A subscriber that comes back from before is told of the removed events.
    let first = stored[0];
    until("an event after the gap", async || {
        again = publish(&load).await.ok()?;
        let late = read_to(client, "late", Some(first), again.position).await;
        (!late.is_empty()).then_some(())
    })
    .await;

    tape.fault("sigkill");
    server.kill().await;
    let _server = Server::start_on(server.address, &flags).await;
    tape.faults_over();
    read_to(client, "later", Some(first), again.position).await;
    let summary = tape.lawful("server_disk_retention").summary;
    let unanswered = load.unanswered.into_inner();
    assert_eq!((summary.epochs, summary.unknown), (1, unanswered));
    assert!(!summary.gaps.is_empty());
    true
}
