//! HAProxy in front of the server, where it is installed: who its clients are, by both versions of the PROXY protocol, with TLS passed through.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;

use longlived_client::{Client, Item};
use longlived_testkit::raw::{Client as Raw, Windows};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_stream::StreamExt as _;

use super::server_metrics::{told_at, value};
use super::server_proxy::{address_of, known_as, refused, said, serve};
use super::server_tls::Files;
use super::support::{Server, skipped, spawn, until, within};

const REASONS: [&str; 4] = ["foreign", "missing", "malformed", "incomplete"];

/// One listener of HAProxy, and what is behind it.
struct Route {
    server: SocketAddr,
    /// As HAProxy's `server` line has it.
    options: &'static str,
}

/// A running HAProxy. Killed when dropped.
struct HaProxy {
    _process: Child,
    _folder: tempfile::TempDir,
    /// Where each route begins.
    fronts: Vec<SocketAddr>,
}

/// The program, which the package puts where only root looks for programs.
fn program() -> Option<&'static str> {
    ["haproxy", "/usr/sbin/haproxy"]
        .into_iter()
        .find(|program| {
            let version = std::process::Command::new(program).arg("-v").output();
            version.is_ok_and(|output| output.status.success())
        })
}

impl HaProxy {
    async fn start(program: &str, routes: &[Route]) -> Self {
        until("HAProxy starts", async || {
            Self::start_once(program, routes).await
        })
        .await
    }

    /// `None` if another program has taken one of its ports meanwhile.
    async fn start_once(program: &str, routes: &[Route]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let free = routes
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let free: Vec<_> = free.collect();
        let fronts: Vec<_> = free.iter().map(|it| it.local_addr().unwrap()).collect();
        let defaults = "timeout connect 5s\n  timeout client 1h\n  timeout server 1h";
        let mut text = format!("defaults\n  mode tcp\n  {defaults}\n");
        for (index, (Route { server, options }, front)) in routes.iter().zip(&fronts).enumerate() {
            let lines = [
                format!("listen route{index}"),
                format!("  bind {front}"),
                format!("  server one {server} {options}\n"),
            ];
            text.push_str(&lines.join("\n"));
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        drop(free);
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file).kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                eprintln!("haproxy: {line}");
            }
        });
        let all = async {
            for front in &fronts {
                until("it listens", async || match process.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => TcpStream::connect(front).await.is_ok().then_some(true),
                })
                .await
                .then_some(())?;
            }
            Some(())
        };
        all.await?;
        Some(Self {
            _process: process,
            _folder: folder,
            fronts,
        })
    }
}

/// Calls through a route; the client's own address, by which the server must know it.
async fn call_through(front: SocketAddr) -> SocketAddr {
    let socket = TcpStream::connect(front).await.unwrap();
    let own = socket.local_addr().unwrap();
    let mut client = within("HTTP/2", Raw::over(socket, Windows::default())).await;
    let mut reply = client
        .call("/grpc.health.v1.Health/Check", &[], &[0; 5][..])
        .await;
    let (_, status) = within("an answer", reply.all()).await;
    assert_eq!(status.as_deref(), Some("0"));
    own
}

async fn behind(files: &Files) -> (Server, SocketAddr, [SocketAddr; 3]) {
    let listen = [
        "127.0.0.1:0",
        "tcp://127.0.0.1:0?proxy=127.0.0.1",
        "tls://127.0.0.1:0?proxy=127.0.0.1&client-cert=optional",
    ];
    let mut flags = files.flags();
    flags.extend(["--tls-client-ca".to_owned(), files.text("ca.pem")]);
    let server = serve(&listen, &flags).await;
    let metrics = told_at(&server).await;
    let mut addresses = Vec::new();
    for index in 0..listen.len() {
        addresses.push(address_of(&server, index).await);
    }
    let addresses = addresses.try_into().unwrap();
    (server, metrics, addresses)
}

#[tokio::test]
async fn clients_of_haproxy_are_known_by_their_own_addresses() {
    let Some(haproxy) = program() else {
        return skipped(
            "HAProxy in front of listeners with proxy=",
            "HAProxy is not installed",
        );
    };
    let files = Files::new();
    let (server, metrics, [_, clear, tls]) = behind(&files).await;
    let check = "send-proxy-v2 check inter 100ms";
    let routes = [
        (clear, "send-proxy"),
        (clear, "send-proxy-v2"),
        (clear, "send-proxy-v2-ssl-cn"),
        (clear, check),
        (tls, "send-proxy"),
        (tls, "send-proxy-v2"),
        (tls, check),
    ];
    let routes = routes.map(|(server, options)| Route { server, options });
    let proxy = HaProxy::start(haproxy, &routes).await;
    for front in &proxy.fronts[..4] {
        let own = call_through(*front).await;
        let [target, peer] = known_as(&own.to_string());
        said(&server, &[&target, &peer, "/grpc.health.v1.Health/Check"]).await;
    }
    for front in &proxy.fronts[4..] {
        let url = format!("https://{front}");
        let client = Client::builder(&url).tls(files.trusting()).build().unwrap();
        let topic = format!("through.{}", front.port());
        let mut subscriber = client
            .subscriber(&topic)
            .filter(&topic)
            .earliest()
            .build()
            .unwrap();
        let sent = client.publisher().publish((topic.as_str(), "x")).await;
        sent.unwrap();
        let event = async {
            loop {
                if let Item::Event(event) = subscriber.next().await.unwrap().unwrap() {
                    return event;
                }
            }
        };
        assert_eq!(within("the event", event).await.payload, "x");
    }
    // Its own checks name nobody: each ends at once.
    let checks = || {
        let lines = server.lines();
        lines
            .iter()
            .filter(|line| line.contains("connection ended") && !line.contains("proxy=127"))
            .count()
    };
    until("it checks", async || (checks() >= 10).then_some(())).await;
    for reason in REASONS {
        assert_eq!(refused(metrics, reason).await, 0, "{reason}");
    }
    let failed = "longlived_tls_handshakes_failed_total";
    assert_eq!(value(metrics, failed).await, 0);
}

#[tokio::test]
async fn haproxy_and_a_listener_that_do_not_agree_let_nobody_through() {
    let Some(haproxy) = program() else {
        return skipped(
            "HAProxy in front of other listeners",
            "HAProxy is not installed",
        );
    };
    let files = Files::new();
    let (mut server, metrics, [open, clear, tls]) = behind(&files).await;
    let routes = [
        (clear, ""),
        (tls, ""),
        (open, "send-proxy"),
        (open, "send-proxy-v2"),
    ];
    let routes = routes.map(|(server, options)| Route { server, options });
    let proxy = HaProxy::start(haproxy, &routes).await;
    for front in &proxy.fronts {
        let mut socket = TcpStream::connect(front).await.unwrap();
        // Both an HTTP/2 preface and what TLS begins with are no header.
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let end = within("its end", socket.read_to_end(&mut answer)).await;
        assert!(end.is_err() || answer.is_empty(), "{answer:?}");
    }
    assert_eq!(refused(metrics, "missing").await, 2);
    let strangers = "longlived_strangers_total{speaks=\"proxy_protocol\"}";
    // HAProxy also sent a header of each when it was asked whether it listens.
    assert!(value(metrics, strangers).await >= 2);
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
}
