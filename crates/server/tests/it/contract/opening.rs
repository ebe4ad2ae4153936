//! The begin of a stream of version 1: Welcome, missed events, and catching up.

use longlived_api::v1;
use tonic::Code;

use super::support::{
    Frame, GapPolicy, GapReason, Node, Outcome, Raw, assert_current_at, assert_says, earliest,
    framed, history, message, position, request, until,
};

/// `orders.>` keeps three events; ten were published, so 8 to 10 are kept.
async fn trimmed() -> (Node, u64) {
    let node = Node::start_with(|config| config.history = vec![history("orders.>", 3)]);
    for n in 1..=10 {
        assert_eq!(node.publish("orders.eu", &n.to_string()).await, n);
    }
    let epoch = epoch_of(&node).await;
    (node, epoch)
}

async fn epoch_of(node: &Node) -> u64 {
    let (_, welcome) = node.open(request("epoch", &["nothing"])).await;
    welcome.position.expect("a position").epoch
}

fn resuming(position: v1::Position, policy: GapPolicy) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        resume_after: Some(position),
        gap_policy: policy.into(),
        ..request("s", &["orders.>"])
    }
}

#[tokio::test]
async fn welcome_comes_first_and_has_the_promises() {
    let node = Node::start();
    node.publish("orders.eu", "before").await;
    let (mut stream, welcome) = node.open(request("s", &["orders.>"])).await;
    assert_eq!(welcome.outcome(), Outcome::New);
    let at = welcome.position.expect("a position");
    assert!((1..1 << 53).contains(&at.epoch), "{at:?}");
    assert_eq!(at.sequence, 1);
    assert_eq!(welcome.max_silence.map(|silence| silence.seconds), Some(20));
    assert_eq!(welcome.max_stream_age, None);
    assert_eq!(welcome.credential_expires, None);
    assert_ne!(welcome.session_id, "");
    assert_ne!(welcome.node_id, "");
    assert_eq!(welcome.server_version, env!("CARGO_PKG_VERSION"));

    node.publish("orders.eu", "after").await;
    let event = stream.event().await;
    assert_eq!(&event.payload[..], b"after");
    let (_, again) = node.open(request("t", &["orders.>"])).await;
    assert_ne!(again.session_id, welcome.session_id);
    assert_eq!(again.node_id, welcome.node_id);
}

#[tokio::test]
async fn a_resume_that_missed_nothing_delivers_the_rest_and_then_is_current() {
    let node = Node::start();
    for n in ["1", "2", "3"] {
        node.publish("orders.eu", n).await;
    }
    let epoch = epoch_of(&node).await;
    let resume = resuming(position(epoch, 1), GapPolicy::Fail);
    let (mut stream, welcome) = node.open(resume).await;
    assert_eq!(welcome.outcome(), Outcome::Resumed);
    assert_eq!(welcome.position, Some(position(epoch, 1)));
    assert_eq!(stream.events(2).await, [2, 3]);
    assert_current_at(&mut stream, 3).await;
    node.publish("orders.eu", "4").await;
    assert_eq!(stream.event().await.sequence, 4);
}

#[tokio::test]
async fn a_resume_at_the_head_is_current_at_once_even_if_nothing_matches() {
    let node = Node::start();
    for _ in 0..5 {
        node.publish("elsewhere", "x").await;
    }
    let epoch = epoch_of(&node).await;
    for after in [0, 2, 5] {
        let (mut stream, welcome) = node
            .open(resuming(position(epoch, after), GapPolicy::Earliest))
            .await;
        assert_eq!(welcome.outcome(), Outcome::Resumed);
        assert_current_at(&mut stream, 5).await;
    }
}

#[tokio::test]
async fn events_that_retention_removed_are_a_gap_and_then_the_kept_ones_come() {
    let (node, epoch) = trimmed().await;
    for policy in [GapPolicy::Unspecified, GapPolicy::Earliest] {
        let (mut stream, welcome) = node.open(resuming(position(epoch, 2), policy)).await;
        assert_eq!(welcome.outcome(), Outcome::Reset);
        assert_eq!(welcome.position, Some(position(epoch, 2)));
        let gap = stream.gap().await;
        assert_eq!(gap.reason(), GapReason::Trimmed);
        assert_eq!((gap.after_sequence, gap.through_sequence), (2, 7));
        assert!(matches!(gap.events, 0 | 5), "{gap:?}");
        assert_eq!(gap.through_epoch, 0, "unchanged");
        let event = stream.event().await;
        assert_eq!((event.sequence, &event.payload[..]), (8, &b"8"[..]));
        assert_eq!(event.previous_sequence, 7, "not above the gap's end");
        assert_eq!(stream.events(2).await, [9, 10]);
        assert_current_at(&mut stream, 10).await;
    }
}

