//! Connections that open: how many from one address, and peers that keep a handshake for themselves.

use std::net::SocketAddr;

use longlived_testkit::raw::{Client, Windows};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::server_metrics::{told_at, value};
use super::server_proxy::{CHECK, EMPTY, address_of, connect, is_closed, over_tls, said, serve};
use super::server_tls::Files;
use super::support::{until, within};

/// A connection of HTTP/2 whose call was answered. It stays open.
async fn served<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: T) -> Client {
    let mut client = within("HTTP/2", Client::over(socket, Windows::default())).await;
    let mut reply = client.call(CHECK, &[], EMPTY).await;
    let (_, status) = within("an answer", reply.all()).await;
    assert_eq!(status.as_deref(), Some("0"));
    client
}

/// From another address of this machine.
async fn connect_from(local: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{local}:0").parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn refused(metrics: SocketAddr, limit: &str) -> u64 {
    let name = format!("longlived_address_connections_refused_total{{limit=\"{limit}\"}}");
    value(metrics, &name).await
}

fn named(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 1111 7070\r\n").into_bytes()
}

#[tokio::test]
async fn an_address_has_its_connections_at_all_listeners_together_and_others_have_theirs() {
    let files = Files::new();
    let limit = ["--address-connections-max", "2"].map(ToOwned::to_owned);
    let listen = [
        "127.0.0.1:0",
        "tls://127.0.0.1:0",
        "tcp://127.0.0.1:0?proxy=127.0.0.1",
        "tls://127.0.0.1:0?proxy=127.0.0.1",
    ];
    let server = serve(&listen, &[files.flags(), limit.to_vec()].concat()).await;
    let metrics = told_at(&server).await;
    let (plain, tls) = (server.address, address_of(&server, 1).await);
    let behind = [address_of(&server, 2).await, address_of(&server, 3).await];

    let first = served(connect(plain, b"").await).await;
    let socket = connect(tls, b"").await;
    let _second = served(over_tls(&files, socket).await.unwrap()).await;
    for address in [plain, tls] {
        is_closed(connect(address, b"").await).await;
    }
    assert_eq!(refused(metrics, "connections").await, 2);
    said(&server, &["peer=127.0.0.1:", "address_connections_max (2)"]).await;
    served(connect_from("127.0.0.2", plain).await).await;
    first.vanish();
    until("the first has gone", async || {
        let open = value(metrics, "longlived_connections").await;
        (open == 1).then_some(())
    })
    .await;
    let _again = served(connect(plain, b"").await).await;

    // Behind a proxy it is the client that it names, before a handshake; the proxy's own address has as many as it needs.
    let client = named("192.0.2.1");
    let _third = served(connect(behind[0], &client).await).await;
    let socket = connect(behind[1], &client).await;
    let _fourth = served(over_tls(&files, socket).await.unwrap()).await;
    for address in behind {
        is_closed(connect(address, &client).await).await;
    }
    assert_eq!(refused(metrics, "connections").await, 4);
    let failed = value(metrics, "longlived_tls_handshakes_failed_total").await;
    assert_eq!(failed, 0);
    served(connect(behind[0], &named("192.0.2.2")).await).await;
}

#[tokio::test]
async fn an_address_begins_no_more_connections_in_a_second_than_it_may() {
    let limit = ["--address-handshakes-max", "3"].map(ToOwned::to_owned);
    let server = serve(&["127.0.0.1:0"], &limit).await;
    let metrics = told_at(&server).await;
    // However slow this machine is, of a hundred at once some come within a second.
    let sockets = futures_util::future::join_all((0..100).map(|_| connect(server.address, b"")));
    let sockets = within("a hundred connections", sockets).await;
    until("some are refused", async || {
        (refused(metrics, "handshakes").await > 0).then_some(())
    })
    .await;
    said(&server, &["peer=127.0.0.1:", "address_handshakes_max (3)"]).await;
    drop(sockets);
    served(connect_from("127.0.0.2", server.address).await).await;
    // A second later it may again.
    until("it is let in again", async || {
        let mut socket = connect(server.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.ok()?;
        let read = within("SETTINGS or the end", socket.read(&mut [0; 9])).await;
        read.is_ok_and(|count| count > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn peers_that_keep_every_handshake_give_their_turns_to_those_that_wait() {
    let files = Files::new();
    let flags = ["--handshakes-max", "4", "--handshake-timeout", "1h"].map(ToOwned::to_owned);
    let listen = ["127.0.0.1:0", "tls://127.0.0.1:0"];
    let server = serve(&listen, &[files.flags(), flags.to_vec()].concat()).await;
    let (plain, tls) = (server.address, address_of(&server, 1).await);
    let mut kept = Vec::new();
    for _ in 0..2 {
        // The header of a handshake record of 512 bytes, and a byte of it; a part of the preface.
        kept.push(connect(tls, &[0x16, 3, 1, 2, 0, 1]).await);
        kept.push(connect(plain, b"PRI *").await);
    }
    // One that says it at once waits for nobody.
    served(connect(plain, b"").await).await;
    let socket = connect(tls, b"").await;
    served(over_tls(&files, socket).await.unwrap()).await;
    said(&server, &["it took too long while others waited"]).await;
    drop(kept);
}
