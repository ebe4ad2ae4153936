//! A `longlived serve` that is started, watched and ended by a test, and clients to it.

use std::{
    future::Future,
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use longlived_api::v1::{
    self, publish_service_client::PublishServiceClient,
    subscription_service_client::SubscriptionServiceClient,
};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Status, Streaming, transport::Channel, transport::Endpoint};

pub(crate) use longlived_api::v1::subscribe_response::Frame;

/// The longest any step of a test may take: on a machine that is ten times slower and busy with other things. What is
/// waited for is a condition, so nothing takes so long where it holds at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let Ok(output) = timeout(PATIENCE, future).await else {
        panic!("not within {PATIENCE:?}: {what}");
    };
    output
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(future)
}

/// The binary, without whatever this environment says to it.
pub(crate) fn longlived() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longlived"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGLIVED_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end: exit code, standard output, standard error.
pub(crate) async fn run_to_end(command: &mut Command) -> (Option<i32>, String, String) {
    let output = within("the end of the process", command.output()).await;
    let output = output.expect("it can be started");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A number that the environment gives a test, or the usual one.
pub(crate) fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// The signals that ask a process to end, with what a shell reports of one that they ended: SIGHUP only where this process
/// does not have it ignored, since its children inherit that.
pub(crate) fn stop_signals() -> Vec<(Signal, i32)> {
    let mut signals = vec![(Signal::TERM, 143), (Signal::INT, 130)];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.map_or(0, |mask| {
        u64::from_str_radix(mask.trim(), 16).expect("a mask")
    });
    if mask & 1 == 0 {
        signals.push((Signal::HUP, 129));
    }
    signals
}

/// Says that a test cannot run here and why: at once, and in the file that `LONGLIVED_SKIPPED` names, since what a test
/// that passes prints is not shown.
#[cfg(target_os = "linux")]
pub(crate) fn skipped(what: &str, reason: &str) {
    use std::io::Write as _;

    let line = format!("skipped: {what}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("LONGLIVED_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("LONGLIVED_SKIPPED names a file that can be written");
    }
}

/// A server process. Killed when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    lines: watch::Receiver<Vec<String>>,
}

