//! A socket that holds its bytes until it is flushed, as TLS does.

use bytes::Bytes;
use h2::RecvStream;
use http::Request;
use tokio::io::{BufWriter, DuplexStream};

use super::{
    piped::{Says, connection_by, count, settled},
    support::{spawn, within},
};

/// More than the connection writes in one turn, so that nothing but a flush empties it.
const BUFFER_BYTES: usize = 1 << 20;
const CHUNK_BYTES: usize = 1_000;
/// The largest that a peer can announce: no window holds anything up.
const WINDOW: u32 = (1 << 31) - 1;

fn buffering(pipe: DuplexStream) -> BufWriter<DuplexStream> {
    BufWriter::with_capacity(BUFFER_BYTES, pipe)
}

fn builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_connection_window_size(WINDOW)
        .initial_window_size(WINDOW);
    builder
}

fn request() -> Request<()> {
    Request::post("http://test/").body(()).expect("a request")
}

/// Reads this number of bytes and returns them.
async fn read(body: &mut RecvStream, bytes: usize) {
    let mut read = 0;
    while read < bytes {
        let chunk = within("data", body.data()).await.expect("it goes on");
        let chunk = chunk.expect("it stands");
        read += chunk.len();
        let credited = body.flow_control().release_capacity(chunk.len());
        credited.expect("it was received");
    }
}

#[tokio::test]
async fn bytes_written_before_a_quiet_spell_arrive_before_it_ends() {
    for bytes in [10, CHUNK_BYTES, 16_384, 64 << 10] {
        let says = Says { chunks: 3, bytes };
        let (near, _) = connection_by(buffering, 1 << 20, says, says);
        let handshake = builder().handshake::<_, Bytes>(near);
        let (mut requests, http2) = handshake.await.expect("it speaks HTTP/2");
        let driver = spawn(async move { http2.await.is_ok() });
        let (answer, _) = requests.send_request(request(), true).expect("it stands");
        let mut body = within("an answer", answer)
            .await
            .expect("an answer")
            .into_body();
        read(&mut body, 3 * bytes).await;
        driver.abort();
    }
}

#[tokio::test]
async fn a_socket_that_cannot_be_flushed_is_full() {
    let says = Says {
        chunks: 5_000,
        bytes: CHUNK_BYTES,
    };
    let (near, counts) = connection_by(buffering, 4 << 10, says, says);
    let handshake = builder().handshake::<_, Bytes>(near);
    let (mut requests, http2) = handshake.await.expect("it speaks HTTP/2");
    let mut http2 = Box::pin(http2);
    let (answer, _) = requests.send_request(request(), true).expect("it stands");
    let answer = tokio::select! {
        answer = within("an answer", answer) => answer,
        _ = &mut http2 => panic!("the connection ended"),
    };
    // Nobody reads from here on: bytes that the socket holds back count as not taken.
    settled(&counts.said).await;
    let said = count(&counts.said) * CHUNK_BYTES;
    assert!(said < BUFFER_BYTES / 2, "{said} bytes are under way");
    let driver = spawn(async move { http2.await.is_ok() });
    let mut body = answer.expect("an answer").into_body();
    read(&mut body, 5_000 * CHUNK_BYTES).await;
    driver.abort();
}
