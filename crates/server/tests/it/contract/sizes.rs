//! The largest message that a client takes: it never gets a larger one, with any limit.

use std::{collections::BTreeSet, ops::Range};

use longlived_api::v1;
use prost::Message as _;
use tonic::Code;

use super::support::{
    Frame, GapReason, Node, Stream, earliest, message, position, request, within,
};

/// A client whose library refuses messages above its limit, and that has told the server the limit.
async fn limited(node: &Node, limit: usize, request: v1::SubscribeRequest) -> Stream {
    let mut client = node.subscriptions().max_decoding_message_size(limit);
    let response = within("headers", client.subscribe(request)).await;
    let mut stream = Stream::new(response.expect("it is let in").into_inner());
    stream.welcome().await;
    stream
}

fn response_bytes(event: &v1::Event) -> usize {
    let frame = Some(Frame::Event(event.clone()));
    v1::SubscribeResponse { frame }.encoded_len()
}

/// Publishes events with payloads of these sizes, until the responses with them stand on both sides of a limit and on
/// it: their size changes with the time of publishing too, by a byte. Returns the size of each.
async fn publish_around(node: &Node, limit: usize, payloads: Range<usize>) -> Vec<usize> {
    let huge = limit + (1 << 20);
    let witness = v1::SubscribeRequest {
        max_event_bytes: u32::try_from(huge).expect("a small limit"),
        ..request("witness", &["t"])
    };
    let mut witness = limited(node, huge, witness).await;
    let mut sizes = Vec::new();
    let mut missing: BTreeSet<usize> = [limit - 1, limit, limit + 1].into();
    let count = payloads.len();
    for payload in payloads.cycle().take(20 * count) {
        if missing.is_empty() && sizes.len() >= count {
            break;
        }
        let stored = node.try_publish(v1::PublishRequest {
            payload: vec![0xff; payload].into(),
            ..message("t", "")
        });
        stored.await.expect("it is stored");
        let size = loop {
            match witness.frame().await {
                Frame::Event(event) => break response_bytes(&event),
                Frame::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        };
        missing.remove(&size);
        sizes.push(size);
    }
    assert!(missing.is_empty(), "{missing:?} not among {sizes:?}");
    sizes
}

/// Each event that fits arrives, and of each that does not a Gap.
async fn assert_has(stream: &mut Stream, limit: usize, sizes: &[usize]) {
    let mut next = 1;
    while next <= sizes.len() as u64 {
        let size = sizes[usize::try_from(next).expect("small") - 1];
        match stream.frame().await {
            Frame::Event(event) => {
                assert_eq!(event.sequence, next);
                assert_eq!(response_bytes(&event), size);
                assert!(size <= limit, "{size} is above {limit}");
            }
            Frame::Gap(gap) => {
                assert_eq!(gap.reason(), GapReason::TooLarge);
                assert_eq!((gap.after_sequence, gap.through_sequence), (next - 1, next));
                assert!(size > limit, "{size} is not above {limit}");
            }
            Frame::Progress(_) => continue,
            other => panic!("{other:?}"),
        }
        next += 1;
    }
}

#[tokio::test]
async fn an_event_arrives_exactly_when_the_clients_library_takes_its_message() {
    const LIMIT: usize = 4_096;
    let node = Node::start();
    let limit = u32::try_from(LIMIT).expect("small");
    let ask = |id: &str, filters: &[&str]| v1::SubscribeRequest {
        max_event_bytes: limit,
        ..request(id, filters)
    };
    // Alone, and two that are read for by one.
    let mut live = limited(&node, LIMIT, ask("live", &["t"])).await;
    let mut both = [
        limited(&node, LIMIT, ask("a", &[">"])).await,
        limited(&node, LIMIT, ask("b", &[">"])).await,
    ];
    let mut several = limited(&node, LIMIT, ask("c", &["t", "*"])).await;
    let sizes = publish_around(&node, LIMIT, (LIMIT - 60)..(LIMIT + 10)).await;
    for stream in both.iter_mut().chain([&mut live, &mut several]) {
        assert_has(stream, LIMIT, &sizes).await;
    }
    for filters in [&["t"][..], &["t", ">"]] {
        let history = v1::SubscribeRequest {
            start: Some(earliest()),
            ..ask("history", filters)
        };
        let mut history = limited(&node, LIMIT, history).await;
        assert_has(&mut history, LIMIT, &sizes).await;
    }
}

#[tokio::test]
async fn a_client_without_a_limit_gets_messages_up_to_the_default_of_grpc() {
    const LIMIT: usize = 4 << 20;
    let node = Node::start_with(|config| {
        config.event_bytes_max = 8 << 20;
        let mut all = super::support::history(">", 1_000_000);
        all.limits.bytes = 1 << 30;
        config.history = vec![all];
    });
    // The sizes between an event and its message, and those around them.
    let sizes = publish_around(&node, LIMIT, (LIMIT - 33)..(LIMIT - 25)).await;
    let history = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("s", &["t"])
    };
    let (mut stream, _) = node.open(history).await;
    assert_has(&mut stream, LIMIT, &sizes).await;
}

