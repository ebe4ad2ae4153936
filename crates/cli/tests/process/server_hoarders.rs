//! Clients that announce the largest windows of HTTP/2 and never read their socket. The server's memory for them stays
//! below the formula of docs/OPERATIONS.md, with any number of messages.

use std::{fs, time::Duration};

use longlived_api::v1::{self, publish_service_client::PublishServiceClient};
use longlived_testkit::raw;
use prost::Message as _;
use tokio::time::Instant;

use super::server_metrics::{told_at, value};
use super::support::{Frame, SUBSCRIBE, Server, Stream, framed, longlived, request, within};

const CONNECTIONS: usize = 4;
const STREAMS: usize = 100;
const PAYLOAD_BYTES: usize = 16 << 10;
/// 128 MiB, of which the server keeps 4 for itself.
const MESSAGES: usize = 8 << 10;
/// The largest window there is, of a stream and of a connection.
const WINDOW: u32 = (1 << 31) - 1;
/// The kernel's buffer of a socket that is not read; it does not count as the server's.
const SOCKET_BYTES: u32 = 16 << 10;
/// After this time the kernel closes a socket that takes nothing, regardless of the server.
const KERNEL_PATIENCE: Duration = Duration::from_secs(360);

const DELIVERY_BYTES: usize = 64 << 10;
/// The bytes collected for one write, and a shared delivery that only some of its streams have got.
const CONNECTION_BYTES: usize = (64 << 10) + DELIVERY_BYTES;
/// The noise of the allocator and of requests in flight.
const SLACK_BYTES: usize = 8 << 20;

/// The formula, for the memory beyond that of the open connections.
const ALLOWED_BYTES: usize =
    CONNECTIONS * (STREAMS * DELIVERY_BYTES + CONNECTION_BYTES) + SLACK_BYTES;

/// A connection whose subscribers hold their Welcome, and which is not driven any more: its socket stays open, unread.
struct Hoarder {
    _connection: raw::Client,
    _replies: Vec<raw::Reply>,
}

impl Hoarder {
    async fn open(server: &Server, number: usize, topic: impl Fn(usize) -> String) -> Self {
        let windows = raw::Windows {
            stream_window: WINDOW,
            connection_window: WINDOW,
            socket_bytes: Some(SOCKET_BYTES),
        };
        let mut connection = raw::Client::connect_with(server.address, windows).await;
        let mut replies = Vec::new();
        for stream in 0..STREAMS {
            let id = format!("hoarder-{number}-{stream}");
            let message = request(&id, &[&topic(stream)]).encode_to_vec();
            let mut reply = connection.call(SUBSCRIBE, &[], framed(&message)).await;
            assert!(matches!(reply.frame().await, Frame::Welcome(_)));
            replies.push(reply);
        }
        connection.freeze();
        Self {
            _connection: connection,
            _replies: replies,
        }
    }
}

/// Everything, to the topics in turn.
async fn publish(server: &Server, topics: usize) {
    let mut client = PublishServiceClient::new(server.channel());
    let message = move |n: usize| v1::PublishRequest {
        topic: topic(n % topics),
        payload: vec![b'x'; PAYLOAD_BYTES].into(),
        ..v1::PublishRequest::default()
    };
    let stored = client.bulk_publish(tokio_stream::iter((0..MESSAGES).map(message)));
    let stored = within("everything is stored", stored).await;
    let stored = stored.expect("they are stored").into_inner();
    assert_eq!(stored.published, MESSAGES as u64);
}

fn topic(number: usize) -> String {
    format!("t.{number}")
}

/// Reads up to the last event. So little is kept that a reader which is not given its time may be told of a Gap.
async fn read(stream: &mut Stream, last: u64) {
    within("the last event", async {
        loop {
            match stream.frame().await {
                Frame::Event(event) if event.sequence == last => return,
                Frame::Event(_) | Frame::Progress(_) | Frame::Gap(_) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

fn memory(server: &Server, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .unwrap();
    kib.parse::<usize>().unwrap() << 10
}

/// `topics`: 1 that all follow, or as many as there are streams.
async fn hoarders_are_held_within_the_formula(topics: usize) {
    let mut command = longlived();
    // Freed memory shows at once.
    command.env("MIMALLOC_PURGE_DELAY", "0");
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--history",
        ">=bytes:4MiB",
        "--tail-bytes-max",
        "1MiB",
        "--publish-queue-bytes-max",
        "1MiB",
        "--metrics-listen",
        "127.0.0.1:0",
        // Nobody is sent away, however long it takes.
        "--keepalive-interval",
        "1h",
        "--keepalive-timeout",
        "1h",
    ]);
    let server = Server::of(&mut command).await;
    let metrics = told_at(&server).await;
    // History, tail and the memory of publishing are there before a client hoards.
    let (mut reader, _) = server.open(request("reader", &["t.>"])).await;
    let last = MESSAGES as u64;
    tokio::join!(publish(&server, topics), read(&mut reader, last));

    let hoarding = Instant::now();
    let mut hoarders = Vec::new();
    for number in 0..CONNECTIONS {
        let topic = |stream| topic((number * STREAMS + stream) % topics);
        hoarders.push(Hoarder::open(&server, number, topic).await);
    }
    // The peak from here on.
    fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
    let connected = memory(&server, "VmRSS:");
    tokio::join!(publish(&server, topics), read(&mut reader, 2 * last));
    let peak = memory(&server, "VmHWM:");

    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let held = peak.saturating_sub(connected);
    println!(
        "{topics} topics: {:.1} MiB connected, {:.1} MiB more at the peak, {:.1} MiB allowed",
        mib(connected),
        mib(held),
        mib(ALLOWED_BYTES)
    );
    assert!(
        held <= ALLOWED_BYTES,
        "{:.1} MiB more than before the first message",
        mib(held)
    );
    // They were not let go: none was closed, and each stands.
    let mut standing = 0;
    for state in ["live", "catching_up", "stalled", "parked"] {
        standing += value(
            metrics,
            &format!("longlived_subscribers{{state=\"{state}\"}}"),
        )
        .await;
    }
    if hoarding.elapsed() < KERNEL_PATIENCE {
        assert_eq!(standing, (CONNECTIONS * STREAMS) as u64 + 1);
    }
}

#[tokio::test]
async fn hoarders_of_one_topic_are_held_within_the_formula() {
    hoarders_are_held_within_the_formula(1).await;
}

#[tokio::test]
async fn hoarders_of_a_topic_each_are_held_within_the_formula() {
    hoarders_are_held_within_the_formula(CONNECTIONS * STREAMS).await;
}
