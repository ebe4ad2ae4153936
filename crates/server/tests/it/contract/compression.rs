//! Events that are compressed on their way to subscribers that ask for it.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr};

use longlived_api::{protos, v1};
use longlived_server::Compression;
use longlived_topic::TopicFilter;
use prost::Message as _;
use tonic::{Code, codec::CompressionEncoding};

use super::{
    metrics::scrape,
    support::{
        Frame, GapReason, Node, Raw, RawReply, Stream, earliest, framed, request, spawn, within,
    },
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const LEGACY: &str = "/protos.Longlived/Subscribe";
const ASKS: &str = "longlived-compression";
const GZIP: &str = "longlived_compressed_events_total{encoding=\"gzip\"}";
const ZSTD: &str = "longlived_compressed_events_total{encoding=\"zstd\"}";
/// The bytes of an event beside its payload, at most: topic, sequences, time, tags and lengths.
const BESIDE: usize = 60;
/// Length of the payload that no encoding makes smaller.
const NOISE_BYTES: usize = 1_500;

/// JSON of at least this number of bytes.
fn json(bytes: usize) -> String {
    let mut text = String::from("[");
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        let customer = number * 7919 % 1000;
        write!(
            text,
            "{{\"order\":{number},\"customer\":\"c-{customer}\"}},"
        )
        .expect("a String takes everything");
    }
    text + "]"
}

/// The payloads of these tests: on both sides of 1 KiB, and one that does not get smaller.
fn payloads() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    });
    vec![
        b"small".to_vec(),
        json(1_024).into(),
        json(900).into(),
        json(100_000).into(),
        noise.take(NOISE_BYTES).collect(),
        Vec::new(),
        json(4_096).into(),
    ]
}

async fn publish(node: &Node, topic: &str) -> Vec<Vec<u8>> {
    let payloads = payloads();
    for payload in &payloads {
        let message = v1::PublishRequest {
            topic: topic.to_owned(),
            payload: payload.clone().into(),
            ..v1::PublishRequest::default()
        };
        node.try_publish(message).await.expect("it is stored");
    }
    payloads
}

/// The next message of a raw stream and its flag.
async fn flagged(reply: &mut RawReply) -> (u8, Vec<u8>) {
    let prefix = reply.bytes(5).await;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0], reply.bytes(length as usize).await.to_vec())
}

/// Asks for the encodings that it accepts.
async fn open(raw: &mut Raw, path: &str, accepts: &[&str], message: &[u8]) -> RawReply {
    open_asking(raw, path, accepts, accepts, message).await
}

async fn open_asking(
    raw: &mut Raw,
    path: &str,
    asks: &[&str],
    accepts: &[&str],
    message: &[u8],
) -> RawReply {
    let asks = asks.iter().map(|asks| (ASKS, *asks));
    let accepts = (accepts.iter()).map(|accepts| ("grpc-accept-encoding", *accepts));
    let headers: Vec<_> = asks.chain(accepts).collect();
    raw.call(path, &headers, framed(message)).await
}

/// A request of a stock client that asks for both encodings, and accepts the given ones.
fn asking<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let both = tonic::metadata::MetadataValue::from_static("zstd,gzip");
    request.metadata_mut().insert(ASKS, both);
    request
}

