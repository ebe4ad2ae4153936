//! The log stays small, whatever peers send, also where it tells everything.

use longlived_testkit::raw;
use tokio::time::Instant;

use super::server_metrics::{told_at, value};
use super::support::{Server, longlived, within};

/// Bytes a second.
const RATE: usize = 4 << 10;
/// Each is a line of some 500 bytes.
const CALLS: usize = 2_000;
/// A field of a peer has 256, and there are a few.
const LINE_BYTES_MAX: usize = 1_500;

#[tokio::test]
async fn a_peer_that_provokes_a_line_with_each_call_gets_as_many_as_the_rate_allows_and_the_rest_is_counted()
 {
    let mut command = longlived();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-rate-max", "4KiB"]);
    command.args(["--metrics-listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "debug");
    let begun = Instant::now();
    let server = Server::of(&mut command).await;
    let metrics = told_at(&server).await;
    let mut peer = raw::Client::connect(server.address).await;
    let path = format!("/{}/Method", "x".repeat(3_000));
    for _ in 0..CALLS {
        let mut reply = within("an answer", peer.call(&path, &[], bytes::Bytes::new())).await;
        assert_eq!(reply.header("grpc-status"), Some("12"));
        reply.all().await;
    }
    let dropped = value(metrics, "longlived_log_lines_dropped_total").await;
    assert!(dropped > 0);
    // When there is room again a line says how many were left out before it.
    let told = "lines of the log were dropped here: they were more than --log-rate-max";
    within("a line that tells of it", async {
        while !server.lines().iter().any(|line| line.contains(told)) {
            peer.ask("/no/Method").await;
        }
    })
    .await;
    let lines = server.lines();
    let seconds = begun.elapsed().as_secs() as usize + 1;
    let written: usize = lines.iter().map(|line| line.len() + 1).sum();
    let notices = lines.iter().filter(|line| line.contains(told)).count();
    let allowed = RATE * (1 + seconds) + notices * LINE_BYTES_MAX;
    assert!(
        written <= allowed,
        "{written} bytes in {seconds} s, {allowed} allowed"
    );
    for line in &lines {
        assert!(line.len() <= LINE_BYTES_MAX, "{} bytes: {line}", line.len());
    }
}
