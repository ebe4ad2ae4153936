//! Every bad input is refused with the field and the limit, and the server goes on.

use longlived_api::{protos, v1};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use super::support::{Node, Raw, assert_says, framed, request, within};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const UNSUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Unsubscribe";

#[tokio::test]
async fn a_bad_subscription_is_refused_with_field_and_limit() {
    let node = Node::start();
    let many: Vec<String> = (0..65).map(|n| format!("t.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let label = |name: &str, value: &str| v1::SubscribeRequest {
        labels: [(name.to_owned(), value.to_owned())].into(),
        ..request("s", &["t"])
    };
    let labels = (0..17).map(|n| (n.to_string(), String::new())).collect();
    let start = |at| v1::SubscribeRequest {
        start: Some(v1::Start { at }),
        ..request("s", &["t"])
    };
    let time = |seconds, nanos| {
        start(Some(v1::start::At::Time(prost_types::Timestamp {
            seconds,
            nanos,
        })))
    };
    let with = |change: fn(&mut v1::SubscribeRequest)| {
        let mut request = request("s", &["t"]);
        change(&mut request);
        request
    };
    let cases: Vec<(v1::SubscribeRequest, Vec<&str>)> = vec![
        (request("", &["t"]), vec!["`subscriber_id`", "empty", "128"]),
        (
            request(&"s".repeat(129), &["t"]),
            vec!["`subscriber_id`", "129", "128"],
        ),
        (request("a/b", &["t"]), vec!["`subscriber_id`", "'/'"]),
        (request("a b", &["t"]), vec!["`subscriber_id`", "' '"]),
        (request("ü", &["t"]), vec!["`subscriber_id`", "'ü'"]),
        (request("a\nb", &["t"]), vec!["`subscriber_id`", "'\\n'"]),
        (request("s", &[]), vec!["`subscriptions`", "0", "64"]),
        (request("s", &many), vec!["`subscriptions`", "65", "64"]),
        (request("s", &[""]), vec!["`topic_filter`", "empty"]),
        (
            request("s", &["t", "a..b"]),
            vec!["`topic_filter`", "empty token"],
        ),
        (request("s", &[".a"]), vec!["`topic_filter`", "empty token"]),
        (request("s", &["a."]), vec!["`topic_filter`", "empty token"]),
        (
            request("s", &["a.>.b"]),
            vec!["`topic_filter`", "`>`", "last"],
        ),
        (request("s", &["a.b*"]), vec!["`topic_filter`", "'*'"]),
        (request("s", &["a.>>"]), vec!["`topic_filter`", "'>'"]),
        (request("s", &["a.$sys"]), vec!["`topic_filter`", "'$'"]),
        (
            request("s", &[&"a".repeat(65)]),
            vec!["`topic_filter`", "65", "64"],
        ),
        (
            request("s", &[&vec!["a"; 17].join(".")]),
            vec!["`topic_filter`", "17", "16"],
        ),
        (
            v1::SubscribeRequest {
                labels,
                ..request("s", &["t"])
            },
            vec!["`labels`", "17", "16"],
        ),
        (label(&"l".repeat(65), ""), vec!["`labels`", "65", "64"]),
        (label("l", &"v".repeat(65)), vec!["`labels`", "65", "64"]),
        (start(None), vec!["`start.at`", "not set"]),
        (time(-1, 0), vec!["`start.time`", "1970"]),
        (time(0, -1), vec!["`start.time`"]),
        (time(0, 1_000_000_000), vec!["`start.time`"]),
        (time(i64::MAX, 0), vec!["`start.time`"]),
        (with(|it| it.gap_policy = 77), vec!["`gap_policy`", "77"]),
        (with(|it| it.slow_policy = -3), vec!["`slow_policy`", "-3"]),
        (
            with(|it| {
                it.max_silence = Some(prost_types::Duration {
                    seconds: -5,
                    nanos: 0,
                });
            }),
            vec!["`max_silence`"],
        ),
    ];
    for (request, says) in cases {
        let shown = format!("{request:?}");
        let Err(status) = node.subscribe(request).await else {
            panic!("let in: {shown}");
        };
        assert_says(&status, Code::InvalidArgument, &says);
    }
    node.open(request("s", &["t"])).await;
}

#[tokio::test]
async fn the_longest_of_everything_is_let_in() {
    let node = Node::start();
    let filters: Vec<String> = (0..64).map(|n| format!("t.{n}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let labels = (10..26).map(|n| (format!("{}{n}", "l".repeat(62)), "v".repeat(64)));
    let longest = v1::SubscribeRequest {
        labels: labels.collect(),
        ..request(&"A".repeat(128), &filters)
    };
    node.open(longest).await;
    node.open(request("aZ09._:-", &["Az_-9.*.>"])).await;
}

#[tokio::test]
async fn a_message_that_is_larger_than_its_limit_is_resource_exhausted() {
    let node = Node::start();
    let oversize = v1::SubscribeRequest {
        labels: [("l".repeat(1 << 20), String::new())].into(),
        ..request("s", &["t"])
    };
    let status = node.subscribe(oversize).await.err().expect("too large");
    assert_says(
        &status,
        Code::ResourceExhausted,
        &["SubscribeRequest", "limit", "bytes"],
    );
    node.open(request("s", &["t"])).await;
}

#[tokio::test]
async fn a_bad_unsubscribe_is_refused() {
    let node = Node::start();
    let long = "s".repeat(129);
    for (id, says) in [("", "empty"), ("a b", "' '"), (&long, "129")] {
        let status = node.unsubscribe(id).await.expect_err("refused");
        assert_says(&status, Code::InvalidArgument, &["`subscriber_id`", says]);
    }
}

#[tokio::test]
async fn a_body_that_is_no_message_ends_that_call_alone() {
    let node = Node::start();
    let (mut bystander, _) = node.open(request("bystander", &["t"])).await;
    let mut raw = Raw::connect(node.address).await;
    let open = framed(&request("s", &["t"]).encode_to_vec());
    let mut cut = open.to_vec();
    cut.truncate(open.len() - 1);
    for path in [
        SUBSCRIBE,
        "/longlived.v1.SubscriptionService/Session",
        UNSUBSCRIBE,
        "/longlived.v1.PublishService/Publish",
        "/longlived.v1.PublishService/BulkPublish",
        "/longlived.v1.PublishService/PublishStream",
        "/protos.Longlived/Subscribe",
    ] {
        for body in [
            // No protobuf.
            framed(b"\xff\xff\xff\xff").to_vec(),
            // A field of the wrong type, and text that is no UTF-8.
            framed(b"\x0a\x02\xff\xfe").to_vec(),
            // Shorter than its prefix says.
            cut.clone(),
            // A prefix that is cut off.
            vec![0, 0, 0],
            // "Compressed", with nothing said about how.
            vec![1, 0, 0, 0, 0],
            // No such flag.
            vec![9, 0, 0, 0, 0],
            // A length of 4 GiB.
            vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3],
        ] {
            if path.contains("protos") && body.starts_with(&[0, 0, 0, 0, 4, 0x0a]) {
                continue;
            }
            let mut reply = raw.call(path, &[], body.clone()).await;
            let (_, trailers) = reply.rest().await;
            let status = tonic::Status::from_header_map(&trailers).expect("a status");
            // Only a message that is too long for its limit is known to be one.
            let code = if body.starts_with(&[0, 0xff]) {
                Code::ResourceExhausted
            } else {
                Code::InvalidArgument
            };
            assert_says(&status, code, &["Request"]);
        }
    }
    let sequence = node.publish("t", "x").await;
    assert_eq!(bystander.event().await.sequence, sequence);
}

#[tokio::test]
async fn an_empty_request_is_named() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for (path, name) in [
        (SUBSCRIBE, "SubscribeRequest"),
        (UNSUBSCRIBE, "UnsubscribeRequest"),
        ("/longlived.v1.PublishService/Publish", "PublishRequest"),
        ("/protos.Longlived/Subscribe", "Request"),
        ("/protos.Longlived/Unsubscribe", "Request"),
    ] {
        let reply = raw.call(path, &[], bytes::Bytes::new()).await;
        let status = tonic::Status::from_header_map(&reply.headers).expect("a status");
        assert_says(&status, Code::InvalidArgument, &[name]);
    }
}

#[tokio::test]
async fn a_request_that_is_not_grpc_is_answered_in_http() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let (response, _) = raw.begin_with("GET", SUBSCRIBE, "application/grpc").await;
    let reply = super::support::RawReply::of(response).await;
    assert_eq!(reply.http_status, 405);
    let (response, _) = raw.begin_with("POST", SUBSCRIBE, "application/json").await;
    let reply = super::support::RawReply::of(response).await;
    assert_eq!(reply.http_status, 415);
}