fn plain_event(message: &[u8]) -> v1::Event {
    let response = v1::SubscribeResponse::decode(message).expect("a SubscribeResponse");
    match response.frame {
        Some(Frame::Event(event)) => event,
        other => panic!("an event was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn stock_clients_read_the_same_events_live_and_from_history_however_they_are_compressed() {
    let node = Node::start();
    let accepted: [&[CompressionEncoding]; 4] = [
        &[],
        &[CompressionEncoding::Gzip],
        &[CompressionEncoding::Zstd],
        &[CompressionEncoding::Gzip, CompressionEncoding::Zstd],
    ];
    let subscribe = async |id: String, accepts: &[CompressionEncoding], start| {
        let mut client = node.subscriptions();
        for encoding in accepts {
            client = client.accept_compressed(*encoding);
        }
        let request = v1::SubscribeRequest {
            start,
            ..request(&id, &["t", "t.*"])
        };
        let response = within("headers", client.subscribe(asking(request))).await;
        let mut stream = Stream::new(response.expect("let in").into_inner());
        stream.welcome().await;
        stream
    };
    let read = async |stream: &mut Stream, count| {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(stream.event().await);
        }
        events
    };
    let mut live = Vec::new();
    for (number, accepts) in accepted.iter().enumerate() {
        live.push(subscribe(format!("live-{number}"), accepts, None).await);
    }
    let mut payloads = publish(&node, "t").await;
    payloads.extend(publish(&node, "t.a").await);
    let mut all = Vec::new();
    for stream in &mut live {
        all.push(read(stream, payloads.len()).await);
    }
    for (number, accepts) in accepted.iter().enumerate() {
        let mut stream = subscribe(format!("late-{number}"), accepts, Some(earliest())).await;
        all.push(read(&mut stream, payloads.len()).await);
    }
    let said: Vec<_> = all[0].iter().map(|event| event.payload.clone()).collect();
    assert_eq!(said, payloads);
    assert!(all.iter().all(|events| *events == all[0]));
}

#[tokio::test]
async fn only_events_of_a_kibibyte_or_more_carry_the_flag_and_the_headers_say_which_encoding() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for (id, accepts, encoding) in [
        ("gzip", &["identity,deflate,gzip"][..], "gzip"),
        ("zstd", &["zstd"], "zstd"),
        ("both", &["gzip", "zstd"], "zstd"),
    ] {
        let subscribe = request(id, &[id]).encode_to_vec();
        let mut reply = open(&mut raw, SUBSCRIBE, accepts, &subscribe).await;
        assert_eq!(reply.header("grpc-encoding"), Some(encoding));
        let (flag, welcome) = flagged(&mut reply).await;
        assert_eq!(flag, 0, "a control message");
        let welcome = v1::SubscribeResponse::decode(&welcome[..]).expect("a response");
        assert!(matches!(welcome.frame, Some(Frame::Welcome(_))));
        for payload in publish(&node, id).await {
            let (flag, message) = flagged(&mut reply).await;
            let length = payload.len();
            if flag == 0 {
                assert_eq!(plain_event(&message).payload, payload);
                assert!(length < 1_024 || length == NOISE_BYTES, "{length} bytes");
            } else {
                assert_eq!(flag, 1);
                assert!(length + BESIDE >= 1_024, "{length} bytes");
                assert!(message.len() < length / 2, "{length} bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_accepts_no_offered_encoding_gets_everything_as_it_is() {
    let node = Node::start();
    let off = Node::start_with(|config| config.compressions = Vec::new());
    let gzip_only = Node::start_with(|config| config.compressions = vec![Compression::Gzip]);
    for (node, accepts) in [
        (&node, &[][..]),
        (&node, &["identity"]),
        (&node, &["br,deflate,snappy"]),
        (&node, &["gzipped", ""]),
        (&off, &["gzip,zstd"]),
        (&gzip_only, &["zstd"]),
    ] {
        let mut raw = Raw::connect(node.address).await;
        let subscribe = request("s", &["t"]).encode_to_vec();
        let mut reply = open(&mut raw, SUBSCRIBE, accepts, &subscribe).await;
        assert_eq!(reply.header("grpc-encoding"), None, "{accepts:?}");
        flagged(&mut reply).await;
        for payload in publish(node, "t").await {
            let (flag, message) = flagged(&mut reply).await;
            assert_eq!(flag, 0, "{accepts:?}");
            assert_eq!(plain_event(&message).payload, payload);
        }
        node.unsubscribe("s").await.expect("it was there");
        reply.rest().await;
    }
}

/// As a library does that was told nothing: grpcio, grpc-java and others name gzip in every call.
#[tokio::test]
async fn a_client_that_only_accepts_an_encoding_or_only_asks_for_one_gets_everything_as_it_is() {
    let topic = TopicFilter::parse("t").expect("a filter");
    let node = Node::start_with(|config| config.legacy_topics = vec![topic]);
    for (id, (asks, accepts)) in (1..).zip([
        (&[][..], &["identity, deflate, gzip"][..]),
        (&[], &["zstd,gzip"]),
        (&["zstd"], &["identity, deflate, gzip"]),
        (&["gzip", "zstd"], &[]),
        (&["identity", "br"], &["gzip,zstd"]),
    ]) {
        let subscribe = request(&format!("s-{id}"), &["t"]).encode_to_vec();
        let session = v1::SessionRequest {
            request: Some(v1::session_request::Request::Open(request(
                &format!("session-{id}"),
                &["t"],
            ))),
        };
        let session = session.encode_to_vec();
        let legacy = protos::Request { id }.encode_to_vec();
        for (path, message) in [
            (SUBSCRIBE, &subscribe),
            (SESSION, &session),
            (LEGACY, &legacy),
        ] {
            let mut raw = Raw::connect(node.address).await;
            let mut reply = open_asking(&mut raw, path, asks, accepts, message).await;
            assert_eq!(reply.header("grpc-encoding"), None, "{asks:?} {accepts:?}");
            if path != LEGACY {
                assert_eq!(flagged(&mut reply).await.0, 0);
            }
            node.publish("t", &json(4_096)).await;
            assert_eq!(
                flagged(&mut reply).await.0,
                0,
                "{path} {asks:?} {accepts:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_frozen_contract_and_sessions_are_compressed_alike() {
    let topic = TopicFilter::parse("t").expect("a filter");
    let node = Node::start_with(|config| config.legacy_topics = vec![topic]);
    for (id, encoding) in (1..).zip([CompressionEncoding::Gzip, CompressionEncoding::Zstd]) {
        let mut client = node.legacy().accept_compressed(encoding);
        let response = within("headers", client.subscribe(asking(protos::Request { id }))).await;
        let mut stream = response.expect("let in").into_inner();
        for payload in publish(&node, "t").await {
            let response = within("a response", stream.message()).await;
            let response = response.expect("no error").expect("not the end");
            assert_eq!(response.data, String::from_utf8_lossy(&payload));
        }
    }
    let mut raw = Raw::connect(node.address).await;
    let legacy = protos::Request { id: 3 }.encode_to_vec();
    let mut reply = open(&mut raw, LEGACY, &["gzip"], &legacy).await;
    let session = v1::SessionRequest {
        request: Some(v1::session_request::Request::Open(request("s", &["t"]))),
    };
    let mut session = open(&mut raw, SESSION, &["gzip"], &session.encode_to_vec()).await;
    flagged(&mut session).await;
    for reply in [&reply, &session] {
        assert_eq!(reply.header("grpc-encoding"), Some("gzip"));
    }
    node.publish("t", &json(4_096)).await;
    node.publish("t", &json(500)).await;
    for reply in [&mut reply, &mut session] {
        assert_eq!(flagged(reply).await.0, 1);
        assert_eq!(flagged(reply).await.0, 0);
    }
}

#[tokio::test]
async fn a_thousand_subscribers_share_one_compression_of_each_event_and_encoding() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 100;

    let node = Node::start_with(|config| {
        config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    });
    let metrics = node.metrics.expect("it tells metrics");
    let mut connections = Vec::new();
    let mut streams = Vec::new();
    for connection in 0..CONNECTIONS {
        let mut raw = Raw::connect(node.address).await;
        for stream in 0..STREAMS {
            let accepts = if stream % 2 == 0 { "gzip" } else { "zstd" };
            let id = format!("{connection}-{stream}");
            // By two ways, so that there are two tails and readers that merge them.
            let filters: &[&str] = match stream % 3 {
                0 => &["t.a"],
                1 => &["t.*"],
                _ => &["t.a", "t.*"],
            };
            let subscribe = request(&id, filters).encode_to_vec();
            let mut reply = open(&mut raw, SUBSCRIBE, &[accepts], &subscribe).await;
            flagged(&mut reply).await;
            streams.push((accepts, reply));
        }
        connections.push(raw);
    }
    let large = [json(4_096), json(2_000), json(20_000)];
    for payload in &large {
        node.publish("t.a", payload).await;
        node.publish("t.a", "small").await;
    }
    let reading = streams.into_iter().map(|(accepts, mut reply)| {
        spawn(async move {
            let mut messages = Vec::new();
            for _ in 0..2 * 3 {
                messages.push(flagged(&mut reply).await);
            }
            (accepts, messages)
        })
    });
    let reading: Vec<_> = reading.collect();
    let mut said: BTreeMap<&str, Vec<(u8, Vec<u8>)>> = BTreeMap::new();
    for reading in reading {
        let (accepts, messages) = within("all events", reading).await.expect("no panic");
        let flags: Vec<u8> = messages.iter().map(|(flag, _)| *flag).collect();
        assert_eq!(flags, [1, 0, 1, 0, 1, 0]);
        let first = said.entry(accepts).or_insert_with(|| messages.clone());
        assert_eq!(*first, messages, "the very bytes");
    }
    // A reader of history finds the events of the others.
    let late = v1::SubscribeRequest {
        start: Some(earliest()),
        ..request("late", &["t.>"])
    };
    let mut raw = Raw::connect(node.address).await;
    let mut reply = open(&mut raw, SUBSCRIBE, &["zstd"], &late.encode_to_vec()).await;
    flagged(&mut reply).await;
    for message in &said["zstd"] {
        assert_eq!(flagged(&mut reply).await, *message);
    }
    let samples = scrape(metrics).await;
    for name in [GZIP, ZSTD] {
        assert!((samples[name] - 3.0).abs() < 0.5, "{name}: {samples:?}");
    }
    let kept = samples["longlived_compressed_kept_bytes"];
    let bytes: usize = large.iter().map(String::len).sum();
    assert!(kept > 0.0 && kept < bytes as f64, "{kept} of {bytes}");
    drop(connections);
}

#[tokio::test]
async fn streams_of_one_connection_that_read_together_get_the_encoding_that_each_accepts() {
    const STREAMS: usize = 20;

    let node = Node::start_with(|config| {
        config.metrics_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    });
    let metrics = node.metrics.expect("it tells metrics");
    let mut raw = Raw::connect(node.address).await;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let accepts: &[&str] = if number % 2 == 0 { &["zstd"] } else { &[] };
        let subscribe = request(&number.to_string(), &["t"]).encode_to_vec();
        let mut reply = open(&mut raw, SUBSCRIBE, accepts, &subscribe).await;
        flagged(&mut reply).await;
        streams.push((!accepts.is_empty(), reply));
    }
    let large = json(2_048);
    let small = "s".repeat(100);
    // One at a time, so that all wait together for the next; then all at once, and one that would follow a repeat.
    let bursts = [&[&large][..], &[&small], &[&large], &[&small]];
    let all_at_once = [&large, &small, &large, &large, &small, &small, &large];
    let mut sequence = 0;
    let mut large_ones = 0;
    for burst in bursts.into_iter().chain([&all_at_once[..], &[&small]]) {
        for payload in burst {
            node.publish("t", payload).await;
        }
        let mut compressed: Vec<Vec<u8>> = Vec::new();
        for (number, (is_compressed, reply)) in streams.iter_mut().enumerate() {
            let mut messages = Vec::new();
            for (index, payload) in burst.iter().enumerate() {
                let (flag, message) = flagged(reply).await;
                let is_smaller = *is_compressed && payload.len() > 1_024;
                assert_eq!(flag, u8::from(is_smaller), "stream {number}");
                let plain = if is_smaller {
                    zstd::decode_all(&message[..]).expect("zstd")
                } else {
                    message.clone()
                };
                let event = plain_event(&plain);
                assert_eq!(event.sequence, sequence + index as u64 + 1);
                assert_eq!(event.payload, payload.as_bytes());
                messages.extend(is_smaller.then_some(message));
            }
            if *is_compressed && number == 0 {
                compressed = messages;
            } else if *is_compressed {
                assert_eq!(messages, compressed, "the very bytes");
            }
        }
        sequence += burst.len() as u64;
        large_ones += burst.iter().filter(|payload| ***payload == large).count();
        let samples = scrape(metrics).await;
        let counted = samples[ZSTD];
        assert!((counted - large_ones as f64).abs() < 0.5, "{counted}");
        assert!(samples.get(GZIP).is_none_or(|counted| *counted < 0.5));
    }
}

#[tokio::test]
async fn the_limit_of_a_subscriber_counts_the_uncompressed_event() {
    let node = Node::start();
    let zstd = CompressionEncoding::Zstd;
    let mut client = node.subscriptions().accept_compressed(zstd);
    let subscribe = v1::SubscribeRequest {
        max_event_bytes: 5_000,
        ..request("s", &["t"])
    };
    let response = within("headers", client.subscribe(asking(subscribe))).await;
    let mut stream = Stream::new(response.expect("let in").into_inner());
    stream.welcome().await;
    for bytes in [4_000, 6_000, 4_000] {
        node.publish("t", &"x".repeat(bytes)).await;
    }
    assert_eq!(stream.event().await.sequence, 1);
    assert_eq!(stream.gap().await.reason(), GapReason::TooLarge);
    assert_eq!(stream.event().await.sequence, 3);

    let mut client = node.subscriptions().accept_compressed(zstd);
    client = client.max_decoding_message_size(5_000);
    let response = within(
        "headers",
        client.subscribe(asking(request("other", &["t"]))),
    )
    .await;
    let mut other = Stream::new(response.expect("let in").into_inner());
    other.welcome().await;
    node.publish("t", &"x".repeat(6_000)).await;
    let status = other.end().await.expect_err("more than the library takes");
    assert_eq!(status.code(), Code::ResourceExhausted);
}
