//! Every method x every kind of listener x every kind of credential: who is let in.
//!
//! The methods are those of the descriptors. One that is added is in no row of [`ROWS`], and fails the test until somebody has said
//! who may call it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tonic::Code;

use super::auth_support::{Auth, Token};
use super::server_tls::Files;
use super::support::{Server, longlived, spawn, within};

/// What a call comes to that has the right credential and one empty message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// Its status.
    To(Code),
    /// It begins, and goes on.
    On,
}

/// A method, whether it asks for a credential, and what it comes to.
const ROWS: &[(&str, bool, Comes)] = {
    use Comes::{On, To};
    &[
        (
            "/longlived.v1.SubscriptionService/Subscribe",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.SubscriptionService/Session",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.SubscriptionService/Unsubscribe",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.PublishService/Publish",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.PublishService/PublishStream",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.PublishService/BulkPublish",
            true,
            To(Code::InvalidArgument),
        ),
        ("/longlived.v1.TopicService/ListTopics", true, To(Code::Ok)),
        (
            "/longlived.v1.TopicService/ReadHistory",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/longlived.v1.TopicService/CheckPosition",
            true,
            To(Code::InvalidArgument),
        ),
        ("/protos.Longlived/Subscribe", true, On),
        ("/protos.Longlived/Unsubscribe", true, To(Code::NotFound)),
        ("/grpc.health.v1.Health/Check", false, To(Code::Ok)),
        ("/grpc.health.v1.Health/Watch", false, On),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            true,
            To(Code::InvalidArgument),
        ),
        (
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            true,
            To(Code::InvalidArgument),
        ),
    ]
};

/// The methods of all services that a node has.
fn methods() -> Vec<String> {
    let sets = [
        longlived_api::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let sets = sets.map(|set| FileDescriptorSet::decode(set).unwrap().file);
    let mut methods = Vec::new();
    for file in sets.into_iter().flatten() {
        for service in &file.service {
            let paths = service
                .method
                .iter()
                .map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            methods.extend(paths);
        }
    }
    methods
}

/// A connection of HTTP/2 over a socket of any kind.
async fn connect<T>(socket: T) -> SendRequest<Bytes>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = within("the handshake", h2::client::handshake(socket)).await;
    let (requests, connection) = handshake.expect("it speaks HTTP/2");
    spawn(async move { connection.await.ok() });
    requests
}

/// With a certificate that the auth file does not know, where one is asked for.
async fn over_tls(files: &Files, url: &str, with_certificate: bool) -> SendRequest<Bytes> {
    let authority = std::fs::read(files.file("ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let authority = rustls::pki_types::CertificateDer::from_pem_slice(&authority).unwrap();
    roots.add(authority).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = if with_certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &files.authority).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes());
        config
            .with_client_auth_cert(vec![certificate.der().clone()], key.unwrap())
            .unwrap()
    } else {
        config.with_no_client_auth()
    };
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let address = url.strip_prefix("https://").unwrap_or(url);
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    connect(connector.connect(name, socket).await.unwrap()).await
}

/// As a balancer connects for its client.
async fn behind_a_proxy(address: SocketAddr) -> SendRequest<Bytes> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 7070\r\n";
    socket.write_all(header).await.unwrap();
    connect(socket).await
}

