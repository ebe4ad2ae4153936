//! A pub/sub server as small as it can be, which checks its calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use longlived_api::v1::{
    Event, Gap, PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse, Welcome,
    subscribe_response::Frame,
};
use longlived_testkit::grpc::{Messages, framed};
use prost::Message as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ServerConfig;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::load::control::{TlsPlan, Trust};

/// The misbehaviour of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Correct,
    /// Every tenth event is not sent to the subscriber `bench-1`.
    LosesSome,
    /// Every call must bring [`TOKEN`].
    AsksForToken,
    /// `bench-2` is answered with trailers only.
    RefusesOne,
}

/// Longer than a string whose length fits one byte (RFC 7541, 5.2), and one more.
pub(super) const TOKEN: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
);

/// Serves until it is dropped.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    /// How the load knows it.
    pub(super) tls: Option<TlsPlan>,
    _tasks: tokio::runtime::Runtime,
}

impl TestServer {
    pub(super) fn start(behaviour: Behaviour) -> Self {
        Self::launch(behaviour, None)
    }

    /// A correct one with TLS; `trust` is how the load trusts its certificate.
    pub(super) fn start_with_tls(trust: fn(String) -> Trust) -> Self {
        Self::launch(Behaviour::Correct, Some(trust))
    }

    fn launch(behaviour: Behaviour, trust: Option<fn(String) -> Trust>) -> Self {
        let certificate = trust.map(certificate);
        let (acceptor, tls) = certificate.unzip();
        let tasks = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = tasks.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (events, _) = broadcast::channel(100_000);
        tasks.block_on(async {
            // The set lives in the task that accepts, and that ends with the runtime.
            let mut accepting = JoinSet::new();
            accepting.spawn(accept(listener, acceptor, events, behaviour));
            accepting.detach_all();
        });
        Self {
            address,
            tls,
            _tasks: tasks,
        }
    }
}

/// A certificate for 127.0.0.1, of both ends.
fn certificate(trust: fn(String) -> Trust) -> (TlsAcceptor, TlsPlan) {
    let key = KeyPair::generate().unwrap();
    let name = "127.0.0.1".to_owned();
    let params = CertificateParams::new([name.clone()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let plan = TlsPlan {
        trust: trust(certificate.pem()),
        server_name: name,
        after_line: false,
        tickets: false,
    };
    (TlsAcceptor::from(Arc::new(config)), plan)
}

type Events = broadcast::Sender<Arc<PublishRequest>>;

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    events: Events,
    behaviour: Behaviour,
) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (acceptor, events) = (acceptor.clone(), events.clone());
        connections.spawn(async move {
            let Some(acceptor) = acceptor else {
                return serve(socket, "http", events, behaviour).await;
            };
            // A client may refuse the certificate.
            if let Ok(socket) = acceptor.accept(socket).await {
                assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                serve(socket, "https", events, behaviour).await;
            }
        });
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    scheme: &str,
    events: Events,
    behaviour: Behaviour,
) {
    // A client may leave first.
    let Ok(mut connection) = h2::server::handshake(socket).await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        check_headers(&request, scheme, behaviour);
        match request.uri().path() {
            "/longlived.v1.SubscriptionService/Subscribe" => {
                calls.spawn(subscribe(
                    request.into_body(),
                    respond,
                    events.clone(),
                    behaviour,
                ));
            }
            "/longlived.v1.PublishService/PublishStream" => {
                calls.spawn(publish(request.into_body(), respond, events.clone()));
            }
            other => panic!("called {other}"),
        }
    }
}

fn check_headers(request: &Request<RecvStream>, scheme: &str, behaviour: Behaviour) {
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri().scheme_str(), Some(scheme));
    assert!(
        request
            .uri()
            .authority()
            .unwrap()
            .as_str()
            .starts_with("127.0.0.1:")
    );
    let mut headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    if behaviour == Behaviour::AsksForToken {
        let authorization = headers.remove("authorization");
        assert_eq!(authorization, Some(format!("Bearer {TOKEN}").as_str()));
    }
    assert_eq!(
        headers,
        BTreeMap::from([("content-type", "application/grpc"), ("te", "trailers")])
    );
}

pub(super) fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        HeaderValue::from_static(status),
    )])
}

fn response(frame: Frame) -> Bytes {
    framed(&SubscribeResponse { frame: Some(frame) }.encode_to_vec())
}

async fn subscribe(
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    events: Events,
    behaviour: Behaviour,
) {
    let mut messages = Messages::new(body);
    let request: SubscribeRequest = messages.next().await.unwrap();
    assert!(
        messages.next::<SubscribeRequest>().await.is_none(),
        "the request side is closed"
    );
    if behaviour == Behaviour::RefusesOne && request.subscriber_id == "bench-2" {
        let mut refusal = Response::new(());
        *refusal.headers_mut() = trailers("14");
        respond.send_response(refusal, true).unwrap();
        return;
    }
    let filter = request.subscriptions[0].topic_filter.clone();
    let mut receiver = events.subscribe();
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream
        .send_data(response(Frame::Welcome(Welcome::default())), false)
        .unwrap();
    stream
        .send_data(response(Frame::Gap(Gap::default())), false)
        .unwrap();
    let mut sequence = 0;
    while let Ok(message) = receiver.recv().await {
        if message.topic != filter {
            continue;
        }
        sequence += 1;
        if behaviour == Behaviour::LosesSome
            && request.subscriber_id == "bench-1"
            && sequence % 10 == 0
        {
            continue;
        }
        let event = Event {
            topic: message.topic.clone(),
            sequence,
            payload: message.payload.clone(),
            ..Event::default()
        };
        if stream
            .send_data(response(Frame::Event(event)), false)
            .is_err()
        {
            return;
        }
    }
}

async fn publish(body: RecvStream, mut respond: SendResponse<Bytes>, events: Events) {
    let mut messages = Messages::new(body);
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    while let Some(message) = messages.next::<PublishRequest>().await {
        // Without a subscriber nobody hears it.
        let _ = events.send(Arc::new(message));
        if stream
            .send_data(framed(&PublishResponse::default().encode_to_vec()), false)
            .is_err()
        {
            return;
        }
    }
    let _ = stream.send_trailers(trailers("0"));
}
