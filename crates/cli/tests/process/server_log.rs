//! One log line per call, at its end; of thousands some, and sums.

use longlived_api::protos;
use longlived_api::v1::{
    self, publish_service_client::PublishServiceClient,
    subscription_service_client::SubscriptionServiceClient,
};
use serde_json::Value;
use tokio::time::Instant;
use tonic::Streaming;

use super::support::{SUBSCRIBE, Server, Stream, longlived, request, within};

/// The lines of calls so far.
fn calls(server: &Server) -> Vec<Value> {
    let lines = server.lines();
    let parsed = lines.iter().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not JSON: {line}"))
    });
    parsed
        .filter(|line| line["target"] == "longlived::call")
        .collect()
}

/// The one line of the calls of a subscriber, when it is there.
async fn call_of(server: &Server, subscriber: &str) -> Value {
    let quoted = format!("\"subscriber\":\"{subscriber}\"");
    server
        .line(&quoted, |line| {
            line.contains("longlived::call") && line.contains(&quoted)
        })
        .await;
    let mut found = calls(server);
    found.retain(|call| call["subscriber"] == subscriber);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

async fn read_events(stream: &mut Stream, count: usize) {
    for _ in 0..count {
        stream.event().await;
    }
}

#[tokio::test]
async fn a_stream_has_one_json_line_with_its_subscriber_duration_deliveries_and_reason() {
    let server = Server::start(&["--log-format", "json"]).await;
    let (mut unsubscribed, _) = server.open(request("unsubscribed", &["t"])).await;
    let (mut gone, _) = server.open(request("gone", &["t"])).await;
    let attempt = |instance| v1::SubscribeRequest {
        instance,
        ..request("taken", &["t"])
    };
    let (mut taken, _) = server.open(attempt(1)).await;
    let opened = Instant::now();
    for _ in 0..3 {
        server.publish("t", "x").await.expect("stored");
    }
    for stream in [&mut unsubscribed, &mut gone, &mut taken] {
        read_events(stream, 3).await;
    }
    let lived = opened.elapsed().as_millis();
    server.unsubscribe("unsubscribed").await.expect("live");
    drop(gone);
    let (_successor, _) = server.open(attempt(2)).await;
    for (subscriber, status, reason) in [
        ("gone", "CANCELLED", "client went away"),
        ("taken", "ABORTED", "taken over by another instance"),
    ] {
        let call = call_of(&server, subscriber).await;
        assert_eq!(call["level"], "INFO", "{call}");
        assert_eq!(call["method"], SUBSCRIBE, "{call}");
        assert_eq!(call["events"], 3, "{call}");
        assert!(
            u128::from(call["duration_ms"].as_u64().expect("a number")) >= lived,
            "{call}"
        );
        assert_eq!(call["status"], status, "{call}");
        assert_eq!(call["reason"], reason, "{call}");
        assert!(call["request_id"].is_string(), "{call}");
    }
    server
        .line("the end of the stream", |line| {
            line.contains("\"reason\":\"unsubscribed\"")
        })
        .await;
    let calls = calls(&server);
    let own: Vec<_> = calls
        .iter()
        .filter(|call| call["subscriber"] == "unsubscribed")
        .collect();
    assert_eq!(
        own.len(),
        1,
        "the call that succeeded stands at debug: {own:?}"
    );
    assert_eq!(own[0]["status"], "OK");
    assert!(
        calls.iter().all(|call| call["method"] == SUBSCRIBE),
        "unary calls that succeed stand at debug: {calls:?}"
    );
}

#[tokio::test]
async fn the_begin_of_a_subscription_is_one_line_with_its_subscriber_filters_options_and_position()
{
    let server = Server::start(&["--log-format", "json"]).await;
    server.publish("t", "x").await.expect("stored");
    let (_stream, welcome) = server.open(request("s", &["t", "u.>"])).await;
    let line = server
        .line("subscription begins", |line| {
            line.contains("subscription begins")
        })
        .await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["level"], "INFO", "{line}");
    assert_eq!(line["subscriber"], "s", "{line}");
    assert_eq!(line["filters"], 2, "{line}");
    assert_eq!(line["outcome"], "new", "{line}");
    let position = line["position"].as_str().expect("a text");
    let epoch = welcome.position.expect("a position").epoch;
    assert!(position.contains(&epoch.to_string()), "{line}");
    assert!(position.contains('1'), "{line}");
}