impl Server {
    /// On a free port.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_on(free, args).await
    }

    pub(crate) async fn start_on(address: SocketAddr, args: &[&str]) -> Self {
        let mut command = longlived();
        command.args(["serve", "--listen", &address.to_string()]);
        command.args(args);
        Self::of(&mut command).await
    }

    /// Whatever the command says; returns when it listens.
    pub(crate) async fn of(command: &mut Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let (said, mut lines) = watch::channel(Vec::new());
        spawn(async move {
            let mut reader = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                said.send_modify(|lines: &mut Vec<String>| lines.push(line));
            }
        });
        let address = |lines: &Vec<String>| {
            let said = lines
                .iter()
                .find_map(|line| line.split_once("listening on "))?;
            let end = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':'));
            said.1.split(end).next()?.parse().ok()
        };
        let address = {
            let listens = lines.wait_for(|lines| address(lines).is_some());
            let listens = within("it listens", listens).await;
            address(&listens.expect("it says where it listens")).expect("an address")
        };
        Self {
            address,
            child,
            lines,
        }
    }

    /// One whose standard error the command has sent elsewhere; returns when it takes connections.
    pub(crate) async fn silent(command: &mut Command, address: SocketAddr) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .spawn()
            .expect("it can be started");
        until("it listens", async || {
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                panic!("it ended at once: {status}");
            }
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self {
            address,
            child,
            lines: watch::channel(Vec::new()).1,
        }
    }

    /// What it has said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Returns the first line for which `wanted` holds, when it was said.
    pub(crate) async fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<String>| lines.iter().find(|line| wanted(line)).cloned();
        let said = timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await;
        match said {
            Ok(Ok(lines)) => find(&lines).expect("it was found"),
            _ => panic!("{what} was not said: {:#?}", self.lines()),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("a process id");
        let pid = Pid::from_raw(id).expect("not zero");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL, and its end.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let ended = within("the end of the server", self.child.wait()).await;
        ended.expect("it can be waited for")
    }

    /// A connection of its own.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address is a URL")
            .connect_lazy()
    }

    pub(crate) async fn subscribe(&self, request: v1::SubscribeRequest) -> Result<Stream, Status> {
        let mut client = SubscriptionServiceClient::new(self.channel());
        let response = within("headers of Subscribe", client.subscribe(request)).await?;
        Ok(Stream(response.into_inner()))
    }

    /// Subscribes and reads the Welcome.
    pub(crate) async fn open(&self, request: v1::SubscribeRequest) -> (Stream, v1::Welcome) {
        let mut stream = self.subscribe(request).await.expect("it is let in");
        match stream.frame().await {
            Frame::Welcome(welcome) => (stream, welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn publish(&self, topic: &str, payload: &str) -> Result<u64, Status> {
        let mut client = PublishServiceClient::new(self.channel());
        let message = v1::PublishRequest {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            ..v1::PublishRequest::default()
        };
        let answer = within("an answer to Publish", client.publish(message)).await?;
        Ok(answer.into_inner().position.expect("a position").sequence)
    }

    pub(crate) async fn unsubscribe(&self, id: &str) -> Result<(), Status> {
        let mut client = SubscriptionServiceClient::new(self.channel());
        let request = v1::UnsubscribeRequest {
            subscriber_id: id.to_owned(),
        };
        within("an answer to Unsubscribe", client.unsubscribe(request)).await?;
        Ok(())
    }
}

pub(crate) fn request(id: &str, filters: &[&str]) -> v1::SubscribeRequest {
    let subscription = |filter: &&str| v1::Subscription {
        topic_filter: (*filter).to_owned(),
    };
    v1::SubscribeRequest {
        subscriber_id: id.to_owned(),
        subscriptions: filters.iter().map(subscription).collect(),
        ..v1::SubscribeRequest::default()
    }
}

/// The responses of one stream.
pub(crate) struct Stream(Streaming<v1::SubscribeResponse>);

impl Stream {
    /// The next response, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Frame, Result<(), Status>> {
        match within("a response", self.0.message()).await {
            Ok(Some(response)) => Ok(response.frame.expect("every response says something")),
            Ok(None) => Err(Ok(())),
            Err(status) => Err(Err(status)),
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        match self.next().await {
            Ok(frame) => frame,
            Err(end) => panic!("a response was expected; the stream ended: {end:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> v1::Event {
        match self.frame().await {
            Frame::Event(event) => event,
            other => panic!("an event was expected, not {other:?}"),
        }
    }

    pub(crate) async fn go_away(&mut self) -> v1::GoAway {
        loop {
            match self.frame().await {
                Frame::GoAway(go_away) => return go_away,
                Frame::Event(_) | Frame::Progress(_) => {}
                other => panic!("GoAway was expected, not {other:?}"),
            }
        }
    }
}

/// How a subscriber stops taking what it is sent.
#[derive(Clone, Copy)]
pub(crate) enum Stuck {
    /// It gives no room back: HTTP/2 flow control holds its stream.
    Stream,
    /// It reads nothing from its socket: TCP holds the whole connection.
    Socket,
}

/// A subscriber that has its Welcome and takes nothing more. It lives until dropped.
pub(crate) struct StuckReader {
    _body: h2::RecvStream,
    driver: JoinHandle<()>,
}

impl Drop for StuckReader {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl StuckReader {
    pub(crate) async fn open(server: &Server, id: &str, filter: &str, stuck: Stuck) -> Self {
        let socket = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        let window = match stuck {
            Stuck::Stream => 64 << 10,
            Stuck::Socket => 16 << 20,
        };
        let mut builder = h2::client::Builder::new();
        builder
            .initial_connection_window_size(16 << 20)
            .initial_window_size(window);
        let handshake = builder.handshake::<_, Bytes>(socket).await;
        let (requests, connection) = handshake.expect("it speaks HTTP/2");
        let (freeze, frozen) = watch::channel(false);
        let driver = spawn(async move {
            let mut connection = std::pin::pin!(connection);
            std::future::poll_fn(|cx| {
                if *frozen.borrow() {
                    return std::task::Poll::Pending;
                }
                connection.as_mut().poll(cx).map(drop)
            })
            .await;
        });
        let subscribe = http::Request::post(format!(
            "http://{}/longlived.v1.SubscriptionService/Subscribe",
            server.address
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
        let mut ready = requests.ready().await.expect("the connection stands");
        let (response, mut stream) = ready
            .send_request(subscribe, false)
            .expect("the connection stands");
        let message = framed(&request(id, &[filter]).encode_to_vec());
        stream.send_data(message, true).expect("the stream stands");
        let response = within("response headers", response)
            .await
            .expect("an answer");
        let mut body = response.into_body();
        let welcome = within("the Welcome", body.data()).await;
        welcome.expect("the stream goes on").expect("no error");
        if matches!(stuck, Stuck::Socket) {
            freeze.send(true).expect("its connection is driven");
        }
        Self {
            _body: body,
            driver,
        }
    }
}

pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a small message"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Waits for `condition`, which is asked again and again.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    until_after(Duration::ZERO, what, condition).await
}

/// The same for what cannot be before some time has passed.
pub(crate) async fn until_after<T>(
    time: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let patience = time + PATIENCE;
    let found = timeout(patience, async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    let Ok(found) = found.await else {
        panic!("not within {patience:?}: {what}");
    };
    found
}