#[tokio::test]
async fn with_latest_the_gap_reaches_to_the_head() {
    let (node, epoch) = trimmed().await;
    let (mut stream, welcome) = node
        .open(resuming(position(epoch, 2), GapPolicy::Latest))
        .await;
    assert_eq!(welcome.outcome(), Outcome::Reset);
    let gap = stream.gap().await;
    assert_eq!(gap.reason(), GapReason::Trimmed);
    assert_eq!((gap.after_sequence, gap.through_sequence), (2, 10));
    assert_current_at(&mut stream, 10).await;
    node.publish("orders.eu", "11").await;
    assert_eq!(stream.event().await.sequence, 11);
}

#[tokio::test]
async fn with_fail_the_range_that_is_kept_is_named() {
    let (node, epoch) = trimmed().await;
    for asked in [
        position(epoch, 2),
        position(epoch ^ 1, 2),
        position(epoch, 99),
    ] {
        let refused = node.subscribe(resuming(asked, GapPolicy::Fail)).await;
        let status = refused.err().expect("it cannot be had");
        assert_eq!(status.code(), Code::OutOfRange);
        let text = status.message();
        assert!(text.contains("to 10 of epoch"), "{text}");
        assert!(text.contains(&epoch.to_string()), "{text}");
        if asked.sequence == 2 {
            assert!(text.contains(" 8 to 10"), "{text}");
        }
    }
    let kept = node.open(resuming(position(epoch, 7), GapPolicy::Fail));
    assert_eq!(kept.await.1.outcome(), Outcome::Resumed);
}

#[tokio::test]
async fn only_matching_events_that_are_gone_are_a_gap() {
    let (node, epoch) = trimmed().await;
    node.publish("other", "kept").await;
    let resume = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 2)),
        gap_policy: GapPolicy::Fail.into(),
        ..request("s", &["other"])
    };
    let (mut stream, welcome) = node.open(resume).await;
    assert_eq!(welcome.outcome(), Outcome::Resumed);
    assert_eq!(stream.event().await.sequence, 11);
}

#[tokio::test]
async fn a_position_of_another_epoch_is_a_gap_into_this_one() {
    let (node, epoch) = trimmed().await;
    for (policy, through) in [(GapPolicy::Earliest, 7), (GapPolicy::Latest, 10)] {
        let (mut stream, welcome) = node.open(resuming(position(epoch ^ 1, 5), policy)).await;
        assert_eq!(welcome.outcome(), Outcome::Reset);
        assert_eq!(welcome.position, Some(position(epoch ^ 1, 5)));
        assert_eq!(welcome.epoch, epoch);
        let gap = stream.gap().await;
        assert_eq!(gap.reason(), GapReason::EpochChanged);
        assert_eq!((gap.after_sequence, gap.through_sequence), (5, through));
        assert_eq!((gap.events, gap.through_epoch), (0, epoch));
        if policy == GapPolicy::Earliest {
            assert_eq!(stream.events(3).await, [8, 9, 10]);
        }
        assert_current_at(&mut stream, 10).await;
    }
}

#[tokio::test]
async fn a_position_that_was_never_written_is_a_gap_back_to_the_head() {
    let (node, epoch) = trimmed().await;
    for policy in [GapPolicy::Earliest, GapPolicy::Latest] {
        let (mut stream, welcome) = node.open(resuming(position(epoch, 99), policy)).await;
        assert_eq!(welcome.outcome(), Outcome::Reset);
        let at = welcome.position.expect("a position");
        assert!(at.sequence <= 10, "nothing beyond the visible end is named");
        let gap = stream.gap().await;
        assert_eq!(gap.reason(), GapReason::Future);
        assert_eq!((gap.after_sequence, gap.through_sequence), (99, 10));
        assert_current_at(&mut stream, 10).await;
    }
}

#[tokio::test]
async fn an_event_larger_than_the_client_takes_is_a_gap_live_and_from_history() {
    let node = Node::start();
    let small = v1::SubscribeRequest {
        max_event_bytes: 200,
        ..request("live", &["t"])
    };
    let (mut live, _) = node.open(small.clone()).await;
    node.publish("t", "a").await;
    node.publish("t", &"b".repeat(201)).await;
    node.publish("t", "c").await;
    let replay = v1::SubscribeRequest {
        subscriber_id: "replay".to_owned(),
        start: Some(earliest()),
        // The event that is too large stays a gap under every policy for missing events.
        gap_policy: GapPolicy::Fail.into(),
        ..small
    };
    let (mut replay, _) = node.open(replay).await;
    for stream in [&mut live, &mut replay] {
        assert_eq!(stream.event().await.sequence, 1);
        let gap = stream.gap().await;
        assert_eq!(gap.reason(), GapReason::TooLarge);
        assert_eq!((gap.after_sequence, gap.through_sequence), (1, 2));
        assert_eq!((gap.events, gap.through_epoch), (1, 0));
        assert_eq!(stream.event().await.sequence, 3);
    }
}

