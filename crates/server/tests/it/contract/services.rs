//! What a listener serves: all, all but what is for administrators, or that alone; health and reflection are everywhere.

use std::net::SocketAddr;

use http::HeaderMap;
use longlived_api::{FILE_DESCRIPTOR_SET, v1};
use longlived_server::{Config, Environment, Listen, Server, Services, listener::ListenAddress};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};

use super::support::{Frame, Node, Raw, cause, framed, message, request, text};

const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const LIST_TOPICS: &str = "/longlived.v1.TopicService/ListTopics";

/// A node with a listener of each kind, and their addresses.
async fn node() -> (Node, [SocketAddr; 3]) {
    let listen = [Services::All, Services::Public, Services::Admin].map(|services| Listen::Tcp {
        first: SocketAddr::from(([127, 0, 0, 1], 0)),
        also: Vec::new(),
        proxies: Vec::new(),
        services,
    });
    let config = Config {
        listen: listen.to_vec(),
        ..Config::default()
    };
    let server = Server::bind(config, Environment::system()).await;
    let server = server.expect("free ports");
    let addresses = server.local_addrs().iter().filter_map(ListenAddress::tcp);
    let addresses: Vec<_> = addresses.collect();
    let addresses = addresses.try_into().expect("three of TCP");
    (Node::run(server), addresses)
}

/// The service and the path of each method of both contracts.
fn methods() -> Vec<(String, String)> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
        .expect("the contracts")
        .file;
    let methods = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let service_name = format!("{}.{}", file.package(), service.name());
            let methods = service.method.iter();
            methods.map(move |it| {
                (
                    service_name.clone(),
                    format!("/{service_name}/{}", it.name()),
                )
            })
        })
    });
    let methods: Vec<_> = methods.collect();
    assert!(methods.len() >= 11, "{methods:?}");
    methods
}

/// How a call ends that says nothing: the headers of its status.
async fn end_of(raw: &mut Raw, path: &str) -> HeaderMap {
    let mut reply = raw.call(path, &[], Vec::new()).await;
    let headers = reply.headers.clone();
    if reply.headers_only {
        headers
    } else {
        reply.rest().await.1
    }
}

/// What a status says, apart from the path.
fn said(headers: &HeaderMap, path: &str) -> (Code, String, Vec<String>) {
    let status = Status::from_header_map(headers).expect("a status");
    let details = String::from_utf8_lossy(status.details()).replace(path, "PATH");
    let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
    names.sort();
    (
        status.code(),
        status.message().replace(path, "PATH") + &details,
        names,
    )
}

fn is_unknown(headers: &HeaderMap) -> bool {
    text(headers, "grpc-status") == Some("12")
}

#[tokio::test]
async fn a_method_that_its_listener_does_not_serve_is_one_that_is_not_known() {
    let (_node, [all, public, admin]) = node().await;
    let mut clients = [
        Raw::connect(all).await,
        Raw::connect(public).await,
        Raw::connect(admin).await,
    ];
    for (service, path) in methods() {
        for client in &mut clients[..2] {
            let headers = end_of(client, &path).await;
            assert!(!is_unknown(&headers), "{path}: {headers:?}");
        }
        let refused = end_of(&mut clients[2], &path).await;
        assert!(is_unknown(&refused), "{path}: {refused:?}");
        // As long, so that the same is said of it with the same lengths.
        let nothing = "X".repeat(path.len() - service.len() - 2);
        let nothing = format!("/{service}/{nothing}");
        for client in &mut clients {
            let unknown = end_of(client, &nothing).await;
            assert_eq!(said(&refused, &path), said(&unknown, &nothing));
        }
        if service.starts_with("longlived.v1.") {
            let status = Status::from_header_map(&refused).expect("a status");
            assert_eq!(cause(&status).reason, "METHOD_UNKNOWN");
        }
    }
}

#[tokio::test]
async fn no_other_spelling_of_a_path_reaches_a_method_at_a_listener_without_it() {
    let (_node, [_, public, admin]) = node().await;
    let stored = framed(&message("t", "x").encode_to_vec());
    let mut client = Raw::connect(admin).await;
    for path in [
        PUBLISH.to_owned(),
        format!("{PUBLISH}?x"),
        format!("{PUBLISH}?/longlived.v1.AdminService/Any"),
        format!("{PUBLISH}/"),
        format!("/{PUBLISH}"),
        PUBLISH.to_lowercase(),
        PUBLISH.replacen("Publish", "%50ublish", 1),
        format!("/longlived.v1.AdminService/..{PUBLISH}"),
        format!("/grpc.health.v1.Health/..{PUBLISH}"),
    ] {
        let mut reply = client.call(&path, &[], stored.clone()).await;
        let headers = reply.headers.clone();
        let headers = if reply.headers_only {
            headers
        } else {
            reply.rest().await.1
        };
        assert!(is_unknown(&headers), "{path}: {headers:?}");
    }
    // None of them has reached the log.
    let mut client = Raw::connect(public).await;
    let ask = framed(&v1::ListTopicsRequest::default().encode_to_vec());
    let mut reply = client.call(LIST_TOPICS, &[], ask).await;
    let (body, status) = reply.all().await;
    assert_eq!(status.as_deref(), Some("0"));
    let answer = v1::ListTopicsResponse::decode(&body[5..]).expect("an answer");
    assert_eq!(answer.topics, []);
}

#[tokio::test]
async fn health_and_reflection_are_at_every_listener_and_a_public_one_serves_both_contracts() {
    let (node, addresses) = node().await;
    for address in addresses {
        let mut client = Raw::connect(address).await;
        let mut reply = client
            .call("/grpc.health.v1.Health/Check", &[], framed(&[]))
            .await;
        let (body, status) = reply.all().await;
        // SERVING.
        assert_eq!((&body[5..], status.as_deref()), (&[8, 1][..], Some("0")));
        let list_services = framed(&[0x3a, 0]);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let mut reply = client.call(reflection, &[], list_services).await;
        let (body, status) = reply.all().await;
        assert_eq!(status.as_deref(), Some("0"));
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("longlived.v1.TopicService"), "{body}");
    }
    let mut client = Raw::connect(addresses[1]).await;
    let subscribe = framed(&request("s", &["news"]).encode_to_vec());
    let mut reply = client.call(SUBSCRIBE, &[], subscribe).await;
    assert!(matches!(reply.frame().await, Frame::Welcome(_)));
    let sequence = node.publish("news", "x").await;
    let Frame::Event(event) = reply.frame().await else {
        panic!("an event comes next");
    };
    assert_eq!(event.sequence, sequence);
}
