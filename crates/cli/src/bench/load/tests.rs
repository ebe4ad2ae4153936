//! The load against a server made of `h2`, which decodes what is written by hand and frames what is read.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use longlived_api::v1::{
    Event, Gap, PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse, Welcome,
    subscribe_response::Frame,
};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::control::{
    Command, Connected, Finished, Plan, Protocol, PublishPlan, Published, Report,
};
use super::event_loop::Load;
use crate::bench::args::{PayloadKind, Topics};
use crate::bench::clock::monotonic_ns;
use crate::compression_args::CompressionFlag;

const SECOND_NS: u64 = 1_000_000_000;

/// What the server does beside serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Correct,
    /// Every tenth event is not sent to the subscriber `bench-1`.
    LosesSome,
    /// `bench-2` is answered with trailers only.
    RefusesOne,
}

/// A pub/sub server as small as it can be.
struct TestServer {
    address: SocketAddr,
    _tasks: tokio::runtime::Runtime,
}

impl TestServer {
    fn start(behaviour: Behaviour) -> Self {
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
            accepting.spawn(accept(listener, events, behaviour));
            accepting.detach_all();
        });
        Self {
            address,
            _tasks: tasks,
        }
    }
}

type Events = broadcast::Sender<Arc<PublishRequest>>;

async fn accept(listener: TcpListener, events: Events, behaviour: Behaviour) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(serve(socket, events.clone(), behaviour));
    }
}

async fn serve(socket: TcpStream, events: Events, behaviour: Behaviour) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        check_headers(&request);
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

fn check_headers(request: &Request<RecvStream>) {
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri().scheme_str(), Some("http"));
    assert!(
        request
            .uri()
            .authority()
            .unwrap()
            .as_str()
            .starts_with("127.0.0.1:")
    );
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        headers,
        BTreeMap::from([("content-type", "application/grpc"), ("te", "trailers")])
    );
}

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        HeaderValue::from_static(status),
    )])
}

fn grpc(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    framed.extend(bytes);
    framed.into()
}

fn response(frame: Frame) -> Bytes {
    grpc(&SubscribeResponse { frame: Some(frame) })
}

/// The messages of a request body, as they come.
struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Some(M::decode(self.buffer.split_to(length)).unwrap());
                }
            }
            let data = self.body.data().await?.ok()?;
            self.body
                .flow_control()
                .release_capacity(data.len())
                .unwrap();
            self.buffer.extend_from_slice(&data);
        }
    }
}

async fn subscribe(
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    events: Events,
    behaviour: Behaviour,
) {
    let mut messages = Messages {
        body,
        buffer: BytesMut::new(),
    };
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
    let mut messages = Messages {
        body,
        buffer: BytesMut::new(),
    };
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    while let Some(message) = messages.next::<PublishRequest>().await {
        // Without a subscriber nobody hears it.
        let _ = events.send(Arc::new(message));
        if stream
            .send_data(grpc(&PublishResponse::default()), false)
            .is_err()
        {
            return;
        }
    }
    let _ = stream.send_trailers(trailers("0"));
}

/// A load in a thread, spoken to as a process is.
struct TestLoad {
    commands: PipeWriter,
    reports: BufReader<PipeReader>,
    thread: JoinHandle<()>,
}

impl TestLoad {
    fn start(plan: &Plan) -> Self {
        let (command_reader, commands) = pipe().unwrap();
        let (reports, report_writer) = pipe().unwrap();
        let plan = plan.clone();
        let thread = std::thread::spawn(move || {
            Load::new(plan, BufReader::new(command_reader), report_writer)
                .unwrap()
                .run()
                .unwrap();
        });
        let mut load = Self {
            commands,
            reports: BufReader::new(reports),
            thread,
        };
        assert!(matches!(load.hear(), Report::Ready));
        load
    }

    fn tell(&mut self, command: &Command) {
        let line = serde_json::to_string(command).unwrap();
        // In two parts: a line need not arrive in one read.
        let (first, second) = line.split_at(line.len() / 2);
        self.commands.write_all(first.as_bytes()).unwrap();
        self.commands
            .write_all(format!("{second}\n").as_bytes())
            .unwrap();
    }

