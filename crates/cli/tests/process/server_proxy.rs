//! Listeners behind proxies: who may name a client, by what, and what becomes of everybody else.

use std::net::SocketAddr;
use std::sync::Arc;

use longlived_testkit::raw::{Client, Windows};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server_metrics::{told_at, value};
use super::server_tls::Files;
use super::support::{Server, longlived, until, within};

pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// An empty `HealthCheckRequest`, with its five bytes in front.
pub(crate) const EMPTY: &[u8] = &[0; 5];

/// Of version 2, for a client of IPv4.
const SECOND: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x0a\0\0\x01\xb2\x6e\x1b\x9e\x04\0\0";
/// A proxy's own connection.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A server with these listeners, whose log has a line for each call and each connection.
pub(crate) async fn serve(listen: &[&str], flags: &[String]) -> Server {
    let mut command = longlived();
    command.arg("serve");
    for place in listen {
        command.args(["--listen", place]);
    }
    command
        .args(["--metrics-listen", "127.0.0.1:0"])
        .args(flags);
    command.env(
        "RUST_LOG",
        "info,longlived::call=debug,longlived::connection=debug",
    );
    Server::of(&mut command).await
}

pub(crate) async fn connect(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(header).await.unwrap();
    socket
}

/// It is a connection of HTTP/2 whose calls are answered.
async fn is_served<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: T) {
    let mut client = within("HTTP/2", Client::over(socket, Windows::default())).await;
    let mut reply = client.call(CHECK, &[], EMPTY).await;
    let (_, status) = within("an answer", reply.all()).await;
    assert_eq!(status.as_deref(), Some("0"));
}

/// It is closed without a byte.
pub(crate) async fn is_closed(mut socket: TcpStream) {
    let mut said = Vec::new();
    let closed = within("its end", socket.read_to_end(&mut said)).await;
    assert!(closed.is_err() || said.is_empty(), "{said:?}");
}

pub(crate) async fn said(server: &Server, parts: &[&str]) {
    let wanted = |line: &str| parts.iter().all(|part| line.contains(part));
    server.line(&parts.join(" ... "), wanted).await;
}

pub(crate) async fn refused(metrics: SocketAddr, reason: &str) -> u64 {
    let name = format!("longlived_proxy_connections_refused_total{{reason=\"{reason}\"}}");
    value(metrics, &name).await
}

/// The connections of such a client are known by this address.
pub(crate) fn known_as(client: &str) -> [String; 2] {
    ["longlived::call".to_owned(), format!("peer={client} ")]
}