#[tokio::test]
async fn a_call_that_fails_is_logged_at_info_with_its_request_id() {
    let server = Server::start(&["--log-format", "json"]).await;
    let mut client = PublishServiceClient::new(server.channel());
    let mut bad = tonic::Request::new(v1::PublishRequest::default());
    bad.metadata_mut()
        .insert("x-request-id", "find-me".parse().expect("a value"));
    client.publish(bad).await.expect_err("no topic");
    server
        .line("the call", |line| line.contains("find-me"))
        .await;
    let calls = calls(&server);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["request_id"], "find-me");
    assert_eq!(calls[0]["level"], "INFO");
    assert_eq!(calls[0]["status"], "INVALID_ARGUMENT");
    assert_eq!(calls[0]["method"], "/longlived.v1.PublishService/Publish");
    let reason = calls[0]["reason"].as_str().expect("a text");
    assert!(reason.contains("`topic`"), "{reason}");
}

#[tokio::test]
async fn at_debug_unary_calls_that_succeed_have_their_line_too() {
    let mut command = longlived();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .env("RUST_LOG", "info,longlived::call=debug");
    let server = Server::of(&mut command).await;
    server.publish("t", "x").await.expect("stored");
    server
        .line("the publish", |line| {
            line.contains("PublishService/Publish")
        })
        .await;
    let calls = calls(&server);
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["level"], "DEBUG");
    assert_eq!(calls[0]["status"], "OK");
}

#[tokio::test]
async fn text_lines_say_the_same() {
    let server = Server::start(&[]).await;
    let (mut stream, _) = server.open(request("anna", &["t"])).await;
    server.publish("t", "x").await.expect("stored");
    stream.event().await;
    server.unsubscribe("anna").await.expect("live");
    let line = server
        .line("the end of the stream", |line| line.contains("call ended"))
        .await;
    for part in [
        "INFO",
        "subscriber=\"anna\"",
        "method=\"/longlived.v1.SubscriptionService/Subscribe\"",
        "duration_ms=",
        "events=1",
        "status=\"OK\"",
        "reason=\"unsubscribed\"",
    ] {
        assert!(line.contains(part), "`{part}` is not in {line}");
    }
}

#[tokio::test]
async fn every_live_stream_has_its_line_when_the_server_drains() {
    let mut server = Server::start(&["--log-format", "json"]).await;
    let mut streams = Vec::new();
    for n in 0..10 {
        streams.push(server.open(request(&format!("s-{n}"), &["t"])).await.0);
    }
    server.signal(rustix::process::Signal::TERM);
    server.ended().await;
    for n in 0..10 {
        let call = call_of(&server, &format!("s-{n}")).await;
        assert_eq!(call["reason"], "server draining", "{call}");
        assert_eq!(call["status"], "OK", "{call}");
    }
}

/// Opens many subscriptions on one connection; with `after` as ones that return.
async fn open_many(
    server: &Server,
    round: &str,
    after: Option<&v1::Position>,
) -> Vec<Streaming<v1::SubscribeResponse>> {
    let client = SubscriptionServiceClient::new(server.channel());
    let mut streams = Vec::new();
    for number in 0..MANY {
        let request = v1::SubscribeRequest {
            resume_after: after.copied(),
            ..request(&format!("{round}-{number}"), &["t"])
        };
        let mut client = client.clone();
        let opened = within("headers", client.subscribe(request)).await;
        let mut stream = opened.expect("it is let in").into_inner();
        let welcome = within("the Welcome", stream.message()).await;
        welcome.expect("no error").expect("a Welcome");
        streams.push(stream);
    }
    streams
}

const MANY: usize = 1_000;

