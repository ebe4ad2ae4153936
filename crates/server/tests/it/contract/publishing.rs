//! The calls that publish, and their promises about stored messages.

use longlived_api::v1;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::support::{
    Frame, Node, Raw, RawReply, assert_says, earliest, framed, message, request, text, within,
};

const BULK: &str = "/longlived.v1.PublishService/BulkPublish";
const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const STREAM: &str = "/longlived.v1.PublishService/PublishStream";

fn with_id(topic: &str, payload: &str, id: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        message_id: id.to_owned(),
        ..message(topic, payload)
    }
}

/// The payloads that are stored under topics that match.
async fn stored(node: &Node, filter: &str) -> Vec<String> {
    let all = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("reader", &[filter])
    };
    let (mut stream, _) = node.open(all).await;
    let mut payloads = Vec::new();
    loop {
        match stream.frame().await {
            Frame::Event(event) => {
                payloads.push(String::from_utf8(event.payload.to_vec()).expect("text"));
            }
            Frame::Progress(progress) if progress.current => return payloads,
            Frame::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn publish_answers_position_and_durability() {
    let node = Node::start();
    let (_, welcome) = node.open(request("s", &["t"])).await;
    for n in 1..=3 {
        let answer = node.try_publish(message("t", "x")).await.expect("stored");
        let position = answer.position.expect("a position");
        assert_eq!(position.sequence, n);
        assert_eq!(position.epoch, welcome.position.expect("a position").epoch);
        assert_eq!(answer.durability(), v1::Durability::Memory);
        assert!(!answer.duplicate);
    }
}

#[tokio::test]
async fn one_message_id_on_one_topic_is_stored_once() {
    let node = Node::start();
    for call in 0..3 {
        let answer = node.try_publish(with_id("t", "x", "id-1")).await;
        let answer = answer.expect("stored or known");
        assert_eq!(answer.duplicate, call > 0);
        assert_eq!(answer.position.expect("of the first").sequence, 1);
    }
    let other_topic = node.try_publish(with_id("u", "x", "id-1")).await;
    assert!(!other_topic.expect("stored").duplicate);
    let other_id = node.try_publish(with_id("t", "x", "id-2")).await;
    assert!(!other_id.expect("stored").duplicate);
    let no_id = node.try_publish(message("t", "x")).await;
    assert!(!no_id.expect("stored").duplicate);
    assert_eq!(stored(&node, "t").await.len(), 3);
}

#[tokio::test]
async fn one_message_id_sent_at_once_is_stored_once() {
    let node = Node::start();
    let mut client = node.publishing();
    let same = vec![with_id("t", "x", "id"); 500];
    let answer = client.bulk_publish(tokio_stream::iter(same)).await;
    let answer = answer.expect("all are taken").into_inner();
    assert_eq!((answer.published, answer.duplicates), (1, 499));
    assert_eq!(answer.last_position.expect("a position").sequence, 1);
    assert_eq!(stored(&node, "t").await, ["x"]);
}

#[tokio::test]
async fn publish_stream_answers_in_request_order_whether_read_early_or_late() {
    let node = Node::start();
    let count = 1_500_u64;

    // Everything is said before anything is read.
    let requests = (0..count).map(|n| message("t", &n.to_string()));
    let requests: Vec<_> = requests.collect();
    let mut client = node.publishing();
    let answers = client.publish_stream(tokio_stream::iter(requests)).await;
    let mut answers = answers.expect("it answers").into_inner();
    for n in 1..=count {
        let answer = within("an answer", answers.message()).await;
        let answer = answer.expect("no refusal").expect("one for each");
        assert_eq!(answer.position.expect("a position").sequence, n);
    }
    assert!(
        within("the end", answers.message())
            .await
            .expect("OK")
            .is_none()
    );

    // One at a time, each answered before the next is said.
    let (say, said) = mpsc::channel(1);
    let answers = client.publish_stream(ReceiverStream::new(said)).await;
    let mut answers = answers
        .expect("headers before the first message")
        .into_inner();
    for n in 1..=20 {
        say.send(message("t", "x")).await.expect("the call stands");
        let answer = within("an answer", answers.message()).await;
        let answer = answer.expect("no refusal").expect("one for each");
        assert_eq!(answer.position.expect("a position").sequence, count + n);
    }
    drop(say);
    assert!(
        within("the end", answers.message())
            .await
            .expect("OK")
            .is_none()
    );
    assert_eq!(stored(&node, "t").await.len() as u64, count + 20);
}

#[tokio::test]
async fn the_first_refusal_ends_a_publish_stream_and_nothing_after_it_is_stored() {
    let node = Node::start();
    let mut requests: Vec<_> = (0..700).map(|n| message("t", &n.to_string())).collect();
    requests.push(message("not..a.name", "refused"));
    requests.extend((0..700).map(|n| message("after", &n.to_string())));
    let mut client = node.publishing();
    let answers = client.publish_stream(tokio_stream::iter(requests)).await;
    let mut answers = answers.expect("it answers").into_inner();
    let mut answered = 0;
    let status = loop {
        match within("an answer or the end", answers.message()).await {
            Ok(Some(_)) => answered += 1,
            Ok(None) => panic!("it was refused"),
            Err(status) => break status,
        }
    };
    assert_says(&status, Code::InvalidArgument, &["`topic`", "token"]);
    assert_eq!(answered, 700, "all before it were answered");
    assert_eq!(stored(&node, "t").await.len(), 700);
    assert!(stored(&node, "after").await.is_empty());
}

#[tokio::test]
async fn a_refusal_by_the_log_ends_a_publish_stream_the_same_way() {
    let node = Node::start_with(|config| config.topics_max = 3);
    let topics = ["a", "b", "a", "c", "b", "d", "a", "b"];
    let requests = topics.map(|topic| message(topic, "x"));
    // In one group, and one after the other.
    for (round, in_flight_max) in [topics.len(), 1].into_iter().enumerate() {
        let (say, said) = mpsc::channel(topics.len());
        let mut client = node.publishing();
        let answers = client.publish_stream(ReceiverStream::new(said)).await;
        let mut answers = answers.expect("it answers").into_inner();
        let mut unsaid = requests.iter().cloned();
        for request in unsaid.by_ref().take(in_flight_max) {
            say.send(request).await.expect("there is room for all");
        }
        let mut answered = 0;
        let status = loop {
            match within("an answer or the end", answers.message()).await {
                Ok(Some(_)) => answered += 1,
                Ok(None) => panic!("it was refused"),
                Err(status) => break status,
            }
            if let Some(request) = unsaid.next() {
                say.send(request).await.expect("the call goes on");
            }
        };
        assert_says(&status, Code::ResourceExhausted, &["topics_max", "3"]);
        assert_eq!(answered, 5);
        assert_eq!(stored(&node, ">").await.len(), 5 * (round + 1));
    }
}

#[tokio::test]
async fn bulk_publish_counts_the_published_messages() {
    let node = Node::start();
    let mut requests: Vec<_> = (0..3_000).map(|n| message("t", &n.to_string())).collect();
    requests.push(with_id("t", "x", "id"));
    requests.push(with_id("t", "x", "id"));
    let mut client = node.publishing();
    let answer = client.bulk_publish(tokio_stream::iter(requests)).await;
    let answer = answer.expect("all are stored").into_inner();
    assert_eq!((answer.published, answer.duplicates), (3_001, 1));
    assert_eq!(answer.last_position.expect("a position").sequence, 3_001);
    assert_eq!(answer.durability(), v1::Durability::Memory);
    let nothing = client
        .bulk_publish(tokio_stream::iter(Vec::new()))
        .await
        .expect("nothing is no fault")
        .into_inner();
    assert_eq!((nothing.published, nothing.last_position), (0, None));
}

#[tokio::test]
async fn a_refused_bulk_publish_says_in_its_trailer_how_many_were_stored() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for (round, stored_before) in [0_u64, 5, 300].into_iter().enumerate() {
        let mut said = Vec::new();
        for n in 0..stored_before {
            said.extend(framed(&message("t", &n.to_string()).encode_to_vec()));
        }
        said.extend(framed(&message("", "refused").encode_to_vec()));
        let after = format!("after.{round}");
        said.extend(framed(&message(&after, "x").encode_to_vec()));
        let mut reply = raw.call(BULK, &[], said).await;
        let (data, trailers) = reply.rest().await;
        assert!(data.is_empty());
        assert_eq!(text(&trailers, "grpc-status"), Some("3"));
        let count = text(&trailers, "longlived-published");
        assert_eq!(count, Some(stored_before.to_string().as_str()));
        assert!(stored(&node, &after).await.is_empty());
    }
    assert_eq!(stored(&node, "t").await.len(), 305);
}

#[tokio::test]
async fn a_publisher_that_goes_on_talking_after_the_refusal_hears_of_it() {
    let node = Node::start();
    for path in [BULK, STREAM] {
        let mut raw = Raw::connect(node.address).await;
        let (response, mut stream) = raw.begin(path, &[]).await;
        let refused = framed(&message("*", "x").encode_to_vec());
        stream.send_data(refused, false).expect("the stream stands");
        let good = framed(&message("t", "x").encode_to_vec());
        for _ in 0..50 {
            // It may be over by then.
            stream.send_data(good.clone(), false).ok();
            tokio::task::yield_now().await;
        }
        let mut reply = RawReply::of(response).await;
        let (_, trailers) = reply.rest().await;
        assert_eq!(text(&trailers, "grpc-status"), Some("3"), "{path}");
        assert!(stored(&node, "t").await.is_empty());
    }
}

#[tokio::test]
async fn an_invalid_message_is_refused_and_its_field_is_named() {
    let node = Node::start();
    let large = "x".repeat(1 << 20);
    let deleted = v1::PublishRequest {
        deleted: true,
        ..message("t", "x")
    };
    let cases = [
        (
            message("", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "empty"],
        ),
        (
            message("a..b", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "token"],
        ),
        (
            message("a.*", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "wildcard"],
        ),
        (
            message(">", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "wildcard"],
        ),
        (
            message("a b", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "' '"],
        ),
        (
            message("ä", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "'ä'"],
        ),
        (
            message(&"a".repeat(65), "x"),
            Code::InvalidArgument,
            vec!["`topic`", "65", "64"],
        ),
        (
            message(&vec!["a"; 17].join("."), "x"),
            Code::InvalidArgument,
            vec!["`topic`", "17", "16"],
        ),
        (
            message("$sys.x", "x"),
            Code::PermissionDenied,
            vec!["`topic`", "$sys"],
        ),
        (
            message("$sys", "x"),
            Code::PermissionDenied,
            vec!["`topic`", "$sys"],
        ),
        (
            message("a.$sys", "x"),
            Code::InvalidArgument,
            vec!["`topic`", "'$'"],
        ),
        (deleted, Code::InvalidArgument, vec!["`deleted`", "`key`"]),
        (
            with_id("t", "x", &"i".repeat(257)),
            Code::InvalidArgument,
            vec!["`message_id`", "257", "256"],
        ),
        (
            message("t", &large),
            Code::ResourceExhausted,
            vec!["event", "1048576"],
        ),
        (
            message("t", &large.repeat(2)),
            Code::ResourceExhausted,
            vec!["PublishRequest", "limit", "bytes"],
        ),
        (
            v1::PublishRequest {
                key: large.clone(),
                ..message("t", "")
            },
            Code::ResourceExhausted,
            vec!["event", "1048576"],
        ),
        (
            v1::PublishRequest {
                headers: [(large.clone(), String::new())].into(),
                ..message("t", "")
            },
            Code::ResourceExhausted,
            vec!["event", "1048576"],
        ),
    ];
    for (request, code, says) in cases {
        let status = node.try_publish(request).await.expect_err("refused");
        assert_says(&status, code, &says);
    }
    assert_eq!(node.publish("t", "the server goes on").await, 1);
}

#[tokio::test]
async fn an_event_just_within_the_limit_is_stored_and_delivered() {
    let node = Node::start();
    let (mut stream, _) = node.open(request("s", &["t"])).await;
    let payload = "x".repeat((1 << 20) - 64);
    node.publish("t", &payload).await;
    assert_eq!(stream.event().await.payload, payload);
}

#[tokio::test]
async fn the_limit_of_an_event_can_be_configured_and_is_named() {
    let node = Node::start_with(|config| config.event_bytes_max = 1_000);
    node.publish("t", &"x".repeat(900)).await;
    let status = node.try_publish(message("t", &"x".repeat(1_000))).await;
    let status = status.expect_err("too large");
    assert_says(
        &status,
        Code::ResourceExhausted,
        &["event_bytes_max", "1000"],
    );
}

#[tokio::test]
async fn one_topic_too_many_is_refused_and_known_ones_go_on() {
    let node = Node::start_with(|config| config.topics_max = 2);
    node.publish("a", "x").await;
    node.publish("b", "x").await;
    let status = node.try_publish(message("c", "x")).await;
    let status = status.expect_err("no room");
    assert_says(
        &status,
        Code::ResourceExhausted,
        &["`topic`", "topics_max", "2"],
    );
    assert_eq!(node.publish("a", "x").await, 3);
}

#[tokio::test]
async fn a_publish_that_expired_before_its_turn_is_not_stored() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for timeout in ["0n", "1n", "0H", "0S"] {
        let body = framed(&message("t", "late").encode_to_vec());
        for path in [PUBLISH, BULK, STREAM] {
            let headers = [("grpc-timeout", timeout)];
            let mut reply = raw.call(path, &headers, body.clone()).await;
            let (_, trailers) = reply.rest().await;
            assert_eq!(
                text(&trailers, "grpc-status"),
                Some("4"),
                "{path} {timeout}"
            );
        }
    }
    assert_eq!(node.publish("t", "in time").await, 1);
}

#[tokio::test]
async fn a_publish_in_time_is_stored_with_any_deadline() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for timeout in ["10S", "99999999H", "60000000u"] {
        let body = framed(&message("t", "x").encode_to_vec());
        let mut reply = raw.call(PUBLISH, &[("grpc-timeout", timeout)], body).await;
        let (_, trailers) = reply.rest().await;
        assert_eq!(text(&trailers, "grpc-status"), Some("0"), "{timeout}");
    }
    assert_eq!(stored(&node, "t").await.len(), 3);
}

#[tokio::test]
async fn each_event_is_visible_by_the_time_its_publisher_is_answered() {
    let node = Node::start();
    for n in 1..=50 {
        node.publish("t", &n.to_string()).await;
        let (_, welcome) = node.open(request("s", &["t"])).await;
        assert_eq!(welcome.position.expect("a position").sequence, n);
    }
}