#[tokio::test]
async fn a_client_is_known_by_the_address_that_its_proxy_names() {
    let server = serve(&["tcp://127.0.0.1:0?proxy=127.0.0.0/8"], &[]).await;
    let metrics = told_at(&server).await;
    for (header, client) in [
        (
            &b"PROXY TCP4 192.0.2.1 10.0.0.1 1111 7070\r\n"[..],
            "192.0.2.1:1111",
        ),
        (
            b"PROXY TCP6 2001:db8::2 fd00::1 2222 7070\r\n",
            "[2001:db8::2]:2222",
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.3 ::1 3333 7070\r\n",
            "192.0.2.3:3333",
        ),
        (SECOND, "192.0.2.7:45678"),
    ] {
        let socket = connect(server.address, header).await;
        let proxy = socket.local_addr().unwrap().to_string();
        is_served(socket).await;
        let [target, peer] = known_as(client);
        said(&server, &[&target, &peer, CHECK]).await;
        let ended = ["connection ended", &peer, &format!("proxy={proxy} ")];
        said(&server, &ended).await;
    }
    // These name nobody.
    for header in [
        LOCAL,
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 192.0.2.9 x y z\r\n",
    ] {
        let socket = connect(server.address, header).await;
        let [target, peer] = known_as(&socket.local_addr().unwrap().to_string());
        is_served(socket).await;
        said(&server, &[&target, &peer, CHECK]).await;
    }
    // A byte at a time, and a probe that says nothing.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.set_nodelay(true).unwrap();
    for byte in SECOND {
        slow.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    is_served(slow).await;
    drop(TcpStream::connect(server.address).await.unwrap());
    let named = async |reason: &str| refused(metrics, reason).await;
    for reason in ["foreign", "missing", "malformed", "incomplete"] {
        assert_eq!(named(reason).await, 0, "{reason}");
    }
}

#[tokio::test]
async fn a_connection_without_a_lawful_header_is_closed_by_a_listener_behind_proxies() {
    let flags = ["--handshake-timeout".to_owned(), "1s".to_owned()];
    let server = serve(&["tcp://127.0.0.1:0?proxy=127.0.0.1"], &flags).await;
    let metrics = told_at(&server).await;
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // Of each reason the first; the others have no line within a second.
    for (reason, mistake, begins) in [
        (
            "missing",
            "it does not begin with a PROXY header",
            &[
                &preface[..],
                b"\x16\x03\x01\x02\0\x01",
                b"GET / HTTP/1.1\r\n\r\n",
            ][..],
        ),
        (
            "malformed",
            "its PROXY header has 65551 bytes; at most 4096",
            &[
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
                &endless,
                b"PROXY TCP4 1.2.3.4\r\n",
            ],
        ),
        (
            "incomplete",
            "its PROXY header was not complete in time",
            &[
                b"PROXY TCP4 1.2.3.4",
                &SECOND[..20],
                &SECOND[..SECOND.len() - 1],
            ],
        ),
    ] {
        for (before, begin) in begins.iter().enumerate() {
            assert_eq!(refused(metrics, reason).await, before as u64, "{reason}");
            let socket = connect(server.address, begin).await;
            let peer = format!("peer={} ", socket.local_addr().unwrap());
            is_closed(socket).await;
            until("it is counted", async || {
                (refused(metrics, reason).await > before as u64).then_some(())
            })
            .await;
            if before == 0 {
                said(&server, &["WARN", &peer, mistake]).await;
            }
        }
    }
    let mut cut = connect(server.address, b"PROXY TCP4 1.2.3.4").await;
    cut.shutdown().await.unwrap();
    is_closed(cut).await;
    until("it is counted", async || {
        (refused(metrics, "incomplete").await == 4).then_some(())
    })
    .await;
    // The listener goes on.
    is_served(connect(server.address, SECOND).await).await;
}

#[tokio::test]
async fn a_header_from_a_foreign_address_is_refused_before_a_byte_is_read() {
    let listen = ["127.0.0.1:0", "tcp://127.0.0.1:0?proxy=10.0.0.0/8,fd00::/8"];
    let server = serve(&listen, &[]).await;
    let metrics = told_at(&server).await;
    let behind = address_of(&server, 1).await;
    // Also one that would be kept waiting for its first byte.
    for (before, header) in [SECOND, b""].into_iter().enumerate() {
        let mut socket = TcpStream::connect(behind).await.unwrap();
        // The server may have reset it.
        let _ = socket.write_all(header).await;
        let peer = format!("peer={} ", socket.local_addr().unwrap());
        is_closed(socket).await;
        assert_eq!(refused(metrics, "foreign").await, before as u64 + 1);
        if before == 0 {
            let says = "it comes from none of the proxies of this listener";
            said(&server, &["WARN", &peer, says]).await;
        }
    }
}

#[tokio::test]
async fn a_header_at_a_listener_that_takes_none_is_refused_and_named() {
    let files = Files::new();
    let listen = ["127.0.0.1:0", "tls://127.0.0.1:0"];
    let server = serve(&listen, &files.flags()).await;
    let metrics = told_at(&server).await;
    let forged = "it begins with a PROXY header, which this listener takes from nobody";
    for (index, says) in ["WARN", "TLS handshake failed"].into_iter().enumerate() {
        for header in [b"PROXY TCP4 192.0.2.1 10.0.0.1 1111 7070\r\n", SECOND] {
            let address = address_of(&server, index).await;
            let mut socket = TcpStream::connect(address).await.unwrap();
            let peer = format!("peer={} ", socket.local_addr().unwrap());
            let (first, rest) = header.split_at(1);
            socket.write_all(first).await.unwrap();
            // It is one however it is cut.
            socket.write_all(rest).await.unwrap();
            let mut said_back = Vec::new();
            let read = within("its end", socket.read_to_end(&mut said_back)).await;
            // At the TLS listener an alert, `unexpected_message`.
            let alert: &[u8] = if index == 1 {
                &[21, 3, 3, 0, 2, 2, 10]
            } else {
                &[]
            };
            assert!(read.is_err() || said_back == alert, "{said_back:?}");
            if header != SECOND {
                said(&server, &[says, &peer, forged]).await;
            }
        }
    }
    let strangers = "longlived_strangers_total{speaks=\"proxy_protocol\"}";
    assert_eq!(value(metrics, strangers).await, 2);
    let failed = "longlived_tls_handshakes_failed_total";
    assert_eq!(value(metrics, failed).await, 2);
    // One that a proxy has accepted is not followed by another.
    let server = serve(&["tcp://127.0.0.1:0?proxy=127.0.0.1"], &[]).await;
    is_closed(connect(server.address, &[SECOND, SECOND].concat()).await).await;
    said(&server, &["WARN", "peer=192.0.2.7:45678 ", forged]).await;
}

/// Where its listener of this number listens.
pub(crate) async fn address_of(server: &Server, index: usize) -> SocketAddr {
    server
        .line("its start", |line| line.contains("serving longlived.v1"))
        .await;
    let lines = server.lines();
    let mut said = lines
        .iter()
        .filter_map(|line| line.split_once("listening on "));
    let (_, place) = said.nth(index).unwrap();
    place.trim().trim_start_matches("tls://").parse().unwrap()
}

pub(crate) async fn over_tls(
    files: &Files,
    socket: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(files.authority.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = "127.0.0.1".try_into().unwrap();
    within("a handshake", connector.connect(name, socket)).await
}

#[tokio::test]
async fn tls_begins_behind_the_header_and_knows_the_named_client() {
    let files = Files::new();
    let listen = ["127.0.0.1:0", "tls://127.0.0.1:0?proxy=127.0.0.1"];
    let server = serve(&listen, &files.flags()).await;
    let metrics = told_at(&server).await;
    let address = address_of(&server, 1).await;
    for (header, client) in [
        (
            &b"PROXY TCP4 192.0.2.1 10.0.0.1 1111 7070\r\n"[..],
            "192.0.2.1:1111",
        ),
        (SECOND, "192.0.2.7:45678"),
    ] {
        let socket = connect(address, header).await;
        is_served(over_tls(&files, socket).await.unwrap()).await;
        let [target, peer] = known_as(client);
        said(&server, &[&target, &peer, CHECK]).await;
    }
    // Without a header: no handshake that failed, since none began.
    let refused_one = over_tls(&files, TcpStream::connect(address).await.unwrap()).await;
    assert!(refused_one.is_err());
    assert_eq!(refused(metrics, "missing").await, 1);
    let failed = async || value(metrics, "longlived_tls_handshakes_failed_total").await;
    assert_eq!(failed().await, 0);
    // A client without TLS is named as its proxy has it, and a header inside TLS is none.
    let clear = [SECOND, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat();
    let mut socket = connect(address, &clear).await;
    let mut alert = Vec::new();
    within("an alert", socket.read_to_end(&mut alert))
        .await
        .unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 10]);
    let without = [
        "TLS handshake failed",
        "peer=192.0.2.7:45678 ",
        "does not speak TLS",
    ];
    said(&server, &without).await;
    let mut inside = over_tls(&files, connect(address, SECOND).await)
        .await
        .unwrap();
    inside.write_all(LOCAL).await.unwrap();
    let mut said_back = Vec::new();
    let _ = within("its end", inside.read_to_end(&mut said_back)).await;
    assert_eq!(said_back, b"");
    let strangers = "longlived_strangers_total{speaks=\"proxy_protocol\"}";
    assert_eq!(value(metrics, strangers).await, 1);
}

#[tokio::test]
async fn a_proxy_of_ipv4_is_one_at_a_listener_of_ipv6_too() {
    let Ok(probe) = std::net::TcpListener::bind("[::]:0") else {
        super::support::skipped("a listener of IPv6", "this machine has no IPv6");
        return;
    };
    drop(probe);
    let listen = ["127.0.0.1:0", "tcp://[::]:0?proxy=127.0.0.0/8"];
    let server = serve(&listen, &["--insecure=no-tls,no-auth".to_owned()]).await;
    let port = address_of(&server, 1).await.port();
    let socket = connect(SocketAddr::from(([127, 0, 0, 1], port)), SECOND).await;
    is_served(socket).await;
    let [target, peer] = known_as("192.0.2.7:45678");
    said(&server, &[&target, &peer]).await;
    // ... and its own address is not one of the range.
    if let Ok(socket) = TcpStream::connect(("::1", port)).await {
        is_closed(socket).await;
        said(&server, &["WARN", "peer=[::1]:", "none of the proxies"]).await;
    }
}
