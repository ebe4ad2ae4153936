//! The metrics of a node.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use longlived_server::testkit::METRICS_HEAD_BYTES_MAX;
use longlived_testkit::wait::{self, PATIENCE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::support::{Frame, Node, message, request, within};

const GET: &str = "GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n";

fn watched() -> (Node, SocketAddr) {
    watched_until(Duration::from_millis(1_500))
}

/// The same, with this drain timeout.
fn watched_until(drain_timeout: Duration) -> (Node, SocketAddr) {
    let node = Node::start_with(|config| {
        config.drain_timeout = drain_timeout;
    });
    let address = node.metrics.expect("it tells metrics");
    assert_ne!(address.port(), 0);
    (node, address)
}

/// All bytes until the connection is closed.
async fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    within("an answer and the end of the connection", async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    })
    .await
}

/// The value of each sample; its labels are part of its name. Holds the text against its format on the way.
pub(crate) async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = ask(address, GET).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let (mut samples, mut kinds, mut helped) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            assert!(text.ends_with('.'), "{line}");
            helped.push(name);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(helped.last(), Some(&name), "each has a text");
            assert_eq!(kinds.insert(name, kind), None, "{name} is told once");
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (name, value) = line.rsplit_once(' ').expect("a value");
            let family = name.split('{').next().expect("a name");
            assert!(family.starts_with("longlived_"), "{line}");
            let counter = if family.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            let kind = kinds.get(family).expect("its type comes before it");
            assert_eq!(*kind, counter, "{line}");
            let value = value.parse().expect("a number");
            assert_eq!(samples.insert(name.to_owned(), value), None, "{line}");
        }
    }
    samples
}

/// Scrapes until a sample has the value.
async fn until(address: SocketAddr, name: &str, wanted: f64) -> BTreeMap<String, f64> {
    wait::until(name, async || {
        let samples = scrape(address).await;
        ((samples[name] - wanted).abs() < 0.5).then_some(samples)
    })
    .await
}

#[tokio::test]
async fn values_are_those_of_the_moment_and_move_with_the_node() {
    let (node, address) = watched();
    let before = scrape(address).await;
    for (name, value) in [
        ("longlived_log_visible_sequence", 0.0),
        ("longlived_publishing_possible", 1.0),
        ("longlived_subscribers{state=\"live\"}", 0.0),
        ("longlived_subscribers{state=\"catching_up\"}", 0.0),
        ("longlived_subscribers{state=\"stalled\"}", 0.0),
        ("longlived_subscribers{state=\"parked\"}", 0.0),
        ("longlived_connections", 0.0),
        ("longlived_connections_refused_total", 0.0),
        ("longlived_channels", 0.0),
        ("longlived_publish_queue_bytes", 0.0),
        ("longlived_publish_queue_max_bytes", f64::from(64 << 20)),
        ("longlived_draining", 0.0),
    ] {
        assert!((before[name] - value).abs() < 0.5, "{name}: {before:?}");
    }
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let age = now.as_secs_f64() - before["longlived_start_time_seconds"];
    assert!((0.0..60.0).contains(&age), "{age}");
    let store = |name: &&String| name.starts_with("longlived_store_");
    assert_eq!(before.keys().find(store), None, "history is in memory");

    let (stream, welcome) = node.open(request("s", &["t"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    let label = format!("longlived_log_epoch_info{{epoch=\"{epoch}\"}}");
    let samples = until(address, "longlived_subscribers{state=\"live\"}", 1.0).await;
    assert!(samples.contains_key(&label), "{label}: {samples:?}");
    assert!(samples["longlived_connections"] > 0.5, "{samples:?}");
    assert!(samples["longlived_channels"] > 0.5, "{samples:?}");
    assert_eq!(node.publish("t", "x").await, 1);
    assert_eq!(node.publish("t", "x").await, 2);
    until(address, "longlived_log_visible_sequence", 2.0).await;
    drop(stream);
    until(address, "longlived_subscribers{state=\"live\"}", 0.0).await;
}

#[tokio::test]
async fn the_format_is_the_one_that_was_asked_for() {
    let (_node, address) = watched();
    let name = "longlived_connections_refused";
    for (accept, wanted, counter, open_metrics) in [
        (
            "*/*",
            "content-type: text/plain; version=0.0.4",
            format!("# TYPE {name}_total counter\n{name}_total 0\n"),
            false,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
            "content-type: application/openmetrics-text; version=1.0.0",
            format!("# TYPE {name} counter\n{name}_total 0\n"),
            true,
        ),
    ] {
        let get = format!("GET /metrics?x=1 HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
        let answer = ask(address, &get).await.expect("an answer");
        assert!(answer.contains(wanted), "{answer}");
        assert!(answer.contains(&counter), "{answer}");
        assert_eq!(answer.ends_with("# EOF\n"), open_metrics, "{answer}");
        assert_eq!(answer.contains("# UNIT "), open_metrics, "{answer}");
    }
}

#[tokio::test]
async fn anything_else_is_refused_and_closed() {
    let (_node, address) = watched();
    for (request, wanted) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "404 "),
        ("GET /metrics/ HTTP/1.1\r\nhost: x\r\n\r\n", "404 "),
        ("POST /x HTTP/1.1\r\nhost: x\r\n\r\n", "404 "),
        ("POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n", "405 "),
        ("DELETE /metrics HTTP/1.1\r\nhost: x\r\n\r\n", "405 "),
        ("nonsense\r\n\r\n", "400 "),
    ] {
        let answer = ask(address, request).await.expect("an answer");
        let status = answer.strip_prefix("HTTP/1.1 ");
        let status = status.unwrap_or_else(|| panic!("{request:?}: {answer:?}"));
        assert!(status.starts_with(wanted), "{request:?}: {answer}");
        let allowed = answer.contains("allow: GET\r\n");
        assert_eq!(allowed, wanted == "405 ", "{answer}");
    }
    let long = "x".repeat(METRICS_HEAD_BYTES_MAX);
    let long = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nlong: {long}\r\n\r\n");
    let many = "h: x\r\n".repeat(100);
    let many = format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    for request in [&long, &many] {
        // Closed with bytes unread, which may reset the connection before the status is read.
        let answer = ask(address, request).await.unwrap_or_default();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }
    scrape(address).await;
}

#[tokio::test]
async fn it_answers_to_the_end_of_the_drain_and_holds_nothing_up() {
    let (mut node, address) = watched_until(24 * PATIENCE);
    // Nobody reads this stream, so the drain has to wait.
    let (mut stream, _) = node.open(request("s", &["t"])).await;
    let payload = "x".repeat(512 << 10);
    for _ in 0..16 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("it is stored");
    }
    let silent = TcpStream::connect(address).await.expect("it listens");
    node.drain();
    until(address, "longlived_draining", 1.0).await;
    while !matches!(stream.next().await, Ok(Frame::GoAway(_)) | Err(_)) {}
    drop(stream);
    node.ended().await;
    let refused = TcpStream::connect(address).await.expect_err("it is gone");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    drop(silent);
}
