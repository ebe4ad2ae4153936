//! Peers that misbehave cost their own connection and nobody else's.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::support::{Frame, Server, Stuck, StuckReader, request, within};

/// The promise without a flag.
const UNCONFIGURED_SILENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn readers_that_stop_leave_the_others_unaffected() {
    // A reader that stops is not disconnected: a wait for that would be longer than any step may take.
    let server = Server::start(&[
        "--keepalive-interval",
        "1h",
        "--keepalive-timeout",
        "1h",
        "--stall-timeout",
        "1h",
    ])
    .await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let _stream = StuckReader::open(&server, "stream", "t", Stuck::Stream).await;
    let _socket = StuckReader::open(&server, "socket", "t", Stuck::Socket).await;
    let payload = "x".repeat(200 << 10);
    for n in 1..=50 {
        let sequence = server.publish("t", &payload).await;
        assert_eq!(sequence.expect("it is stored"), n);
        assert_eq!(live.event().await.sequence, n);
    }
    server
        .unsubscribe("stream")
        .await
        .expect("it is still live");
    server
        .unsubscribe("socket")
        .await
        .expect("it is still live");
}

#[tokio::test]
async fn bytes_that_are_not_http2_end_their_own_connection_only() {
    // Long enough for a client that means it, on a busy machine too.
    let server = Server::start(&["--handshake-timeout", "3s"]).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let noise: Vec<u8> = (0..64_000u32).map(|n| (n * 7_919 % 251) as u8).collect();
    let mut torn = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    torn.extend(&noise);
    let cases: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &noise,
        &torn,
        // Nothing at all, and it stays open: the handshake timeout ends it.
        b"",
    ];
    for bytes in cases {
        let mut socket = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        // It may be reset before all of it was taken.
        socket.write_all(bytes).await.ok();
        let mut answer = Vec::new();
        let closed = within("its connection is closed", socket.read_to_end(&mut answer));
        closed.await.ok();
        let sequence = server.publish("t", "x").await.expect("stored");
        assert_eq!(live.event().await.sequence, sequence);
    }
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_the_others_go_on() {
    let server = Server::start(&["--connections-max", "2"]).await;
    let (mut live, _) = server.open(request("live", &["t"])).await;
    let silent = TcpStream::connect(server.address)
        .await
        .expect("the kernel takes it");
    let mut third = TcpStream::connect(server.address)
        .await
        .expect("the kernel takes it");
    let mut nothing = Vec::new();
    let closed = within("the third is closed", third.read_to_end(&mut nothing)).await;
    assert!(closed.map_or(true, |bytes| bytes == 0));
    server
        .line("the limit", |line| line.contains("connections_max"))
        .await;
    drop(silent);
    let sequence = super::support::until("there is room again", async || {
        server.publish("t", "x").await.ok()
    })
    .await;
    assert_eq!(live.event().await.sequence, sequence);
}

#[tokio::test]
async fn the_promised_silence_can_be_configured() {
    let server = Server::start(&["--max-silence", "1s"]).await;
    let (mut stream, welcome) = server.open(request("s", &["t"])).await;
    assert_eq!(welcome.max_silence.expect("it promises").seconds, 1);
    let since = Instant::now();
    assert!(matches!(stream.frame().await, Frame::Progress(progress) if progress.current));
    let took = since.elapsed();
    assert!(took < UNCONFIGURED_SILENCE / 2, "{took:?}");
}