#[tokio::test]
async fn a_thousand_that_come_and_go_are_some_lines_and_exact_sums() {
    let mut command = longlived();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--streams-max", "1000"]);
    let mut server = Server::of(&mut command).await;
    let (_first, welcome) = server.open(request("first", &["t"])).await;
    let came = open_many(&server, "new", None).await;
    drop(came);
    let position = welcome.position.expect("a position");
    let returned = open_many(&server, "back", Some(&position)).await;
    let lost = v1::Position {
        epoch: position.epoch + 1,
        sequence: 7,
    };
    drop(returned);
    let reset = open_many(&server, "late", Some(&lost)).await;
    server.signal(rustix::process::Signal::TERM);
    server.ended().await;
    drop(reset);
    server
        .line("the end", |line| line.contains("log closed"))
        .await;

    let lines: Vec<Value> = server
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // Four kinds of lines, of which at most 140 come at once and 22 a second afterwards, with a line of sums each second.
    let time = |line: &Value| {
        let text = line["timestamp"].as_str().expect("a time");
        humantime::parse_rfc3339(text).expect("RFC 3339")
    };
    let took = time(&lines[lines.len() - 1]).duration_since(time(&lines[0]));
    let seconds = took.expect("in order").as_secs() as usize + 1;
    let most = 200 + 25 * seconds;
    assert!(lines.len() < most, "{} lines in {seconds} s", lines.len());
    assert!(lines.len() < 3 * MANY, "{} lines", lines.len());
    let sum = |name: &str| {
        let sums = lines.iter().filter_map(|line| line[name].as_u64());
        sums.sum::<u64>()
    };
    let own =
        |wanted: &dyn Fn(&Value) -> bool| lines.iter().filter(|line| wanted(line)).count() as u64;
    let begins = |line: &Value| line["message"] == "subscription begins";
    let many = MANY as u64;
    let unharmed = own(&|line| begins(line) && line["outcome"] != "reset");
    assert_eq!(unharmed + sum("begun"), 2 * many + 1);
    let reset = own(&|line| begins(line) && line["outcome"] == "reset");
    assert_eq!(reset + sum("begun_after_loss"), many);
    assert!(unharmed >= 10 && reset >= 10, "{unharmed}, {reset}");
    let ended = own(&|line| line["message"] == "call ended");
    assert_eq!(ended + sum("ended") + sum("failed"), 3 * many + 1);
}

#[tokio::test]
async fn at_debug_each_of_a_thousand_has_its_line() {
    let mut command = longlived();
    command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--streams-max",
            "1000",
        ])
        .env(
            "RUST_LOG",
            "info,longlived::call=debug,longlived_server::session=debug",
        );
    let mut server = Server::of(&mut command).await;
    let streams = open_many(&server, "new", None).await;
    drop(streams);
    server.signal(rustix::process::Signal::TERM);
    server.ended().await;
    server
        .line("the end", |line| line.contains("log closed"))
        .await;
    let lines = server.lines();
    for message in ["subscription begins", "call ended"] {
        let count = lines.iter().filter(|line| line.contains(message)).count();
        assert_eq!(count, MANY, "{message}");
    }
}

#[tokio::test]
async fn the_events_that_a_program_of_the_frozen_contract_missed_are_logged_also_when_it_just_leaves()
 {
    let server = Server::start(&[
        "--legacy-topics",
        "t",
        "--history",
        "t=events:1",
        "--tail-bytes-max",
        "1024",
    ])
    .await;
    let mut client = protos::longlived_client::LonglivedClient::new(server.channel());
    let stream = client.subscribe(protos::Request { id: 1 }).await;
    let mut stream = stream.expect("let in").into_inner();
    // More than waits for a reader that takes nothing.
    let payload = "x".repeat(32 << 10);
    for _ in 0..100 {
        server.publish("t", &payload).await.expect("stored");
    }
    server.publish("t", "last").await.expect("stored");
    let mut heard = 0;
    loop {
        let next = within("a response", stream.message()).await;
        let next = next.expect("no error").expect("the stream goes on");
        if next.data == "last" {
            break;
        }
        heard += 1;
    }
    assert!(heard < 100, "something is missing: {heard}");
    drop(stream);
    server
        .line("the gaps", |line| line.contains("gaps that the frozen"))
        .await;
}