#[tokio::test]
async fn an_event_of_exactly_the_size_the_client_takes_is_delivered() {
    let node = Node::start();
    let (mut any, _) = node.open(request("any", &["t"])).await;
    node.publish("t", &"x".repeat(300)).await;
    // The whole response counts, as the client's library counts it.
    let response = v1::SubscribeResponse {
        frame: Some(Frame::Event(any.event().await)),
    };
    let size = prost::Message::encoded_len(&response);
    for (bytes, fits) in [(size, true), (size - 1, false)] {
        let limited = v1::SubscribeRequest {
            max_event_bytes: u32::try_from(bytes).expect("a small event"),
            start: Some(earliest()),
            ..request("limited", &["t"])
        };
        let (mut stream, _) = node.open(limited).await;
        let frame = stream.frame().await;
        assert_eq!(matches!(frame, Frame::Event(_)), fits, "{bytes}: {frame:?}");
    }
}

#[tokio::test]
async fn each_event_names_the_one_before_it_on_its_topic() {
    let node = Node::start();
    let (mut stream, _) = node.open(request("s", &["a", "b"])).await;
    for topic in ["a", "a", "b", "a", "b", "b"] {
        node.publish(topic, "x").await;
    }
    let mut chain = Vec::new();
    for _ in 0..6 {
        let event = stream.event().await;
        chain.push((event.topic, event.sequence, event.previous_sequence));
    }
    let expected = [
        ("a", 1, 0),
        ("a", 2, 1),
        ("b", 3, 0),
        ("a", 4, 2),
        ("b", 5, 3),
        ("b", 6, 5),
    ];
    assert_eq!(
        chain,
        expected.map(|(topic, at, before)| (topic.to_owned(), at, before))
    );
}

#[tokio::test]
async fn earliest_begins_with_the_first_that_is_kept_without_a_gap() {
    let (node, _) = trimmed().await;
    let from_start = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("s", &["orders.>"])
    };
    let (mut stream, welcome) = node.open(from_start).await;
    assert_eq!(welcome.outcome(), Outcome::New);
    assert_eq!(stream.events(3).await, [8, 9, 10]);
    assert_current_at(&mut stream, 10).await;
}

#[tokio::test]
async fn earliest_gives_all_kept_events_under_every_gap_policy() {
    // Kept for different times: `a` has lost more than `b`.
    let node = Node::start_with(|config| config.history = vec![history("a", 1)]);
    for topic in ["a", "b", "a", "a", "b"] {
        node.publish(topic, "x").await;
    }
    for policy in [GapPolicy::Earliest, GapPolicy::Latest, GapPolicy::Fail] {
        let from_start = v1::SubscribeRequest {
            start: Some(earliest()),
            gap_policy: policy.into(),
            ..request("s", &["a", "b"])
        };
        let (mut stream, welcome) = node.open(from_start).await;
        assert_eq!(welcome.outcome(), Outcome::New);
        let mut sequences = Vec::new();
        loop {
            match stream.frame().await {
                Frame::Event(event) => sequences.push(event.sequence),
                Frame::Gap(_) => {}
                Frame::Progress(progress) => break assert!(progress.current),
                other => panic!("{policy:?}: {other:?}"),
            }
        }
        assert_eq!(sequences, [2, 4, 5], "{policy:?}");
    }
}

#[tokio::test]
async fn a_time_begins_with_the_first_event_at_or_after_it() {
    let node = Node::start();
    let (mut live, _) = node.open(request("live", &["t"])).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        node.publish("t", "x").await;
        times.push(live.event().await.publish_time.expect("a time"));
    }
    assert!(times[0].nanos != times[1].nanos && times[1].nanos != times[2].nanos);
    for (index, time) in times.iter().enumerate() {
        let from_time = v1::SubscribeRequest {
            start: Some(v1::Start {
                at: Some(v1::start::At::Time(*time)),
            }),
            ..request("s", &["t"])
        };
        let (mut stream, welcome) = node.open(from_time).await;
        assert_eq!(welcome.outcome(), Outcome::New);
        assert_eq!(stream.event().await.sequence, index as u64 + 1);
    }
}

#[tokio::test]
async fn resume_after_wins_over_start() {
    let node = Node::start();
    for _ in 0..3 {
        node.publish("t", "x").await;
    }
    let epoch = epoch_of(&node).await;
    let both = v1::SubscribeRequest {
        resume_after: Some(position(epoch, 2)),
        start: Some(earliest()),
        ..request("s", &["t"])
    };
    let (mut stream, welcome) = node.open(both).await;
    assert_eq!(welcome.outcome(), Outcome::Resumed);
    assert_eq!(stream.event().await.sequence, 3);
}