    fn hear(&mut self) -> Report {
        let mut line = String::new();
        self.reports.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn connect(&mut self) -> Connected {
        self.tell(&Command::Connect {
            deadline_ns: monotonic_ns() + 20 * SECOND_NS,
        });
        match self.hear() {
            Report::Connected(connected) => connected,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, rate: u64, payload_bytes: u32, in_flight_max: u64) -> Published {
        self.publish_every(0, rate, payload_bytes, in_flight_max)
    }

    fn publish_every(
        &mut self,
        interval_ns: u64,
        rate: u64,
        payload_bytes: u32,
        in_flight_max: u64,
    ) -> Published {
        let begin_ns = monotonic_ns();
        let end_ns = begin_ns + SECOND_NS / 2;
        self.tell(&Command::Window {
            start_ns: begin_ns,
            end_ns: end_ns + 20 * SECOND_NS,
        });
        self.tell(&Command::Publish(PublishPlan {
            begin_ns,
            end_ns,
            rate,
            interval_ns,
            payload_bytes,
            in_flight_max,
        }));
        match self.hear() {
            Report::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    fn finish(mut self, published: &Published) -> Finished {
        let deadline_ns = monotonic_ns() + 20 * SECOND_NS;
        self.tell(&Command::Finish {
            published: published.clone(),
            quiet_ns: SECOND_NS,
            deadline_ns,
        });
        let report = self.hear();
        self.thread.join().unwrap();
        match report {
            Report::Finished(finished) => finished,
            other => panic!("{other:?}"),
        }
    }
}

fn plan(server: &TestServer, connections: u32, streams: u32, topics: Topics) -> Plan {
    Plan {
        server: server.address,
        connections,
        streams,
        subscriber_first: 0,
        subscribers_total: u64::from(connections * streams),
        topics,
        stream_window_bytes: 1 << 20,
        connection_window_bytes: 16 << 20,
        sample_every: 1,
        protocol: Protocol::Grpc,
        compression: CompressionFlag::None,
        payload_kind: PayloadKind::Dots,
    }
}

#[test]
fn every_subscriber_is_welcomed_and_receives_every_message() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 3, 40, Topics::One));
    let connected = load.connect();
    assert_eq!(
        (connected.welcomed, connected.refused, connected.trouble),
        (120, 0, None)
    );

    let published = load.publish(200, 128, 1000);
    assert_eq!(published.trouble, None);
    assert_eq!(published.acknowledged, published.sent);
    assert!(
        (20..=101).contains(&published.sent),
        "200/s for half a second gave {}",
        published.sent
    );

    let finished = load.finish(&published);
    assert_eq!(
        (finished.lost, finished.repeated, finished.ended),
        (0, 0, 0)
    );
    assert_eq!(finished.delivered, published.sent * 120);
    assert_eq!(finished.delivered_in_window, finished.delivered);
    assert_eq!(finished.gaps, 120);
    let latencies: u64 = finished.latencies.iter().map(|(_, count)| count).sum();
    // A reader that is far behind may cut an event at the end of its buffer.
    assert!(
        latencies.abs_diff(finished.delivered) < 10,
        "{latencies} of {}",
        finished.delivered
    );
    assert!(
        finished
            .latencies
            .iter()
            .all(|(nanoseconds, _)| *nanoseconds < 20 * SECOND_NS)
    );
}

#[test]
fn messages_larger_than_frames_and_windows_arrive() {
    let server = TestServer::start(Behaviour::Correct);
    let small_windows = Plan {
        stream_window_bytes: 65_535,
        connection_window_bytes: 65_535,
        ..plan(&server, 1, 3, Topics::One)
    };
    let mut load = TestLoad::start(&small_windows);
    assert_eq!(load.connect().welcomed, 3);
    let published = load.publish(60, 100_000, 1000);
    assert_eq!(
        (published.trouble.as_deref(), published.acknowledged),
        (None, published.sent)
    );
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent * 3);
}

#[test]
fn without_a_rate_no_more_than_allowed_is_in_flight_and_all_arrives() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 2, 1, Topics::One));
    assert_eq!(load.connect().welcomed, 2);
    let published = load.publish(0, 64, 16);
    assert_eq!(
        (published.trouble.as_deref(), published.acknowledged),
        (None, published.sent)
    );
    assert!(published.sent > 16, "{}", published.sent);
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent * 2);
}

#[test]
fn with_an_interval_messages_leave_in_groups_of_what_is_due() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 1, 1, Topics::One));
    assert_eq!(load.connect().welcomed, 1);
    let published = load.publish_every(SECOND_NS / 10, 1_000, 32, 1000);
    // One at the begin, and from then on 100 in every tenth of the half second.
    assert_eq!((published.sent - 1) % 100, 0, "{}", published.sent);
    assert!((101..=401).contains(&published.sent), "{}", published.sent);
    let finished = load.finish(&published);
    assert_eq!(finished.delivered, published.sent);
}

