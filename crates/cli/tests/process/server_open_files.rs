//! More strangers than the process has open files for: the store makes its next segment all the same.

use std::fs;

use futures_util::future::join_all;
use longlived_api::v1::{self, publish_service_client::PublishServiceClient};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::server_metrics::{told_at, value};
use super::support::{Server, longlived, until, within};

const FILES: usize = 160;
/// Half of them.
const CONNECTIONS: usize = 80;
const SEGMENT_BYTES: usize = 64 << 10;
const SEGMENTS: usize = 60;

/// A server that may have few files open.
fn limited(args: &[&str]) -> Command {
    let plain = longlived();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh"])
        .arg(FILES.to_string())
        .arg(plain.as_std().get_program())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(args)
        .kill_on_drop(true);
    for (name, _) in plain.as_std().get_envs() {
        command.env_remove(name);
    }
    command
}

#[tokio::test]
async fn strangers_that_take_all_open_files_leave_the_store_those_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = limited(&[
        "--data-dir",
        data.to_str().unwrap(),
        "--segment-bytes",
        "64KiB",
        "--history",
        ">=bytes:1MiB",
        "--metrics-listen",
        "127.0.0.1:0",
    ]);
    let server = Server::of(&mut command).await;
    let said = server
        .line("what fits", |line| line.contains("--connections-max"))
        .await;
    for part in [
        "WARN",
        "100000",
        &FILES.to_string(),
        &CONNECTIONS.to_string(),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let metrics = told_at(&server).await;
    let mut publishing = PublishServiceClient::new(server.channel());
    let message = |topic: &str| v1::PublishRequest {
        topic: topic.to_owned(),
        payload: vec![b'x'; SEGMENT_BYTES / 8].into(),
        ..v1::PublishRequest::default()
    };
    within("an answer", publishing.publish(message("t")))
        .await
        .expect("it is stored");

    let strangers = (0..2 * FILES).map(|_| TcpStream::connect(server.address));
    let strangers = within("all are connected", join_all(strangers)).await;
    let refused = async || {
        let refused = value(metrics, "longlived_connections_refused_total").await;
        (refused > 0).then_some(())
    };
    until("there are too many", refused).await;
    let open = value(metrics, "longlived_connections").await;
    assert!(open <= CONNECTIONS as u64, "{open}");

    let messages = (0..8 * SEGMENTS).map(move |_| message("t"));
    let stored = publishing.bulk_publish(tokio_stream::iter(messages));
    let stored = within("an answer", stored).await.expect("they are stored");
    assert_eq!(stored.into_inner().published, (8 * SEGMENTS) as u64);
    assert!(
        fs::read_dir(data.join("sealed")).unwrap().next().is_some(),
        "files were made meanwhile"
    );
    drop(strangers);
    // There is room for others again.
    until("a new connection is served", async || {
        server.publish("t", "x").await.ok()
    })
    .await;
}
