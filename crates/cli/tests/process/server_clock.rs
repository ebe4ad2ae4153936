//! A data directory whose server once ran with its clock ten years ahead.

use std::{fs, path::Path, time::SystemTime};

use longlived_client::{Client, TopicsQuery};

use super::{
    server_metrics::{told_at, value},
    support::{Server, until, within},
};

/// The first moment of an event in the directory, as its publish time says.
const AHEAD: u64 = 2_095_934_400;

/// Copies the directory of the program of format 1: `crates/broker/fixtures/format-1`. The store's test that reads it
/// lists its content.
fn copy_of_format_1(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../broker/fixtures/format-1");
    for part in ["", "log", "sealed"] {
        fs::create_dir_all(to.join(part)).unwrap();
        for entry in fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
    }
}

async fn events(client: &Client, filter: &str) -> u64 {
    let query = TopicsQuery::new(filter);
    let topics = within("a list", client.topics(&query)).await;
    let topics = topics.expect("it is allowed");
    topics.topics.iter().map(|topic| topic.events).sum()
}

#[tokio::test]
async fn ages_end_although_events_are_stamped_ten_years_ahead_and_the_log_says_so() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    copy_of_format_1(&dir);
    let flags = [
        "--data-dir",
        dir.to_str().unwrap(),
        "--history",
        "kept.>=events:1000000",
        "--history",
        "aged.>=age:2s",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let mut server = Server::start(&flags).await;
    let client = Client::builder(format!("http://{}", server.address)).build();
    let client = client.expect("an address");
    assert_eq!(events(&client, "kept.>").await, 72);
    let sequence = server.publish("kept.now", "x").await.expect("it is stored");
    assert_eq!(sequence, 203, "the history goes on");
    until("nothing outlives two seconds", async || {
        (events(&client, "aged.>").await == 0).then_some(())
    })
    .await;
    assert_eq!(events(&client, "kept.>").await, 73);

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    if let Some(ahead) = AHEAD.checked_sub(now.expect("after 1970").as_secs()) {
        server
            .line("a warning", |line| line.contains("ahead of the clock"))
            .await;
        let metrics = told_at(&server).await;
        let told = value(metrics, "longlived_publish_time_ahead_seconds").await;
        assert!(told.abs_diff(ahead) < 3_600, "{told} {ahead}");
    }
    // Written by this version, it has the same ages.
    server.kill().await;
    let server = Server::start(&flags).await;
    let client = Client::builder(format!("http://{}", server.address)).build();
    let client = client.expect("an address");
    assert_eq!(events(&client, "kept.>").await, 73);
    assert_eq!(events(&client, "aged.>").await, 0);
    server.publish("aged.now", "x").await.expect("it is stored");
    until("nothing outlives two seconds", async || {
        (events(&client, "aged.>").await == 0).then_some(())
    })
    .await;
}