#[tokio::test]
async fn bytes_that_are_not_http2_cost_their_own_connection_only() {
    let node = Node::start();
    let (mut bystander, _) = node.open(request("bystander", &["t"])).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut broken_frame = preface.to_vec();
    // SETTINGS with a length that is no multiple of six.
    broken_frame.extend([0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]);
    let mut data_on_zero = preface.to_vec();
    data_on_zero.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    data_on_zero.extend([0, 0, 1, 0, 0, 0, 0, 0, 0, 7]);
    let garbage: Vec<u8> = (0..4_096u32).map(|n| (n * 131 % 251) as u8).collect();
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(8),
        garbage,
        broken_frame,
        data_on_zero,
    ] {
        let mut socket = TcpStream::connect(node.address).await.expect("it listens");
        socket.write_all(&bytes).await.expect("it takes bytes");
        // Closed by the server: the end, or a reset.
        let mut answer = Vec::new();
        within("the end of a connection", socket.read_to_end(&mut answer))
            .await
            .ok();
    }
    // And ones that say nothing, or half of it.
    let _silent = TcpStream::connect(node.address).await.expect("it listens");
    let mut half = TcpStream::connect(node.address).await.expect("it listens");
    half.write_all(&preface[..10])
        .await
        .expect("it takes bytes");
    for _ in 0..3 {
        let sequence = node.publish("t", "x").await;
        assert_eq!(bystander.event().await.sequence, sequence);
    }
}

#[tokio::test]
async fn the_frozen_contract_takes_every_request_it_can_express() {
    let node = Node::start();
    for id in [0, 1, -1, i32::MAX, i32::MIN] {
        let stream = node.legacy().subscribe(protos::Request { id }).await;
        let _stream = stream.expect("let in");
        let ended = node.legacy().unsubscribe(protos::Request { id }).await;
        assert_eq!(ended.expect("it is live").into_inner().data, "");
    }
}
