//! One line per call, at its end.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{Client, Node, Reply, node, pass, request, until};

/// The log of this thread, which is where a test's tasks run.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock())
            .lines()
            .filter(|line| line.contains("longlived::call"))
            .map(str::to_owned)
            .collect()
    }

    /// Its only line so far; the next starts afresh.
    async fn line(&self) -> String {
        until("a line", || !self.lines().is_empty()).await;
        pass(Duration::from_millis(20)).await;
        let lines = self.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        self.0.lock().clear();
        lines[0].clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn assert_says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "`{part}` is not in {line}");
    }
}

#[tokio::test]
async fn a_long_path_and_a_long_text_are_cut_in_the_line() {
    let (log, _guard) = Log::capture();
    let node = node();
    let mut client = Client::connect(node.address).await;
    let path = format!("/test/{}", "é".repeat(500));
    let encoded = path.replace('é', "%C3%A9");
    client.ask(&encoded).await;
    let line = log.line().await;
    assert_says(&line, &["\"method\":\"/test/%C3%A9", "...\""]);
    assert!(line.len() < 1_500, "{} bytes: {line}", line.len());
}

#[tokio::test]
async fn a_unary_call_that_succeeds_is_one_line_at_debug() {
    let (log, _guard) = Log::capture();
    let node = node();
    let mut client = Client::connect(node.address).await;
    let mut call = request("/test/echo");
    call.headers_mut()
        .insert("x-request-id", "order-17".parse().expect("a header value"));
    client
        .send(call, None)
        .await
        .expect("a response")
        .all()
        .await;
    assert_says(
        &log.line().await,
        &[
            r#""level":"DEBUG""#,
            r#""request_id":"order-17""#,
            r#""method":"/test/echo""#,
            r#""subscriber":"sub-1""#,
            r#""peer":"127.0.0.1:"#,
            r#""duration_ms":"#,
            r#""events":1"#,
            r#""status":"OK""#,
            r#""reason":"completed""#,
        ],
    );
}

#[tokio::test]
async fn failures_and_streams_are_one_line_at_info() {
    let (log, _guard) = Log::capture();
    let node = node();
    let mut client = Client::connect(node.address).await;
    client.ask("/test/refused").await;
    assert_says(
        &log.line().await,
        &[r#""level":"INFO""#, r#""status":"RESOURCE_EXHAUSTED""#],
    );
    client.ask("/test/sizes").await.all().await;
    assert_says(
        &log.line().await,
        &[
            r#""level":"INFO""#,
            r#""status":"OK""#,
            r#""reason":"completed""#,
        ],
    );
    let _ = client.send(request("/test/fails"), None).await;
    assert_says(
        &log.line().await,
        &[r#""level":"INFO""#, r#""status":"INTERNAL""#, "on purpose"],
    );
    let mut get = request("/test/echo");
    *get.method_mut() = http::Method::GET;
    client.send(get, None).await.expect("a response");
    assert_says(
        &log.line().await,
        &[r#""level":"INFO""#, r#""status":"HTTP 405""#],
    );
    node.drain.begin();
    client.ask("/test/echo").await;
    assert_says(
        &log.line().await,
        &[r#""status":"UNAVAILABLE""#, "the server is draining"],
    );
}

async fn quiet(node: &Node) -> (Client, Reply) {
    let mut client = Client::connect(node.address).await;
    let reply = client.ask("/test/quiet").await;
    (client, reply)
}

#[tokio::test]
async fn a_client_that_vanishes_is_one_line() {
    let (log, _guard) = Log::capture();
    let node = node();
    let (client, reply) = quiet(&node).await;
    client.vanish();
    drop(reply);
    assert_says(
        &log.line().await,
        &[
            r#""level":"INFO""#,
            r#""status":"CANCELLED""#,
            "client went away",
        ],
    );

    let mut client = Client::connect(node.address).await;
    {
        let mut unanswered = std::pin::pin!(client.send(request("/test/never"), None));
        let arrived = until("the call arrives", || node.calls.live() > 0);
        tokio::select! {
            _ = &mut unanswered => panic!("nobody answers"),
            () = arrived => {}
        }
    }
    assert_says(
        &log.line().await,
        &[r#""method":"/test/never""#, "client went away"],
    );
}

#[tokio::test]
async fn a_stream_that_the_server_ends_does_not_blame_the_client() {
    let (log, _guard) = Log::capture();
    let node = node();
    let (_client, _reply) = quiet(&node).await;
    node.drain.kill();
    assert_says(
        &log.line().await,
        &[r#""status":"UNAVAILABLE""#, "the server ended"],
    );
}
