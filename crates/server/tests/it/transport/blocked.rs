//! A connection whose socket takes nothing: the chunks of its streams do not pile up, and nothing is lost.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;

use super::{
    piped::{Says, connection, count, settled},
    support::{spawn, until, within},
};

const STREAMS: usize = 20;
const CHUNKS: usize = 2_000;
const CHUNK_BYTES: usize = 100;
/// The largest that a peer can announce, for each stream and the connection: no window holds anything up.
const WINDOW: u32 = (1 << 31) - 1;
/// The pipe between both ends.
const SOCKET_BYTES: usize = 4 << 10;

#[tokio::test]
async fn streams_are_not_asked_while_the_socket_takes_nothing_and_end_when_they_are_aborted() {
    let says = Says {
        chunks: CHUNKS,
        bytes: CHUNK_BYTES,
    };
    let (near, counts) = connection(SOCKET_BYTES, says, says);
    let mut builder = h2::client::Builder::new();
    builder
        .initial_connection_window_size(WINDOW)
        .initial_window_size(WINDOW);
    let handshake = builder.handshake::<_, Bytes>(near);
    let (mut requests, http2) = handshake.await.expect("it speaks HTTP/2");
    // Requests are on their way before the client is driven; it is for as long as the headers take.
    let mut http2 = Box::pin(http2);
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        let request = Request::post("http://test/").body(()).expect("a request");
        let (response, _) = requests.send_request(request, true).expect("it stands");
        responses.push(response);
    }
    let answers = tokio::select! {
        answers = within("a step", join_all(responses)) => answers,
        _ = &mut http2 => panic!("the connection ended"),
    };
    let mut bodies: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect("an answer").into_body())
        .collect();
    // Nobody reads from here on. Without a socket that takes them, chunks stop coming.
    settled(&counts.said).await;
    let before = count(&counts.said);
    // A 4 KiB socket, 64 KiB that are collected for one write, and a turn: not 64 KiB of each stream.
    let most = (SOCKET_BYTES + (64 << 10)) / CHUNK_BYTES + 200;
    assert!(before < 2 * most, "{before} chunks are under way");
    counts.aborts.lock()[3].abort();
    until("it is dropped", || count(&counts.live) == STREAMS - 1).await;
    assert_eq!(count(&counts.said), before);

    let driver = spawn(async move { http2.await.is_ok() });
    for (index, body) in bodies.iter_mut().enumerate() {
        let mut read = 0;
        while let Some(chunk) = within("a step", body.data()).await {
            let Ok(chunk) = chunk else { break };
            for byte in &chunk {
                assert_eq!(*byte, (read / CHUNK_BYTES) as u8);
                read += 1;
            }
            let credited = body.flow_control().release_capacity(chunk.len());
            credited.expect("it was received");
        }
        if index != 3 {
            assert_eq!(read, CHUNKS * CHUNK_BYTES, "of stream {index}");
        }
    }
    driver.abort();
}
