//! A server whose every word is chosen by the test: calls arrive in a queue and are answered by hand, down to
//! HTTP statuses, missing trailers, resets and dead connections.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, Uri};
use longlived_api::v1;
use longlived_api::v1::subscribe_response::Frame;
use longlived_client::{
    BackoffOptions, Client, ClientBuilder, Item, Notice, SubscribeError, Subscriber,
};
use longlived_testkit::grpc::{Messages, framed};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use longlived_testkit::wait::spawn;

pub(crate) use longlived_testkit::wait::PATIENCE;

pub(crate) struct Server {
    address: SocketAddr,
    calls: mpsc::Receiver<Call>,
    /// Cancelled with the server: ends the listener and every connection, as SIGKILL would.
    alive: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Starts on the address of one that was killed.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::listen(TcpListener::bind(address).await.unwrap())
    }

    fn listen(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let (queue, calls) = mpsc::channel(64);
        let alive = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let token = alive.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let accept = async {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    connections.spawn(serve(socket, queue.clone(), token.child_token()));
                }
            };
            tokio::select! {
                () = token.cancelled() => {}
                () = accept => {}
            }
        });
        Self {
            address,
            calls,
            alive,
            tasks,
        }
    }

    /// A client of this server whose waits are short.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.address)).backoff(BackoffOptions {
            initial: Duration::from_millis(10),
            multiplier: 1.6,
            max: Duration::from_millis(50),
        })
    }

    pub(crate) async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv())
            .await
            .expect("a call within the time")
            .expect("the server is alive")
    }

    /// The next call must be Subscribe.
    pub(crate) async fn subscribe(&mut self) -> (v1::SubscribeRequest, Call) {
        let mut call = self.call().await;
        assert_eq!(call.path, "/longlived.v1.SubscriptionService/Subscribe");
        (call.message().await.unwrap(), call)
    }

    /// True when nobody calls for a while.
    pub(crate) async fn is_left_alone(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.calls.recv())
            .await
            .is_err()
    }

    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.alive.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.address
    }
}

/// A connection over a pipe in between, which tells when the client has let go of it.
pub(crate) async fn dialled(
    server: Uri,
    forgotten: mpsc::Sender<()>,
) -> std::io::Result<DuplexStream> {
    let mut socket = TcpStream::connect(server.authority().unwrap().to_string()).await?;
    let (near, mut far) = tokio::io::duplex(64 << 10);
    spawn(async move {
        // However the server has ended it.
        let _ = tokio::io::copy_bidirectional(&mut far, &mut socket).await;
        let _ = far.shutdown().await;
        let _ = far.read_to_end(&mut Vec::new()).await;
        let _ = forgotten.send(()).await;
    });
    Ok(near)
}

async fn serve(socket: TcpStream, calls: mpsc::Sender<Call>, alive: CancellationToken) {
    let serve = async {
        let mut connection = h2::server::handshake(socket).await.ok()?;
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (head, body) = request.into_parts();
            let call = Call {
                path: head.uri.path().to_owned(),
                headers: head.headers,
                messages: Messages::new(body),
                respond,
                stream: None,
                connection: alive.clone(),
            };
            // A full queue would stop the connection; no test makes as many calls.
            calls.try_send(call).ok()?;
        }
        Some(())
    };
    tokio::select! {
        () = alive.cancelled() => {}
        _ = serve => {}
    }
}

/// One call, to be answered by the test.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    messages: Messages,
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    connection: CancellationToken,
}

impl Call {
    /// The next message of the request; `None` when the client has ended its side.
    pub(crate) async fn message<M: Message + Default>(&mut self) -> Option<M> {
        self.messages.next().await
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers
            .get("authorization")
            .map(|value| value.to_str().unwrap())
    }

    fn stream(&mut self) -> &mut SendStream<Bytes> {
        self.stream.get_or_insert_with(|| {
            let head = Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            self.respond.send_response(head, false).unwrap()
        })
    }

    /// Sends the headers of the response.
    pub(crate) fn open(&mut self) {
        self.stream();
    }

    /// Sends one message of the response.
    pub(crate) fn send(&mut self, message: &impl Message) {
        let framed = framed(&message.encode_to_vec());
        self.stream().send_data(framed, false).unwrap();
    }

    pub(crate) fn frame(&mut self, frame: Frame) {
        self.send(&v1::SubscribeResponse { frame: Some(frame) });
    }

    pub(crate) fn welcome(&mut self, outcome: v1::welcome::Outcome, epoch: u64, sequence: u64) {
        self.frame(Frame::Welcome(v1::Welcome {
            session_id: "s".to_owned(),
            outcome: outcome.into(),
            position: Some(v1::Position { epoch, sequence }),
            max_silence: None,
            ..v1::Welcome::default()
        }));
    }

    /// An event of topic `t` that follows directly on the one before.
    pub(crate) fn event(&mut self, sequence: u64) {
        self.event_after(sequence, sequence - 1);
    }

    pub(crate) fn event_after(&mut self, sequence: u64, previous_sequence: u64) {
        self.frame(Frame::Event(v1::Event {
            topic: "t".to_owned(),
            sequence,
            previous_sequence,
            payload: Bytes::from(format!("message {sequence}")),
            ..v1::Event::default()
        }));
    }

