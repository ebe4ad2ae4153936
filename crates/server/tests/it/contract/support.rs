//! A whole node on a free port, generated clients to it, and a bare HTTP/2 client for what those hide.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request};
use longlived_api::{
    protos::longlived_client::LonglivedClient,
    v1::{
        self, publish_service_client::PublishServiceClient,
        subscription_service_client::SubscriptionServiceClient,
    },
};
use longlived_broker::store::Store;
use longlived_server::store::Limits;
use longlived_server::{Config, Environment, HistoryClass, ServeError, Server, TopicFilter};
use tokio::{
    net::TcpSocket,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status, Streaming, transport::Channel, transport::Endpoint};
use tonic_types::StatusExt as _;

pub(super) use longlived_api::v1::{
    GapPolicy, gap::Reason as GapReason, go_away::Reason as GoAwayReason,
    subscribe_response::Frame, subscription_change::State as ChangeState, welcome::Outcome,
};

/// The longest any step of a test may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let Ok(output) = timeout(PATIENCE, future).await else {
        panic!("not within {PATIENCE:?}: {what}");
    };
    output
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
pub(super) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(future)
}

/// A node that runs until it is told to drain, or the test ends.
pub(super) struct Node {
    pub(super) address: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
    channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    run: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Node {
    pub(super) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(super) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        change(&mut config);
        let server = Server::bind(config, Environment::system()).expect("a free port");
        Self::run(server)
    }

    /// Over a store of the test's own.
    pub(super) fn start_over(store: Arc<dyn Store>) -> Self {
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            stall_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let server = Server::bind(config, Environment::system()).expect("a free port");
        Self::run(server.with_store(store))
    }

    fn run(server: Server) -> Self {
        let address = server.local_addr();
        let metrics = server.metrics_addr();
        let (stop, stopped) = oneshot::channel();
        let run = spawn(async move {
            let stop = async { stopped.await.unwrap_or(()) };
            server.run(stop).await
        });
        Self {
            address,
            metrics,
            channel: endpoint(address).connect_lazy(),
            stop: Some(stop),
            run: Some(run),
        }
    }

    /// Tells it to drain; returns at once.
    pub(super) fn drain(&mut self) {
        self.stop
            .take()
            .expect("told once")
            .send(())
            .expect("it runs");
    }

    /// Returns when it has ended by itself.
    pub(super) async fn ended(&mut self) {
        self.outcome().await.expect("it serves to the end");
    }

    /// How it ended by itself.
    pub(super) async fn outcome(&mut self) -> Result<(), ServeError> {
        let run = self.run.take().expect("waited for once");
        within("the node ends", run)
            .await
            .expect("it does not panic")
    }

    /// The connection that the clients below share.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn subscriptions(&self) -> SubscriptionServiceClient<Channel> {
        SubscriptionServiceClient::new(self.channel())
    }

    pub(super) fn publishing(&self) -> PublishServiceClient<Channel> {
        PublishServiceClient::new(self.channel())
    }

    pub(super) fn legacy(&self) -> LonglivedClient<Channel> {
        LonglivedClient::new(self.channel())
    }

    /// Subscribes; the stream's first word is not read yet.
    pub(super) async fn subscribe(&self, request: v1::SubscribeRequest) -> Result<Stream, Status> {
        let mut client = self.subscriptions();
        let response = within("headers of Subscribe", client.subscribe(request)).await;
        let response = response.map_err(told)?;
        Ok(Stream::new(response.into_inner()))
    }

    /// Subscribes and reads the Welcome.
    pub(super) async fn open(&self, request: v1::SubscribeRequest) -> (Stream, v1::Welcome) {
        let mut stream = self.subscribe(request).await.expect("it is let in");
        let welcome = stream.welcome().await;
        (stream, welcome)
    }

    pub(super) async fn try_publish(
        &self,
        request: v1::PublishRequest,
    ) -> Result<v1::PublishResponse, Status> {
        let mut client = self.publishing();
        let response = within("an answer to Publish", client.publish(request)).await;
        Ok(response.map_err(told)?.into_inner())
    }

    /// Publishes; the sequence.
    pub(super) async fn publish(&self, topic: &str, payload: &str) -> u64 {
        let answer = self.try_publish(message(topic, payload)).await;
        answer
            .expect("it is stored")
            .position
            .expect("a position")
            .sequence
    }

    /// Publishes all of them, a few hundred in a call, each of which is answered in time whoever reads slowly.
    pub(super) async fn publish_all(&self, messages: Vec<v1::PublishRequest>) {
        for messages in messages.chunks(200) {
            let mut client = self.publishing();
            let stored = client.bulk_publish(tokio_stream::iter(messages.to_vec()));
            let stored = within("an answer to BulkPublish", stored).await;
            let stored = stored.expect("they are stored").into_inner();
            assert_eq!(stored.published, messages.len() as u64);
        }
    }

    /// The same, by a task of its own.
    pub(super) fn publishing_in_background(&self, topic: &str, payload: &str) -> Publishing {
        let mut client = self.publishing();
        let message = message(topic, payload);
        Publishing(spawn(
            async move { client.publish(message).await.map(drop) },
        ))
    }

    pub(super) async fn unsubscribe(&self, id: &str) -> Result<v1::Position, Status> {
        let request = v1::UnsubscribeRequest {
            subscriber_id: id.to_owned(),
        };
        let mut client = self.subscriptions();
        let response = within("an answer to Unsubscribe", client.unsubscribe(request)).await;
        let answer = response.map_err(told)?.into_inner();
        Ok(answer.position.expect("a position"))
    }
}