#[tokio::test]
async fn an_event_carries_everything_that_was_published() {
    let node = Node::start();
    let (mut stream, _) = node.open(request("s", &["t"])).await;
    let published = v1::PublishRequest {
        topic: "t".to_owned(),
        payload: b"\x00\xff".to_vec().into(),
        key: "k".to_owned(),
        headers: [("name".to_owned(), "välue".to_owned())].into(),
        message_id: "m".to_owned(),
        deleted: true,
    };
    node.try_publish(published.clone())
        .await
        .expect("it is stored");
    let event = stream.event().await;
    assert_eq!(event.topic, "t");
    assert_eq!(event.payload, published.payload);
    assert_eq!(event.key, "k");
    assert_eq!(event.headers, published.headers);
    assert!(event.deleted);
    assert!(event.publish_time.is_some());
}

/// A reader that stood still while history moved on past it.
async fn overtaken(policy: GapPolicy) -> (super::support::RawReply, Node) {
    let node = Node::start_with(|config| {
        config.history = vec![history("t", 4)];
        config.log.tail_bytes_max = 1 << 10;
    });
    let mut raw = Raw::connect(node.address).await;
    let subscribe = v1::SubscribeRequest {
        gap_policy: policy.into(),
        ..request("s", &["t"])
    };
    let body = framed(&prost::Message::encode_to_vec(&subscribe));
    let path = "/longlived.v1.SubscriptionService/Subscribe";
    let mut reply = raw.call(path, &[], body).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    // Beyond the 64 KiB of its window it cannot be sent anything.
    let payload = "x".repeat(16 << 10);
    for _ in 0..20 {
        let stored = node.try_publish(message("t", &payload)).await;
        stored.expect("a reader that stands still holds up nobody");
    }
    (reply, node)
}

#[tokio::test]
async fn a_reader_that_history_overtook_is_told_of_the_gap_and_goes_on() {
    let (mut reply, _node) = overtaken(GapPolicy::Earliest).await;
    let mut at = 0;
    let mut gaps = 0;
    while at < 20 {
        match reply.frame().await {
            Frame::Event(event) => {
                assert_eq!(event.sequence, at + 1, "nothing is missing without a word");
                at = event.sequence;
            }
            Frame::Gap(gap) => {
                assert_eq!(gap.reason(), GapReason::Trimmed);
                assert_eq!((gap.after_sequence, gap.through_sequence), (at, 16));
                at = gap.through_sequence;
                gaps += 1;
            }
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gaps, 1);
}

#[tokio::test]
async fn a_reader_that_history_overtook_ends_out_of_range_under_fail() {
    let (mut reply, _node) = overtaken(GapPolicy::Fail).await;
    let (_, trailers) = reply.rest().await;
    let status = tonic::Status::from_header_map(&trailers).expect("a status");
    assert_says(&status, Code::OutOfRange, &["17 to 20"]);
}

#[tokio::test]
async fn the_refusal_of_a_position_is_trailers_only() {
    let (node, epoch) = trimmed().await;
    let mut raw = Raw::connect(node.address).await;
    let body = prost::Message::encode_to_vec(&resuming(position(epoch, 1), GapPolicy::Fail));
    let path = "/longlived.v1.SubscriptionService/Subscribe";
    let reply = raw.call(path, &[], framed(&body)).await;
    assert!(reply.headers_only);
    assert_eq!(reply.header("grpc-status"), Some("11"));
    let status = tonic::Status::from_header_map(&reply.headers).expect("a status");
    assert_says(&status, Code::OutOfRange, &["8 to 10"]);
}

#[tokio::test]
async fn ids_that_subscribe_once_and_leave_keep_nobody_out() {
    const KNOWN_MAX: usize = 5;
    let node = Node::start_with(|config| config.subscribers_max = KNOWN_MAX);
    let (stays, _) = node.open(request("stays", &["t"])).await;
    for number in 0..10 * KNOWN_MAX {
        // One that has an instance is expected back for a while.
        let once = v1::SubscribeRequest {
            instance: number as u64 + 1,
            ..request(&format!("once-{number}"), &["t"])
        };
        let (stream, _) = until("another is let in", async || {
            let mut stream = node.subscribe(once.clone()).await.ok()?;
            let welcome = stream.welcome().await;
            Some((stream, welcome))
        })
        .await;
        drop(stream);
    }
    let (_honest, _) = until("an honest one is let in", async || {
        let mut stream = node.subscribe(request("honest", &["t"])).await.ok()?;
        let welcome = stream.welcome().await;
        Some((stream, welcome))
    })
    .await;
    node.unsubscribe("stays").await.expect("it is still live");
    drop(stays);
}
