//! A connection whose socket takes nothing: what its streams would send does not pile up, and nothing is lost.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{join_all, ready};
use http::{Request, Response};
use http_body::{Body, Frame};
use longlived_server::{
    connection::{ConnectionSettings, HalfSentTotal, ResponseBody, StreamAbort, serve_connection},
    lifecycle::Drain,
};
use parking_lot::Mutex;
use tower::service_fn;

use super::support::{spawn, until, within};

const STREAMS: usize = 20;
const CHUNKS: usize = 2_000;
const CHUNK_BYTES: usize = 100;
/// The largest that a peer can announce, for each stream and the connection: no window holds anything up.
const WINDOW: u32 = (1 << 31) - 1;
/// What lies between both ends.
const SOCKET_BYTES: usize = 4 << 10;

/// Says its chunks one by one, each filled with its number.
struct Counted {
    next: usize,
    said: Arc<AtomicUsize>,
    live: Arc<AtomicUsize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.next == CHUNKS {
            return Poll::Ready(None);
        }
        let chunk = vec![self.next as u8; CHUNK_BYTES];
        self.next += 1;
        self.said.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }
}

impl ResponseBody for Counted {}

#[tokio::test]
async fn streams_are_not_asked_while_the_socket_takes_nothing_and_end_when_they_are_aborted() {
    let (near, far) = tokio::io::duplex(SOCKET_BYTES);
    let said = Arc::new(AtomicUsize::new(0));
    let live = Arc::new(AtomicUsize::new(0));
    let aborts = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let (said, live, aborts) = (said.clone(), live.clone(), aborts.clone());
        service_fn(move |_: Request<tonic::body::Body>| {
            live.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(Counted {
                next: 0,
                said: said.clone(),
                live: live.clone(),
            });
            let abort = StreamAbort::new();
            aborts.lock().push(abort.clone());
            response.extensions_mut().insert(abort);
            ready(Ok::<_, Infallible>(response))
        })
    };
    spawn(async move {
        let peer = ([127, 0, 0, 1], 1).into();
        let settings = Arc::new(ConnectionSettings::default());
        let half_sent = HalfSentTotal::new(1 << 20);
        serve_connection(far, peer, service, settings, half_sent, Drain::new()).await
    });
    let mut builder = h2::client::Builder::new();
    builder
        .initial_connection_window_size(WINDOW)
        .initial_window_size(WINDOW);
    let handshake = builder.handshake::<_, Bytes>(near);
    let (mut requests, connection) = handshake.await.expect("it speaks HTTP/2");
    // Requests are on their way before the connection is driven; it is for as long as the headers take.
    let mut connection = Box::pin(connection);
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        let request = Request::post("http://test/").body(()).expect("a request");
        let (response, _) = requests.send_request(request, true).expect("it stands");
        responses.push(response);
    }
    let answers = tokio::select! {
        answers = within(join_all(responses)) => answers,
        _ = &mut connection => panic!("the connection ended"),
    };
    let mut bodies: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect("an answer").into_body())
        .collect();
    // Nobody reads from here on. Without a socket that takes them, chunks stop coming.
    let before = settled(&said).await;
    // A 4 KiB socket, 64 KiB that are collected for one write, and a turn: not 64 KiB of each stream.
    let most = (SOCKET_BYTES + (64 << 10)) / CHUNK_BYTES + 200;
    assert!(before < 2 * most, "{before} chunks are under way");
    aborts.lock()[3].abort();
    until(Duration::from_secs(1), "it is dropped", || {
        live.load(Ordering::SeqCst) == STREAMS - 1
    })
    .await;
    assert_eq!(said.load(Ordering::SeqCst), before);

    let driver = spawn(async move { connection.await.is_ok() });
    for (index, body) in bodies.iter_mut().enumerate() {
        let mut read = 0;
        while let Some(chunk) = within(body.data()).await {
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

/// A count that has stopped rising.
async fn settled(count: &AtomicUsize) -> usize {
    let mut seen = count.load(Ordering::SeqCst);
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        match count.load(Ordering::SeqCst) {
            now if now == seen => return now,
            now => seen = now,
        }
    }
}