/// A message that is being published.
pub(super) struct Publishing(JoinHandle<Result<(), Status>>);

impl Publishing {
    pub(super) async fn stored(self) {
        let answer = within("an answer to Publish", self.0).await;
        answer.expect("no panic").expect("it is stored");
    }
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address is a URL")
}

/// A class that keeps this many events of any age.
pub(super) fn history(filter: &str, events: u64) -> HistoryClass {
    HistoryClass {
        filter: TopicFilter::parse(filter).expect("a filter"),
        limits: Limits {
            events,
            age: None,
            ..Limits::DEFAULT
        },
    }
}

pub(super) fn subscription(filter: &str) -> v1::Subscription {
    v1::Subscription {
        topic_filter: filter.to_owned(),
    }
}

/// A new subscription with nothing special.
pub(super) fn request(id: &str, filters: &[&str]) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        subscriber_id: id.to_owned(),
        subscriptions: filters.iter().map(|filter| subscription(filter)).collect(),
        ..v1::SubscribeRequest::default()
    }
}

pub(super) fn position(epoch: u64, sequence: u64) -> v1::Position {
    v1::Position { epoch, sequence }
}

/// Everything that is kept, from the first on.
pub(super) fn earliest() -> v1::Start {
    v1::Start {
        at: Some(v1::start::At::Earliest(true)),
    }
}

pub(super) fn message(topic: &str, payload: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        topic: topic.to_owned(),
        payload: payload.to_owned().into(),
        headers: BTreeMap::new(),
        ..v1::PublishRequest::default()
    }
}

/// The responses of one `Subscribe` or `Session` call.
pub(super) struct Stream {
    inner: Streaming<v1::SubscribeResponse>,
}

impl Stream {
    pub(super) fn new(inner: Streaming<v1::SubscribeResponse>) -> Self {
        Self { inner }
    }

    /// The next response, or how the stream ended.
    pub(super) async fn next(&mut self) -> Result<Frame, Result<(), Status>> {
        match within("a response", self.inner.message()).await {
            Ok(Some(response)) => Ok(response.frame.expect("every response says something")),
            Ok(None) => Err(Ok(())),
            Err(status) => Err(Err(status)),
        }
    }

    pub(super) async fn frame(&mut self) -> Frame {
        match self.next().await {
            Ok(frame) => frame,
            Err(end) => panic!("a response was expected; the stream ended: {end:?}"),
        }
    }

    pub(super) async fn welcome(&mut self) -> v1::Welcome {
        match self.frame().await {
            Frame::Welcome(welcome) => welcome,
            other => panic!("Welcome was expected, not {other:?}"),
        }
    }

    pub(super) async fn event(&mut self) -> v1::Event {
        match self.frame().await {
            Frame::Event(event) => event,
            other => panic!("an event was expected, not {other:?}"),
        }
    }

    /// The sequences of the next events, nothing else among them.
    pub(super) async fn events(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::with_capacity(count);
        for _ in 0..count {
            sequences.push(self.event().await.sequence);
        }
        sequences
    }

    pub(super) async fn gap(&mut self) -> v1::Gap {
        match self.frame().await {
            Frame::Gap(gap) => gap,
            other => panic!("a Gap was expected, not {other:?}"),
        }
    }

