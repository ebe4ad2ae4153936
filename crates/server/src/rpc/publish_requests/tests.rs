use std::convert::Infallible;

use futures_util::{FutureExt as _, future::poll_fn};
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::*;

const EVENT_BYTES_MAX: usize = 20_000;

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

/// A body that gives these chunks.
fn body(chunks: Vec<Vec<u8>>) -> Body {
    let frames = chunks
        .into_iter()
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from(chunk))));
    Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

/// Everything of a body up to its end or the first error.
fn read(chunks: Vec<Vec<u8>>) -> (Vec<Message>, Option<Status>) {
    let mut requests = Framed::new(body(chunks), EVENT_BYTES_MAX + 1_000);
    let mut topics = Topics::default();
    let mut messages = Vec::new();
    loop {
        let next = poll_fn(|cx| {
            requests.poll_next(cx).map_ok(|(bytes, range)| {
                message(
                    bytes,
                    range,
                    &Caller::anonymous(),
                    &mut topics,
                    EVENT_BYTES_MAX,
                )
            })
        });
        match next.now_or_never().expect("the body is there") {
            Some(Ok(Ok(message))) => messages.push(message),
            Some(Ok(Err(status)) | Err(status)) => return (messages, Some(status)),
            None => return (messages, None),
        }
    }
}

fn requests() -> impl Strategy<Value = v1::PublishRequest> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(Just(7), 4_000..9_000),
    ];
    let topic = prop::sample::select(vec!["a", "a.b", "c", "inbox.x"]);
    let headers = prop::collection::btree_map("[a-z]{0,9}", ".{0,2000}", 0..2);
    (topic, payload, "[a-z]{0,20}", headers, any::<bool>()).prop_map(
        |(topic, payload, key, headers, deleted)| v1::PublishRequest {
            topic: topic.to_owned(),
            payload: payload.into(),
            deleted: deleted && !key.is_empty(),
            message_id: key.clone(),
            key,
            headers,
        },
    )
}

proptest! {
    #[test]
    fn messages_are_the_same_however_the_body_is_cut(
        requests in prop::collection::vec(requests(), 0..30),
        cuts in prop::collection::vec(prop_oneof![1_usize..8, 1_usize..20_000], 1..40),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| framed(&request.encode_to_vec())).collect();
        let mut rest = &bytes[..];
        let mut chunks = Vec::new();
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, later) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = later;
        }
        let expected: Vec<_> = requests
            .into_iter()
            .map(|request| validate::message(request, &Caller::anonymous(), EVENT_BYTES_MAX).unwrap())
            .collect();
        let (messages, status) = read(chunks);
        prop_assert!(status.is_none(), "{status:?}");
        prop_assert_eq!(messages, expected);
    }
}

fn request(topic: &str, payload: &'static [u8]) -> v1::PublishRequest {
    v1::PublishRequest {
        topic: topic.to_owned(),
        payload: payload.into(),
        ..v1::PublishRequest::default()
    }
}

/// One good message, then these bytes: how it ends.
fn ends(bytes: &[u8]) -> Status {
    let mut all = framed(&request("t", b"x").encode_to_vec());
    all.extend(bytes);
    let (messages, status) = read(vec![all]);
    assert_eq!(messages.len(), 1, "the messages before still count");
    status.expect("it is refused")
}

#[test]
fn broken_bytes_end_with_a_status_that_says_how() {
    let broken = Code::InvalidArgument;
    let cases: [(&[u8], Code, &str); 7] = [
        (&[1, 0, 0, 0, 0], broken, "grpc-encoding"),
        (&[7, 0, 0, 0, 0], broken, "flag is 7"),
        (&[0, 0, 1, 0, 0], Code::ResourceExhausted, "21000"),
        (&[0, 0, 0], broken, "ended"),
        (&[0, 0, 0, 0, 9], broken, "ended"),
        (&[0, 0, 0, 0, 9, 1, 2], broken, "ended"),
        (&[0, 0, 0, 0, 2, 0x0a, 5], broken, "Protobuf"),
    ];
    for (bytes, code, says) in cases {
        let status = ends(bytes);
        assert_eq!(status.code(), code, "{bytes:?}: {status:?}");
        assert!(status.message().contains(says), "{bytes:?}: {status:?}");
        assert!(status.message().contains("PublishRequest"), "{status:?}");
    }
}

#[test]
fn a_known_topic_is_checked_no_less_than_an_unknown_one() {
    let large = v1::PublishRequest {
        payload: vec![0; EVENT_BYTES_MAX].into(),
        ..request("t", b"")
    };
    let deleted = v1::PublishRequest {
        deleted: true,
        ..request("t", b"x")
    };
    let long_id = v1::PublishRequest {
        message_id: "i".repeat(257),
        ..request("t", b"x")
    };
    for (refused, code) in [
        (large, Code::ResourceExhausted),
        (deleted, Code::InvalidArgument),
        (long_id, Code::InvalidArgument),
        (request("$sys.a", b"x"), Code::PermissionDenied),
        (request("t.", b"x"), Code::InvalidArgument),
        (request("", b"x"), Code::InvalidArgument),
    ] {
        let status = ends(&framed(&refused.encode_to_vec()));
        assert_eq!(status.code(), code, "{status:?}");
    }
}

#[test]
fn a_refused_topic_is_not_remembered_as_a_name() {
    let mut topics = Topics::default();
    let bytes = Bytes::from(request("a..b", b"x").encode_to_vec());
    for _ in 0..3 {
        let refused = message(
            &bytes,
            0..bytes.len(),
            &Caller::anonymous(),
            &mut topics,
            EVENT_BYTES_MAX,
        );
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[test]
fn names_of_many_topics_are_kept_apart() {
    let mut topics = Topics::default();
    for round in 0..3 {
        for n in 0..500 {
            let name = format!("orders.{n}");
            let bytes = Bytes::from(request(&name, b"x").encode_to_vec());
            let read = message(
                &bytes,
                0..bytes.len(),
                &Caller::anonymous(),
                &mut topics,
                EVENT_BYTES_MAX,
            );
            assert_eq!(read.unwrap().topic.as_str(), name, "round {round}");
        }
    }
}

#[test]
fn a_small_payload_does_not_keep_the_large_message_it_came_in() {
    // Unknown fields are skipped, and would be kept in memory with the payload.
    let mut bytes = request("t", b"payload").encode_to_vec();
    bytes.extend([0xfa, 0x01]);
    bytes.extend([0xa0, 0x1f]);
    bytes.extend([0; 4_000]);
    let known = v1::PublishRequest {
        key: "k".repeat(4_000),
        ..request("t", b"payload")
    };
    for bytes in [known.encode_to_vec(), bytes] {
        let bytes = Bytes::from(bytes);
        let mut topics = Topics::default();
        for _ in 0..2 {
            let read = message(
                &bytes,
                0..bytes.len(),
                &Caller::anonymous(),
                &mut topics,
                EVENT_BYTES_MAX,
            )
            .unwrap();
            assert_eq!(&read.payload[..], b"payload");
            let payload = read.payload.as_ptr() as usize;
            let begin = bytes.as_ptr() as usize;
            assert!(!(begin..begin + bytes.len()).contains(&payload));
        }
    }
}