#[test]
fn inboxes_are_published_to_in_turn() {
    let server = TestServer::start(Behaviour::Correct);
    let mut load = TestLoad::start(&plan(&server, 2, 5, Topics::Inbox));
    assert_eq!(load.connect().welcomed, 10);
    let published = load.publish(100, 32, 1000);
    let finished = load.finish(&published);
    assert_eq!((finished.lost, finished.repeated), (0, 0));
    assert_eq!(finished.delivered, published.sent);
}

#[test]
fn what_the_server_swallows_is_reported_as_lost() {
    let server = TestServer::start(Behaviour::LosesSome);
    let mut load = TestLoad::start(&plan(&server, 1, 3, Topics::One));
    assert_eq!(load.connect().welcomed, 3);
    let published = load.publish(100, 32, 1000);
    let finished = load.finish(&published);
    assert_eq!(finished.lost, published.sent / 10);
    assert_eq!(finished.repeated, 0);
}

#[test]
fn a_refused_stream_is_named_with_its_status() {
    let server = TestServer::start(Behaviour::RefusesOne);
    let mut load = TestLoad::start(&plan(&server, 1, 4, Topics::One));
    let connected = load.connect();
    assert_eq!((connected.welcomed, connected.refused), (3, 1));
    assert_eq!(
        connected.trouble.as_deref(),
        Some("the server ended a stream with gRPC status 14")
    );
}

#[test]
fn nobody_listening_is_a_refusal_and_not_a_panic() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = TestServer::start(Behaviour::Correct);
    let nowhere = Plan {
        server: free,
        ..plan(&server, 2, 3, Topics::One)
    };
    let connected = TestLoad::start(&nowhere).connect();
    assert_eq!((connected.welcomed, connected.refused), (0, 6));
    assert!(connected.trouble.unwrap().contains("refused"));
}

#[test]
fn every_status_is_recognised_as_h2_writes_it() {
    // The codes are those of gRPC; `h2` writes name and value Huffman-coded.
    for status in 0..=16_u8 {
        let text: &'static str = Box::leak(status.to_string().into_boxed_str());
        assert_eq!(status_over_h2(text), Some(status));
    }
}

fn status_over_h2(status: &'static str) -> Option<u8> {
    use crate::bench::http2::reader::{Reader, Sink, StreamEnd};
    use crate::bench::http2::request::{self, Windows};

    struct Ends(Option<StreamEnd>);
    impl Sink for Ends {
        fn message(&mut self, _: u32, _: u32, _: &[u8]) {}
        fn stream_ended(&mut self, _: u32, end: StreamEnd) {
            self.0 = Some(end);
        }
        fn setting(&mut self, _: u16, _: u32) {}
        fn window_update(&mut self, _: Option<u32>, _: u32) {}
        fn going_away(&mut self, _: u32) {}
    }

    let windows = Windows {
        stream_bytes: 65_535,
        connection_bytes: 65_535,
    };
    let (client, server) = tokio::io::duplex(64 * 1024);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let (mut from_server, mut to_server) = tokio::io::split(client);
        let mut out = Vec::new();
        request::open_connection(&mut out, windows);
        request::call_headers(&mut out, 1, "127.0.0.1:1", "/a/b");
        to_server.write_all(&out).await.unwrap();
        let answer = async {
            let mut connection = h2::server::handshake(server).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_trailers(trailers(status)).unwrap();
            std::future::poll_fn(|context| connection.poll_closed(context))
                .await
                .ok();
        };
        let read = async {
            let mut reader = Reader::new(1, windows);
            let (mut ends, mut reply) = (Ends(None), Vec::new());
            let mut chunk = [0; 1024];
            while ends.0.is_none() {
                let length = from_server.read(&mut chunk).await.unwrap();
                reader
                    .read(&chunk[..length], &mut ends, &mut reply)
                    .unwrap();
                to_server.write_all(&reply).await.unwrap();
                reply.clear();
            }
            ends.0
        };
        tokio::select! {
            () = answer => None,
            end = read => match end? {
                StreamEnd::Finished { grpc_status } => grpc_status,
                StreamEnd::Reset { .. } => None,
            },
        }
    })
}