    pub(crate) fn current(&mut self, epoch: u64, sequence: u64) {
        self.frame(Frame::Progress(v1::Progress {
            position: Some(v1::Position { epoch, sequence }),
            server_time: None,
            current: true,
            ..v1::Progress::default()
        }));
    }

    /// Ends the stream with a status in trailers, after the sent messages.
    pub(crate) fn end(&mut self, code: Code) {
        self.end_with(code, &[]);
    }

    pub(crate) fn end_with(&mut self, code: Code, more: &[(&'static str, &str)]) {
        let trailers = status(code, more);
        self.stream().send_trailers(trailers).unwrap();
    }

    /// A refusal: the status stands in the headers, and there is no body.
    pub(crate) fn refuse(&mut self, code: Code, more: &[(&'static str, &str)]) {
        let mut head = Response::builder()
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        head.headers_mut().extend(status(code, more));
        self.respond.send_response(head, true).unwrap();
    }

    /// A response of something that does not speak gRPC.
    pub(crate) fn http(&mut self, status: u16) {
        let head = Response::builder()
            .status(status)
            .header("content-type", "text/html")
            .body(())
            .unwrap();
        let mut stream = self.respond.send_response(head, false).unwrap();
        stream
            .send_data(Bytes::from_static(b"<h1>not today</h1>"), true)
            .unwrap();
    }

    /// Ends the body without trailers.
    pub(crate) fn cut(&mut self) {
        self.stream().send_data(Bytes::new(), true).unwrap();
    }

    pub(crate) fn reset(&mut self, reason: h2::Reason) {
        self.stream().send_reset(reason);
    }

    /// Resets the stream before anything was answered.
    pub(crate) fn turn_away(&mut self, reason: h2::Reason) {
        self.respond.send_reset(reason);
    }

    /// Drops the connection under it.
    pub(crate) fn kill_connection(&self) {
        self.connection.cancel();
    }

    /// Sends the message only if the client's window has capacity for it within a moment.
    pub(crate) async fn send_if_there_is_capacity(&mut self, message: &impl Message) -> bool {
        let framed = framed(&message.encode_to_vec());
        let stream = self.stream();
        stream.reserve_capacity(framed.len());
        while stream.capacity() < framed.len() {
            let more = std::future::poll_fn(|cx| stream.poll_capacity(cx));
            if timeout(Duration::from_millis(300), more).await.is_err() {
                return false;
            }
        }
        stream.send_data(framed, false).unwrap();
        true
    }

    /// Waits until the client has left this stream.
    pub(crate) async fn left(&mut self) {
        let stream = self.stream.as_mut().expect("an open stream");
        let left = std::future::poll_fn(|cx| stream.poll_reset(cx));
        timeout(PATIENCE, left)
            .await
            .expect("the client leaves")
            .ok();
    }
}

fn status(code: Code, more: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    headers.insert("grpc-message", HeaderValue::from_static("by%20script"));
    for (name, value) in more {
        headers.insert(*name, value.parse().unwrap());
    }
    headers
}

/// Where a status says why, to programs.
pub(crate) const DETAILS: &str = "grpc-status-details-bin";

/// The details of a server of this contract.
pub(crate) fn details(code: Code, reason: &str, wait: Option<Duration>) -> String {
    let fields = HashMap::from([("newest".to_owned(), "7".to_owned())]);
    let mut details = ErrorDetails::with_error_info(reason, "longlived", fields);
    if let Some(wait) = wait {
        details.set_retry_info(Some(wait));
    }
    let status = tonic::Status::with_error_details(code, "by script", details);
    let headers = status.into_http::<()>().into_parts().0.headers;
    headers[DETAILS].to_str().unwrap().to_owned()
}

/// A subscriber that is read all the time, and its items.
pub(crate) struct Watched {
    items: mpsc::Receiver<Result<Item, SubscribeError>>,
    _task: JoinSet<()>,
}

impl Watched {
    pub(crate) fn new(mut subscriber: Subscriber) -> Self {
        let (queue, items) = mpsc::channel(1_024);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(item) = subscriber.next().await {
                if queue.send(item).await.is_err() {
                    return;
                }
            }
        });
        Self { items, _task: task }
    }

    /// The next of anything; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Item, SubscribeError>> {
        timeout(PATIENCE, self.items.recv())
            .await
            .expect("an item within the time")
    }

    /// The next item, which is no error.
    pub(crate) async fn item(&mut self) -> Item {
        self.next().await.expect("not the end").expect("no error")
    }

    /// The next item that is not about the stream underneath.
    pub(crate) async fn beyond_notices(&mut self) -> Item {
        loop {
            match self.item().await {
                Item::Notice(_) => {}
                item => return item,
            }
        }
    }

    /// The sequence of the next event; anything but notices before it fails the test.
    pub(crate) async fn event(&mut self) -> u64 {
        match self.beyond_notices().await {
            Item::Event(event) => event.position.sequence,
            other => panic!("expected an event, got {other:?}"),
        }
    }

    pub(crate) async fn notice(&mut self) -> Notice {
        loop {
            if let Item::Notice(notice) = self.item().await {
                return notice;
            }
        }
    }

    /// The error it ends with.
    pub(crate) async fn error(&mut self) -> SubscribeError {
        loop {
            if let Err(error) = self.next().await.expect("an error before the end") {
                assert!(self.next().await.is_none(), "an error is the last item");
                return error;
            }
        }
    }
}