    pub(super) async fn progress(&mut self) -> v1::Progress {
        match self.frame().await {
            Frame::Progress(progress) => progress,
            other => panic!("Progress was expected, not {other:?}"),
        }
    }

    pub(super) async fn go_away(&mut self) -> v1::GoAway {
        match self.frame().await {
            Frame::GoAway(go_away) => go_away,
            other => panic!("GoAway was expected, not {other:?}"),
        }
    }

    pub(super) async fn change(&mut self) -> v1::SubscriptionChange {
        match self.frame().await {
            Frame::SubscriptionChange(change) => change,
            other => panic!("a SubscriptionChange was expected, not {other:?}"),
        }
    }

    /// The end, which must come now.
    pub(super) async fn end(&mut self) -> Result<(), Status> {
        match self.next().await {
            Err(end) => end,
            Ok(frame) => panic!("the end was expected, not {frame:?}"),
        }
    }

    pub(super) async fn ends_with(&mut self, code: Code) -> Status {
        let status = self.end().await.expect_err("it does not end with OK");
        assert_eq!(status.code(), code, "{status:?}");
        told(status)
    }
}

/// Returns when streams that end together have ended, as the first of their ids shows that is not found. One id
/// after the other is asked for, since asking ends whoever is still there.
pub(super) async fn until_gone(node: &Node, ids: impl Iterator<Item = String>) {
    for id in ids {
        match node.unsubscribe(&id).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(status) if status.code() == Code::NotFound => return,
            Err(status) => panic!("{status:?}"),
        }
    }
    panic!("some are still there");
}

/// The reason that a status of version 1 gives, and what it quotes. Every one does, and names one time to come back, if
/// any.
pub(super) fn cause(status: &Status) -> tonic_types::ErrorInfo {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "longlived");
    let told = status.get_details_retry_info();
    let told = told.map(|told| told.retry_delay.expect("a time").as_millis());
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|ms| ms.to_str().expect("ASCII").parse().expect("a number"));
    assert_eq!(told, pushback, "{status:?}");
    info
}

pub(super) fn told(status: Status) -> Status {
    cause(&status);
    status
}

pub(super) fn assert_says(status: &Status, code: Code, parts: &[&str]) {
    assert_eq!(status.code(), code, "{status:?}");
    for part in parts {
        assert!(
            status.message().contains(part),
            "`{part}` is not in `{}`",
            status.message()
        );
    }
}

/// The 5-byte prefix and the message.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a small message"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// How much a peer is ready to take.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Of each stream.
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    /// What the kernel keeps for a socket that is not read; as much as it likes without it.
    pub(super) socket_bytes: Option<u32>,
}

impl Default for Room {
    /// Wide open for the connection, so that one stream alone can be stalled.
    fn default() -> Self {
        Self {
            stream_window: 64 << 10,
            connection_window: 16 << 20,
            socket_bytes: None,
        }
    }
}

/// A connection of its own, without what a generated client does by itself.
pub(super) struct Raw {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    frozen: watch::Sender<bool>,
}

impl Raw {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, Room::default()).await
    }

    pub(super) async fn connect_with(address: SocketAddr, room: Room) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = room.socket_bytes {
            let set = socket.set_recv_buffer_size(bytes);
            set.expect("a size that the kernel accepts");
        }
        let socket = socket.connect(address).await.expect("it listens");
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(room.connection_window)
            .initial_window_size(room.stream_window);
        let handshake = builder.handshake(socket);
        let (requests, connection) = handshake.await.expect("it speaks HTTP/2");
        let (frozen, mut asleep) = watch::channel(false);
        let driver = spawn(async move {
            let mut connection = std::pin::pin!(connection);
            loop {
                let thawed = asleep.wait_for(|asleep| !asleep).await;
                // Who froze it and let go of it wants it to stay so.
                if thawed.map(drop).is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::select! {
                    biased;
                    Ok(()) = asleep.changed() => {}
                    _ = connection.as_mut() => return,
                }
            }
        });
        Self {
            requests,
            driver,
            frozen,
        }
    }

    /// From now on nothing is read from the socket, or written to it; it stays open.
    pub(super) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// It is read and written again.
    pub(super) fn thaw(&self) {
        self.frozen.send_replace(false);
    }

    /// Closes the socket without a word.
    pub(super) fn vanish(self) {
        self.driver.abort();
    }

    /// Sends the request's headers; its body and the answer are the caller's matter.
    pub(super) async fn begin(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut request = Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self
            .requests
            .clone()
            .ready()
            .await
            .expect("the connection stands");
        let request = request.body(()).expect("a request");
        ready
            .send_request(request, false)
            .expect("the connection stands")
    }

    /// A request with another method or content type, without a body.
    pub(super) async fn begin_with(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://test{path}"))
            .header("content-type", content_type)
            .body(())
            .expect("a request");
        let ready = self.requests.clone().ready().await;
        let mut ready = ready.expect("the connection stands");
        ready
            .send_request(request, true)
            .expect("the connection stands")
    }

    /// A whole call: one request message, and the answer's headers.
    pub(super) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> RawReply {
        let (response, mut stream) = self.begin(path, headers).await;
        stream
            .send_data(body.into(), true)
            .expect("the stream stands");
        RawReply::of(response).await
    }
}