#[tokio::test]
async fn a_program_of_the_frozen_contract_gets_nothing_above_the_default_of_grpc() {
    let node = Node::start_with(|config| {
        config.event_bytes_max = 4 << 20;
        config.legacy_topics = vec![longlived_server::legacy_topic("t").expect("a filter")];
    });
    let mut client = node.legacy();
    let call = client.subscribe(longlived_api::protos::Request { id: 1 });
    let mut stream = within("headers", call).await.expect("let in").into_inner();
    // Each byte that is no text becomes a character of three.
    for (byte, bytes) in [(0xff, 1_400_000), (b'x', 1_400_000), (0xff, 1_390_000)] {
        let stored = node.try_publish(v1::PublishRequest {
            payload: vec![byte; bytes].into(),
            ..message("t", "")
        });
        stored.await.expect("it is stored");
    }
    for bytes in [1_400_000, 3 * 1_390_000] {
        let next = within("a response", stream.message()).await;
        let next = next
            .expect("the stream goes on")
            .expect("the stream goes on");
        assert_eq!(next.data.len(), bytes);
    }
}

#[tokio::test]
async fn a_page_of_history_is_no_larger_than_was_asked_for() {
    let node = Node::start_with(|config| {
        // Several classes, so that there are gaps between kept events.
        config.history = vec![super::support::history("gone", 1)];
    });
    let (_, welcome) = node.open(request("s", &["t"])).await;
    let epoch = welcome.position.expect("a position").epoch;
    for _ in 0..100 {
        node.publish("t", &"x".repeat(50)).await;
        node.publish("gone", "x").await;
    }
    for page_bytes in [1_u32, 60, 100, 150, 1_000, 2_000, 5_000] {
        let mut after = Some(position(epoch, 0));
        let mut events = 0;
        loop {
            let mut client =
                longlived_api::v1::topic_service_client::TopicServiceClient::new(node.channel());
            let page = client.read_history(v1::ReadHistoryRequest {
                subscriptions: ["t", "gone"].map(super::support::subscription).into(),
                after,
                page_bytes,
                ..v1::ReadHistoryRequest::default()
            });
            let page = within("a page", page).await.expect("a page").into_inner();
            let bytes = page.encoded_len();
            let alone = page.entries.len() == 1;
            assert!(
                bytes <= page_bytes as usize || alone,
                "{bytes} of {page_bytes}"
            );
            let is_event = |entry: &&v1::HistoryEntry| {
                matches!(entry.entry, Some(v1::history_entry::Entry::Event(_)))
            };
            events += page.entries.iter().filter(is_event).count();
            after = page.next;
            if page.end {
                break;
            }
        }
        assert_eq!(events, 101);
    }
}

#[tokio::test]
async fn a_library_whose_own_limit_is_lower_than_the_one_it_sent_fails_by_itself() {
    let node = Node::start();
    let mut stream = limited(&node, 4_096, request("s", &["t"])).await;
    node.publish("t", &"x".repeat(5_000)).await;
    let status = stream.end().await.expect_err("the library's own limit");
    assert_eq!(status.code(), Code::OutOfRange);
}
