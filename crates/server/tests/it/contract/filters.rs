//! The filters of a stream: wildcards, inboxes, and many filters as one order.

use longlived_api::v1;
use tonic::Code;

use super::support::{Frame, Node, assert_says, earliest, message, position, request};

#[tokio::test]
async fn wildcards_match_whole_tokens() {
    let node = Node::start();
    let (mut one, _) = node.open(request("one", &["orders.*.created"])).await;
    let (mut rest, _) = node.open(request("rest", &["orders.>"])).await;
    for topic in [
        "orders",
        "orders.created",
        "orders.eu.created",
        "orders.eu.west.created",
        "orders.eu.deleted",
        "ordersx.eu.created",
    ] {
        node.publish(topic, "x").await;
    }
    let last = node.publish("orders.us.created", "x").await;
    assert_eq!(one.events(2).await, [3, last]);
    assert_eq!(rest.events(5).await, [2, 3, 4, 5, last]);
}

#[tokio::test]
async fn a_leading_wildcard_matches_no_inbox() {
    let node = Node::start();
    for (id, filter) in [("a", ">"), ("b", "*.x"), ("c", "*.>")] {
        let (mut stream, _) = node.open(request(id, &[filter])).await;
        for inbox in ["inbox.x", "inbox.a"] {
            node.publish(inbox, "secret").await;
        }
        let seen = node.publish("open.x", "public").await;
        assert_eq!(stream.event().await.sequence, seen, "{filter}");
        // And neither from history.
        let replay = v1::SubscribeRequest {
            start: Some(earliest()),
            ..request(id, &[filter])
        };
        let (mut stream, _) = node.open(replay).await;
        assert_eq!(stream.event().await.topic, "open.x", "{filter}");
    }
}

#[tokio::test]
async fn a_subscriber_may_follow_its_own_inbox_and_nobody_elses() {
    let node = Node::start();
    let (mut own, _) = node.open(request("anna", &["inbox.anna"])).await;
    node.publish("inbox.bert", "x").await;
    let sequence = node.publish("inbox.anna", "x").await;
    assert_eq!(own.event().await.sequence, sequence);
    for (id, filter) in [
        ("anna", "inbox.bert"),
        ("anna", "inbox.*"),
        ("anna", "inbox.>"),
        ("anna", "inbox"),
        ("anna", "inbox.anna.more"),
        ("anna.b", "inbox.anna.b"),
    ] {
        let refused = node.subscribe(request(id, &["t", filter])).await;
        let status = refused.err().expect("not its own");
        assert_says(&status, Code::PermissionDenied, &["topic_filter", filter]);
    }
}

#[tokio::test]
async fn an_event_that_matches_several_filters_arrives_once() {
    let node = Node::start();
    let filters = ["a.b", "a.*", "a.>", "*.b", ">", "a.b"];
    let (mut live, _) = node.open(request("live", &filters)).await;
    for _ in 0..20 {
        node.publish("a.b", "x").await;
    }
    let expected: Vec<u64> = (1..=20).collect();
    assert_eq!(live.events(20).await, expected);
    let replay = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("replay", &filters)
    };
    let (mut replay, _) = node.open(replay).await;
    assert_eq!(replay.events(20).await, expected);
    assert!(replay.progress().await.current);
}

#[tokio::test]
async fn sixty_four_filters_arrive_merged_in_log_order_without_repeats() {
    let node = Node::start();
    let mut filters: Vec<String> = (0..50).map(|n| format!("t.{n}")).collect();
    filters.extend((0..14).map(|n| format!("*.{}", n * 3)));
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    assert_eq!(filters.len(), 64);
    let (mut live, welcome) = node.open(request("live", &filters)).await;

    let topics = (0..2_000u32).map(|n| {
        let family = if n % 3 == 0 { "u" } else { "t" };
        format!("{family}.{}", (n * 7919) % 60)
    });
    let topics: Vec<String> = topics.collect();
    let matches = |topic: &str| {
        let (family, number) = topic.split_once('.').expect("two tokens");
        let number: u32 = number.parse().expect("a number");
        (family == "t" && number < 50) || (number.is_multiple_of(3) && number <= 39)
    };
    let requests: Vec<_> = topics.iter().map(|topic| message(topic, "x")).collect();
    let mut publishing = node.publishing();
    let done = publishing.bulk_publish(tokio_stream::iter(requests)).await;
    assert_eq!(done.expect("all are stored").into_inner().published, 2_000);
    let expected: Vec<u64> = (1..)
        .zip(&topics)
        .filter(|(_, topic)| matches(topic))
        .map(|(sequence, _)| sequence)
        .collect();

    assert_eq!(live.events(expected.len()).await, expected);
    let epoch = welcome.position.expect("a position").epoch;
    let resume = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 0)),
        ..request("replay", &filters)
    };
    let (mut replay, _) = node.open(resume).await;
    let mut replayed = Vec::new();
    loop {
        match replay.frame().await {
            Frame::Event(event) => replayed.push(event.sequence),
            Frame::Progress(progress) if progress.current => break,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(replayed, expected);
}

#[tokio::test]
async fn the_largest_request_that_the_contract_allows_is_let_in() {
    let node = Node::start();
    let token = "t".repeat(64);
    let filters: Vec<String> = (10..74)
        .map(|n| {
            format!(
                "{}{n}",
                vec![token.as_str(); 16].join(".").split_at(1_037).0
            )
        })
        .collect();
    assert!(filters.iter().all(|filter| filter.len() == 16 * 64 + 15));
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let labels = (10..26).map(|n| (format!("{}{n}", "l".repeat(62)), "v".repeat(64)));
    let largest = v1::SubscribeRequest {
        labels: labels.collect(),
        ..request(&"s".repeat(128), &filters)
    };
    let (mut stream, _) = node.open(largest).await;
    let sequence = node.publish(filters[63], "x").await;
    assert_eq!(stream.event().await.sequence, sequence);
}
