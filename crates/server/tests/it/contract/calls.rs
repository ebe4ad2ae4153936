//! Rules of every call: deadlines, compression, unknown methods, health, reflection, request ids.

use std::time::Duration;

use bytes::Bytes;
use longlived_api::{protos, v1};
use longlived_server::{GeneratorConfig, SERVICES};
use longlived_topic::TopicName;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, codec::CompressionEncoding};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::support::{
    Frame, Node, Raw, RawReply, assert_says, framed, message, request, text, within,
};

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const SESSION: &str = "/longlived.v1.SubscriptionService/Session";
const LEGACY: &str = "/protos.Longlived/Subscribe";

fn open(id: &str) -> v1::SessionRequest {
    v1::SessionRequest {
        request: Some(v1::session_request::Request::Open(request(id, &["t"]))),
    }
}

#[tokio::test]
async fn a_stream_ends_with_deadline_exceeded_when_its_time_is_over() {
    let node = Node::start_with(|config| {
        config.generator = Some(GeneratorConfig {
            every: Duration::from_millis(30),
            topic: Some(TopicName::parse("t").expect("a topic")),
        });
    });
    let mut raw = Raw::connect(node.address).await;
    let subscribe = request("a", &["t"]).encode_to_vec();
    let legacy = protos::Request { id: 1 }.encode_to_vec();
    for (path, message) in [
        (SUBSCRIBE, subscribe),
        (SESSION, open("b").encode_to_vec()),
        (LEGACY, legacy),
    ] {
        let since = Instant::now();
        let mut reply = raw
            .call(path, &[("grpc-timeout", "300m")], framed(&message))
            .await;
        let (data, trailers) = reply.rest().await;
        assert!(!data.is_empty(), "{path} was served until then");
        assert_eq!(text(&trailers, "grpc-status"), Some("4"), "{path}");
        let after = since.elapsed();
        let on_time = Duration::from_millis(300)..Duration::from_millis(900);
        assert!(on_time.contains(&after), "{path}: {after:?}");
    }
    for id in ["a", "b", "1"] {
        let gone = node.unsubscribe(id).await.expect_err("its place is free");
        assert_eq!(gone.code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_session_that_never_opens_ends_with_deadline_exceeded_too() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for path in [SESSION, SUBSCRIBE] {
        let (response, _request) = raw.begin(path, &[("grpc-timeout", "50m")]).await;
        let mut reply = RawReply::of(response).await;
        let (_, trailers) = reply.rest().await;
        assert_eq!(text(&trailers, "grpc-status"), Some("4"), "{path}");
    }
}

#[tokio::test]
async fn a_malformed_deadline_is_named() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let body = framed(&request("s", &["t"]).encode_to_vec());
    for timeout in ["", "1", "S", "-1S", "123456789S", "1.5S", "1s"] {
        let reply = raw
            .call(SUBSCRIBE, &[("grpc-timeout", timeout)], body.clone())
            .await;
        assert!(reply.headers_only);
        let status = tonic::Status::from_header_map(&reply.headers).expect("a status");
        assert_says(&status, Code::InvalidArgument, &["grpc-timeout"]);
    }
}

#[tokio::test]
async fn requests_may_be_compressed() {
    let node = Node::start();
    for (number, encoding) in (0..).zip([CompressionEncoding::Gzip, CompressionEncoding::Zstd]) {
        let topic = format!("t{number}");
        let mut subscribe = node
            .subscriptions()
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let stream = subscribe.subscribe(request(&topic, &[&topic])).await;
        let mut stream = super::support::Stream::new(stream.expect("let in").into_inner());
        stream.welcome().await;
        let mut publish = node.publishing().send_compressed(encoding);
        let payload = "compressible ".repeat(10_000);
        publish
            .publish(message(&topic, &payload))
            .await
            .expect("stored");
        assert_eq!(stream.event().await.payload, payload);
        let many = vec![message(&topic, &payload); 3];
        let answer = publish.bulk_publish(tokio_stream::iter(many)).await;
        assert_eq!(answer.expect("stored").into_inner().published, 3);
        let first = 4 * number + 2;
        assert_eq!(stream.events(3).await, [first, first + 1, first + 2]);
        let mut legacy = node.legacy().send_compressed(encoding);
        let answer = legacy.subscribe(protos::Request { id: 1 }).await;
        answer.expect("let in");
    }
}

#[tokio::test]
async fn a_message_that_is_small_only_while_compressed_meets_the_same_limit() {
    let node = Node::start();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut publish = node.publishing().send_compressed(encoding);
        let status = publish
            .publish(message("t", &"0".repeat(8 << 20)))
            .await
            .expect_err("8 MiB");
        assert_says(
            &status,
            Code::ResourceExhausted,
            &["PublishRequest", "limit", "bytes"],
        );
    }
    assert_eq!(node.publish("t", "the server goes on").await, 1);
}

