//! How long a neighbour waits for an answer beside peers that make the server do cryptography, by command: docs/TESTING.md.
//!
//! Holds: as in `server_neighbours`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longlived_testkit::raw::{Client, Windows};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::auth_support::{Auth, Token};
use super::server_neighbours::{Attackers, MUST, times};
use super::server_proxy::{CHECK, EMPTY, address_of};
use super::server_tls::Files;
use super::support::{Server, framed, until};

const LIST: &str = "/longlived.v1.TopicService/ListTopics";

/// A client that resumes no session.
fn config(files: &Files) -> Arc<ClientConfig> {
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
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Handshake after handshake.
fn handshakes(files: &Files, address: SocketAddr, count: usize) -> Attackers {
    let connector = TlsConnector::from(config(files));
    Attackers::run(count, async move |_: &AtomicBool, made: &AtomicU64| {
        let Ok(socket) = TcpStream::connect(address).await else {
            return;
        };
        let name = address.ip().into();
        if connector.connect(name, socket).await.is_ok() {
            made.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// The first half of one after the other: the server signs, and its peer goes.
fn halves(files: &Files, address: SocketAddr, count: usize) -> Attackers {
    let config = config(files);
    Attackers::run(count, async move |_: &AtomicBool, made: &AtomicU64| {
        let mut hello = Vec::new();
        let mut client = ClientConnection::new(config.clone(), address.ip().into()).unwrap();
        client.write_tls(&mut hello).unwrap();
        let Ok(mut socket) = TcpStream::connect(address).await else {
            return;
        };
        socket.write_all(&hello).await.ok();
        if socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {
            made.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Calls with tokens that nobody has signed, no two alike.
fn tokens(auth: &Auth, address: SocketAddr, count: usize) -> Attackers {
    let token = auth.token(Token::default());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (signed, number) = (signed.to_owned(), Arc::new(AtomicU64::new(1)));
    Attackers::run(
        count,
        async move |is_over: &AtomicBool, made: &AtomicU64| {
            let mut client = Client::connect(address).await;
            made.fetch_add(1, Ordering::Relaxed);
            while !is_over.load(Ordering::Relaxed) {
                let mut calls = Vec::new();
                for _ in 0..50 {
                    let mut signature = signature.clone();
                    let number = number.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                    signature[20..28].copy_from_slice(&number);
                    let token = format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature));
                    let fields = [("authorization", token.as_str())];
                    calls.push(client.begin(LIST, &fields).await);
                }
                for (response, mut request) in calls {
                    request.send_data(framed(&[]), true).ok();
                    let _ = response.await;
                }
            }
        },
    )
}

#[tokio::test]
#[ignore = "a figure: it needs two cores for itself, and `taskset -c 1`"]
async fn a_neighbour_is_answered_beside_handshakes_and_tokens() {
    let files = Files::new();
    let auth = Auth::new(&files);
    // With RSA a signature takes a millisecond, and the figures are only told.
    let is_rsa = std::env::var_os("LONGLIVED_RSA").is_some();
    if is_rsa {
        files.certify_rsa();
    }
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_longlived")]);
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "tls://127.0.0.1:0",
    ]);
    command.args(files.flags()).args(["--auth", &auth.path()]);
    command.kill_on_drop(true);
    let server = Server::of(&mut command).await;
    let tls = address_of(&server, 1).await;
    let mut neighbour = Client::over(
        TcpStream::connect(server.address).await.unwrap(),
        Windows::default(),
    )
    .await;
    neighbour.call(CHECK, &[], EMPTY).await.all().await;
    times(&mut neighbour).await;
    let mut missed = Vec::new();
    for kind in ["handshakes", "half handshakes", "tokens"] {
        for (count, must) in MUST {
            let attackers = match kind {
                "handshakes" => handshakes(&files, tls, count),
                "half handshakes" => halves(&files, tls, count),
                _ => tokens(&auth, server.address, count),
            };
            let made = Arc::clone(&attackers.connections);
            until("the attackers are there", async || {
                (made.load(Ordering::Relaxed) >= count as u64).then_some(())
            })
            .await;
            let (median, slow, calls) = times(&mut neighbour).await;
            let made = made.load(Ordering::Relaxed);
            drop(attackers);
            println!(
                "{kind}: {count} attackers ({made} connections): p50 {median:.2?}, p99 {slow:.2?}, {calls} calls"
            );
            if median > must && !is_rsa {
                missed.push(format!("{kind} beside {count}: {median:.2?}, not {must:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
