//! A `longlived serve` that is started, watched and ended by a test, and clients to it.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
};

use longlived_api::v1::{
    self, publish_service_client::PublishServiceClient,
    subscription_service_client::SubscriptionServiceClient,
};
use longlived_testkit::raw;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use tonic::{Status, transport::Channel, transport::Endpoint};

pub(crate) use longlived_api::v1::subscribe_response::Frame;
pub(crate) use longlived_testkit::{
    grpc::framed,
    requests::request,
    responses::Stream,
    wait::{PATIENCE, spawn, until, until_after, within},
};

pub(crate) const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// The binary, without the variables of this environment.
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

/// Says that a test cannot run here and why: at once, and in the file that `LONGLIVED_SKIPPED` names, since the output
/// of a passing test is not shown.
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

    /// The server of a given command; returns when it listens.
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

    /// Its log so far.
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

    /// Returns the line with this part past `nth` others with it, when it was said.
    pub(crate) async fn nth_line(&self, part: &str, nth: usize) -> String {
        let mut lines = self.lines.clone();
        let find = |lines: &Vec<String>| {
            let mut with = lines.iter().filter(|line| line.contains(part));
            with.nth(nth).cloned()
        };
        let said = timeout(PATIENCE, lines.wait_for(|lines| find(lines).is_some())).await;
        match said {
            Ok(Ok(lines)) => find(&lines).expect("it was found"),
            _ => panic!("{part} was not said: {:#?}", self.lines()),
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
        Ok(Stream::new(response.into_inner()))
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
            ..v1::UnsubscribeRequest::default()
        };
        within("an answer to Unsubscribe", client.unsubscribe(request)).await?;
        Ok(())
    }
}

/// How a subscriber stops reading.
#[derive(Clone, Copy)]
pub(crate) enum Stuck {
    /// It releases no capacity: HTTP/2 flow control holds its stream.
    Stream,
    /// It reads nothing from its socket: TCP holds the whole connection.
    Socket,
}

/// A subscriber that has its Welcome and takes nothing more. It lives until dropped.
pub(crate) struct StuckReader(raw::Reply);

impl Drop for StuckReader {
    fn drop(&mut self) {
        self.0.vanish();
    }
}

impl StuckReader {
    pub(crate) async fn open(server: &Server, id: &str, filter: &str, stuck: Stuck) -> Self {
        let windows = match stuck {
            Stuck::Stream => raw::Windows::default(),
            Stuck::Socket => raw::Windows {
                stream_window: 16 << 20,
                ..raw::Windows::default()
            },
        };
        let mut connection = raw::Client::connect_with(server.address, windows).await;
        let message = framed(&request(id, &[filter]).encode_to_vec());
        let mut reply = connection.call(SUBSCRIBE, &[], message).await;
        assert!(matches!(reply.frame().await, Frame::Welcome(_)));
        if matches!(stuck, Stuck::Socket) {
            connection.freeze();
        }
        reply.keep(connection);
        Self(reply)
    }
}