#[tokio::test]
async fn an_unknown_encoding_is_named_with_those_that_are_known() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    let body = framed(&request("s", &["t"]).encode_to_vec());
    let reply = raw
        .call(SUBSCRIBE, &[("grpc-encoding", "br")], body.clone())
        .await;
    let status = tonic::Status::from_header_map(&reply.headers).expect("a status");
    assert_says(&status, Code::Unimplemented, &["br", "gzip", "zstd"]);
    assert_eq!(
        reply.header("grpc-accept-encoding"),
        Some("identity,gzip,zstd")
    );
    let mut reply = raw
        .call(SUBSCRIBE, &[("grpc-encoding", "identity")], body)
        .await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for path in [
        "/longlived.v1.SubscriptionService/Nothing",
        "/longlived.v1.Nothing/Subscribe",
        "/protos.Longlived/subscribe",
        "/protos.Longlived/Subscribe/",
        "/grpc.health.v1.Health/Nothing",
        "/",
    ] {
        let reply = raw.call(path, &[], framed(b"")).await;
        assert_eq!(reply.http_status, 200);
        assert!(reply.headers_only, "{path}");
        assert_eq!(reply.header("grpc-status"), Some("12"), "{path}");
    }
}

#[tokio::test]
async fn health_is_serving_for_the_server_and_each_service() {
    let node = Node::start();
    let mut health = HealthClient::new(node.channel());
    for service in SERVICES.into_iter().chain([""]) {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request.clone()).await.expect("known");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
        let mut watch = health.watch(request).await.expect("known").into_inner();
        let first = within("a status", watch.message()).await.expect("no error");
        assert_eq!(first.expect("at once").status(), ServingStatus::Serving);
    }
    let unknown = HealthCheckRequest {
        service: "nothing".to_owned(),
    };
    let status = health.check(unknown).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_of_an_unknown_service_says_so_and_stays_until_the_node_ends() {
    let mut node = Node::start();
    let mut health = HealthClient::new(node.channel());
    let watch = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let unknown = within("an answer", health.watch(watch("nothing"))).await;
    let mut unknown = unknown.expect("a stream").into_inner();
    let known = within("an answer", health.watch(watch(""))).await;
    let mut known = known.expect("a stream").into_inner();
    let mut next = async || {
        let status = within("a status", unknown.message()).await;
        status.map(|status| status.map(|status| status.status()))
    };
    let first = next().await.expect("no error").expect("at once");
    assert_eq!(first, ServingStatus::ServiceUnknown);
    node.drain();
    // The known one has its news before its end; the other has none, and ends as it does.
    loop {
        let status = within("a status", known.message()).await;
        match status {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no status"),
            Err(end) => break assert_eq!(end.code(), Code::Unavailable),
        }
    }
    let end = next().await.expect_err("it stays to the end");
    assert_eq!(end.code(), Code::Unavailable);
    node.ended().await;
}

const REFLECTED: [&str; 5] = [
    "grpc.health.v1.Health",
    "longlived.v1.PublishService",
    "longlived.v1.SubscriptionService",
    "longlived.v1.TopicService",
    "protos.Longlived",
];