/// The status of a call with one empty message, or that it goes on.
async fn call(requests: &SendRequest<Bytes>, path: &str, token: Option<&str>) -> Comes {
    let mut request = Request::post(format!("http://test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let requests = requests.clone().ready();
    let mut requests = within("a place for a call", requests).await.unwrap();
    let request = request.body(()).unwrap();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let response = within("the response", response).await.unwrap();
    let code = |headers: &http::HeaderMap| {
        let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        Some(Comes::To(Code::from_i32(code)))
    };
    if let Some(comes) = code(response.headers()) {
        return comes;
    }
    let goes_on = ROWS
        .iter()
        .any(|(row, _, comes)| *row == path && *comes == Comes::On);
    if goes_on {
        return Comes::On;
    }
    let mut body = response.into_body();
    let trailers = async {
        while let Some(data) = body.data().await {
            let bytes = data.unwrap().len();
            body.flow_control().release_capacity(bytes).unwrap();
        }
        body.trailers().await.unwrap().expect("a status")
    };
    code(&within("the trailers", trailers).await).expect("a status")
}

/// A connection to each kind of listener.
struct At {
    kind: &'static str,
    requests: SendRequest<Bytes>,
    /// It serves health and reflection, and nothing of what there is today.
    is_for_admins: bool,
}

async fn listeners(server: &Server, files: &Files, socket: &str) -> Vec<At> {
    let at = |kind, requests, is_for_admins| At {
        kind,
        requests,
        is_for_admins,
    };
    // In the order of the flags.
    let nth = async |place: &str, nth| {
        let line = server.nth_line(&format!("listening on {place}"), nth).await;
        line.rsplit_once(place).unwrap().1.to_owned()
    };
    let tcp = async |number| format!("127.0.0.1:{}", nth("127.0.0.1:", number).await);
    let tls = async |number| format!("127.0.0.1:{}", nth("tls://127.0.0.1:", number).await);
    let dial = async |address: String| connect(TcpStream::connect(address).await.unwrap()).await;
    let proxied = tcp(1).await.parse().unwrap();
    vec![
        at("proxy", behind_a_proxy(proxied).await, false),
        at("tcp", dial(tcp(0).await).await, false),
        at("public", dial(tcp(2).await).await, false),
        at("admin", dial(tcp(3).await).await, true),
        at("tls", over_tls(files, &tls(0).await, false).await, false),
        at(
            "optional",
            over_tls(files, &tls(1).await, false).await,
            false,
        ),
        at(
            "optional, shown",
            over_tls(files, &tls(1).await, true).await,
            false,
        ),
        at(
            "required",
            over_tls(files, &tls(2).await, true).await,
            false,
        ),
        at(
            "tls admin",
            over_tls(files, &tls(3).await, true).await,
            true,
        ),
        at(
            "unix",
            connect(UnixStream::connect(socket).await.unwrap()).await,
            false,
        ),
    ]
}

/// A server with every kind of listener, and a connection to each.
async fn everywhere(files: &Files, auth: &Auth) -> (Server, Vec<At>) {
    let socket = files.text("longlived.sock");
    let mut command = longlived();
    command.arg("serve");
    let unix = format!("unix:{socket}");
    for place in [
        "127.0.0.1:0",
        "tcp://127.0.0.1:0?proxy=127.0.0.0/8",
        "tcp://127.0.0.1:0?services=public",
        "tcp://127.0.0.1:0?services=admin",
        "tls://127.0.0.1:0",
        "tls://127.0.0.1:0?client-cert=optional",
        "tls://127.0.0.1:0?client-cert=required&services=public",
        "tls://127.0.0.1:0?client-cert=required&services=admin",
        &unix,
    ] {
        command.args(["--listen", place]);
    }
    command.args(["--tls-client-ca", &files.text("ca.pem")]);
    command.args(files.flags()).args(["--auth", &auth.path()]);
    let server = Server::of(&mut command).await;
    let listeners = listeners(&server, files, &socket).await;
    (server, listeners)
}

#[tokio::test]
async fn every_method_at_every_listener_asks_for_a_credential_or_is_meant_for_anybody() {
    let files = Files::new();
    let auth = Auth::new(&files);
    let (_server, listeners) = everywhere(&files, &auth).await;
    let right = auth.token(Token::default());
    let changed = |token: &str| {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        format!("{signed}.{flipped}{}", &signature[1..])
    };
    let credentials: BTreeMap<&str, Option<String>> = [
        ("none", None),
        ("wrong", Some("something".to_owned())),
        ("changed", Some(changed(&right))),
        (
            "expired",
            Some(auth.token(Token {
                lasts: -3_600,
                ..Token::default()
            })),
        ),
        ("foreign", Some(Auth::new(&files).token(Token::default()))),
        (
            "not ours",
            Some(auth.token(Token {
                audience: "others",
                ..Token::default()
            })),
        ),
    ]
    .into();
    let rows: BTreeMap<_, _> = (ROWS.iter())
        .map(|(path, asks, comes)| (*path, (*asks, *comes)))
        .collect();
    // From the last: one of the first subscribes whom a later one would unsubscribe.
    for path in methods().into_iter().rev() {
        let (asks, comes) = *rows
            .get(&*path)
            .unwrap_or_else(|| panic!("{path} is in no row"));
        for At {
            kind,
            requests,
            is_for_admins,
        } in &listeners
        {
            // Health and reflection are at every listener.
            let is_there = !is_for_admins || path.starts_with("/grpc.");
            let expected = if is_there {
                comes
            } else {
                Comes::To(Code::Unimplemented)
            };
            assert_eq!(
                call(requests, &path, Some(&right)).await,
                expected,
                "{path} by {kind}"
            );
            for (credential, token) in &credentials {
                let refused = Comes::To(Code::Unauthenticated);
                let expected = if asks { refused } else { comes };
                let found = call(requests, &path, token.as_deref()).await;
                assert_eq!(found, expected, "{path} by {kind} with {credential}");
            }
        }
    }
    assert_eq!(rows.len(), methods().len(), "a row of no method");
}

#[tokio::test]
async fn a_path_in_an_odd_form_comes_to_no_method_with_or_without_a_credential() {
    let files = Files::new();
    let auth = Auth::new(&files);
    let server = Server::start(&["--auth", &auth.path()]).await;
    let requests = connect(TcpStream::connect(server.address).await.unwrap()).await;
    let right = auth.token(Token::default());
    for path in [
        "//longlived.v1.TopicService/ListTopics",
        "/longlived.v1.TopicService/ListTopics/",
        "/longlived.v1.TopicService/listtopics",
        "/longlived.v1.TopicService%2FListTopics",
        "/longlived.v1.TopicService/ListTopics?x",
        "/grpc.health.v1.Health/Check/../../longlived.v1.TopicService/ListTopics",
        "//grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Nothing",
        "/",
    ] {
        let without = call(&requests, path, None).await;
        // What a path means is decided once: one that has a query is the path before it.
        let is_method = path.contains('?');
        assert_eq!(without, Comes::To(Code::Unauthenticated), "{path}");
        let with = call(&requests, path, Some(&right)).await;
        let expected = if is_method {
            Code::Ok
        } else {
            Code::Unimplemented
        };
        assert_eq!(with, Comes::To(expected), "{path}");
    }
}