pub(super) struct RawReply {
    pub(super) headers: HeaderMap,
    pub(super) http_status: u16,
    /// The headers ended the stream.
    pub(super) headers_only: bool,
    body: RecvStream,
    read: BytesMut,
    // Bytes in `read` whose room was not given back.
    held: usize,
    connection: Option<Raw>,
}

impl RawReply {
    pub(super) async fn of(response: h2::client::ResponseFuture) -> Self {
        let response = within("response headers", response)
            .await
            .expect("an answer");
        let headers_only = response.body().is_end_stream();
        let (head, body) = response.into_parts();
        Self {
            headers: head.headers,
            http_status: head.status.as_u16(),
            headers_only,
            body,
            read: BytesMut::new(),
            held: 0,
            connection: None,
        }
    }

    /// The connection lives as long as this reply.
    pub(super) fn keep(&mut self, connection: Raw) {
        self.connection = Some(connection);
    }

    /// The connection that was kept.
    pub(super) fn connection(&mut self) -> &mut Raw {
        self.connection.as_mut().expect("it was kept")
    }

    /// Closes the connection that was kept without a word.
    pub(super) fn vanish(&mut self) {
        self.connection.take().expect("it was kept").vanish();
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Exactly so many bytes of DATA.
    pub(super) async fn bytes(&mut self, count: usize) -> Bytes {
        let held = std::mem::take(&mut self.held);
        self.body
            .flow_control()
            .release_capacity(held)
            .expect("it was received");
        while self.read.len() < count {
            let chunk = within("DATA", self.body.data())
                .await
                .expect("the stream goes on");
            let chunk = chunk.expect("no error");
            self.body
                .flow_control()
                .release_capacity(chunk.len())
                .expect("it was received");
            self.read.extend_from_slice(&chunk);
        }
        self.read.split_to(count).freeze()
    }

    /// Takes DATA without giving its room back, until so many bytes of this stream are held.
    pub(super) async fn hold(&mut self, bytes: usize) {
        while self.held < bytes {
            let chunk = within("DATA", self.body.data()).await;
            let chunk = chunk.expect("the stream goes on").expect("no error");
            self.read.extend_from_slice(&chunk);
            self.held += chunk.len();
        }
    }

    /// Bytes of the stream whose room was not given back.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Returns when the stream is reset. What came before is kept, and its room is not given back.
    pub(super) async fn reset(&mut self) {
        while let Some(Ok(chunk)) = self.body.data().await {
            self.read.extend_from_slice(&chunk);
            self.held += chunk.len();
        }
    }

    /// The rest of the data, and the trailers (the headers if those ended the stream).
    pub(super) async fn rest(&mut self) -> (Bytes, HeaderMap) {
        while let Some(chunk) = within("DATA or the end", self.body.data()).await {
            let chunk = chunk.expect("no error before the end");
            self.body
                .flow_control()
                .release_capacity(chunk.len())
                .expect("it was received");
            self.read.extend_from_slice(&chunk);
        }
        let trailers = within("trailers", self.body.trailers())
            .await
            .expect("no error");
        let trailers = trailers.unwrap_or_else(|| self.headers.clone());
        (self.read.split().freeze(), trailers)
    }

    /// The next message's bytes without the prefix.
    pub(super) async fn message(&mut self) -> Bytes {
        let prefix = self.bytes(5).await;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        self.bytes(length as usize).await
    }

    /// The next response of a subscription.
    pub(super) async fn frame(&mut self) -> Frame {
        let message = self.message().await;
        let response: v1::SubscribeResponse =
            prost::Message::decode(message).expect("a SubscribeResponse");
        response.frame.expect("every response says something")
    }
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