#[tokio::test]
async fn reflection_v1_lists_the_services_and_knows_their_messages() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let node = Node::start();
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let requests = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "longlived.v1.SubscribeResponse".to_owned(),
        )),
    ];
    let mut client = ServerReflectionClient::new(node.channel());
    let answers = client.server_reflection_info(tokio_stream::iter(requests));
    let mut answers = answers.await.expect("it answers").into_inner();
    let mut next = async || {
        let answer = within("an answer", answers.message()).await;
        let answer = answer.expect("no error").expect("one for each");
        answer.message_response.expect("it says something")
    };
    let MessageResponse::ListServicesResponse(list) = next().await else {
        panic!("not a list");
    };
    let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
    for service in REFLECTED {
        assert!(names.iter().any(|name| name == service), "{names:?}");
    }
    let MessageResponse::FileDescriptorResponse(file) = next().await else {
        panic!("not a file");
    };
    assert!(!file.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn reflection_v1alpha_lists_the_services_too() {
    use tonic_reflection::pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let node = Node::start();
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(node.channel());
    let answers = client.server_reflection_info(tokio_stream::iter([list]));
    let mut answers = answers.await.expect("it answers").into_inner();
    let answer = within("an answer", answers.message()).await;
    let answer = answer.expect("no error").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list");
    };
    let names: Vec<_> = list.service.into_iter().map(|it| it.name).collect();
    for service in REFLECTED {
        assert!(names.iter().any(|name| name == service), "{names:?}");
    }
}

/// A name of this length, as the protobuf field of this number.
fn name(field: u8, length: usize) -> Bytes {
    let length_of_it = [(length & 0x7f | 0x80) as u8, (length >> 7) as u8];
    framed(&[&[field << 3 | 2], &length_of_it[..], &vec![b'x'; length]].concat())
}

#[tokio::test]
async fn a_request_of_health_or_reflection_is_limited_to_a_long_name() {
    let node = Node::start();
    let mut raw = Raw::connect(node.address).await;
    for (path, field) in [
        ("/grpc.health.v1.Health/Check", 1),
        ("/grpc.health.v1.Health/Watch", 1),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            4,
        ),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            4,
        ),
    ] {
        let mut reply = raw.call(path, &[], name(field, 5_000)).await;
        let mut told =
            ["grpc-status", "grpc-message"].map(|name| reply.header(name).map(str::to_owned));
        if told[0].is_none() {
            let (_, trailers) = reply.rest().await;
            told = ["grpc-status", "grpc-message"]
                .map(|name| text(&trailers, name).map(str::to_owned));
        }
        let [code, says] = told.map(|text| text.expect("it is told"));
        assert_eq!(code, "8", "{path}");
        assert!(
            says.contains("its%20limit%20of%204096%20bytes")
                || says.contains("its limit of 4096 bytes"),
            "{path}: {says}"
        );
        let reply = raw.call(path, &[], name(field, 4_000)).await;
        assert_ne!(reply.header("grpc-status"), Some("8"), "{path}");
    }
}

#[tokio::test]
async fn a_request_id_comes_back_in_the_initial_metadata_of_every_call() {
    let node = Node::start();
    let mut tagged = Request::new(request("s", &["t"]));
    tagged
        .metadata_mut()
        .insert("x-request-id", "mine-1".parse().expect("a value"));
    let mut client = node.subscriptions();
    let answer = client.subscribe(tagged).await.expect("let in");
    assert_eq!(
        answer.metadata().get("x-request-id").expect("echoed"),
        "mine-1"
    );

    let mut tagged = Request::new(message("t", "x"));
    tagged
        .metadata_mut()
        .insert("x-request-id", "mine-2".parse().expect("a value"));
    let answer = node.publishing().publish(tagged).await.expect("stored");
    assert_eq!(
        answer.metadata().get("x-request-id").expect("echoed"),
        "mine-2"
    );

    let mut raw = Raw::connect(node.address).await;
    for path in [
        SESSION,
        LEGACY,
        "/nothing/Nothing",
        "/grpc.health.v1.Health/Check",
    ] {
        let headers = [("x-request-id", "mine-3")];
        let reply = raw.call(path, &headers, Bytes::new()).await;
        assert_eq!(reply.header("x-request-id"), Some("mine-3"), "{path}");
        let reply = raw.call(path, &[], Bytes::new()).await;
        let given = reply.header("x-request-id").expect("one of the server's");
        assert!(!given.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_are_served_together() {
    let node = Node::start();
    let mut streams = Vec::new();
    for n in 0..300 {
        streams.push(node.open(request(&format!("s-{n}"), &["t"])).await.0);
    }
    for _ in 0..5 {
        let sequence = node.publish("t", "x").await;
        for stream in &mut streams {
            assert_eq!(stream.event().await.sequence, sequence);
        }
    }
}
