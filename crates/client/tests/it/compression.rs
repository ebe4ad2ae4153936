//! A client asks for compression, against the real server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use longlived_client::legacy::LegacyItem;
use longlived_client::{Compression, Item, Notice, SubscribeError};
use longlived_server::Config;
use longlived_topic::TopicFilter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};

use crate::real::Node;
use crate::scripted::PATIENCE;

/// Counts the bytes from the server.
struct Counted {
    socket: TcpStream,
    received: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        self.received
            .fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

async fn next<T>(items: &mut (impl Stream<Item = Result<T, SubscribeError>> + Unpin)) -> T {
    let item = timeout(PATIENCE, items.next()).await;
    item.expect("an item within the time").unwrap().unwrap()
}

#[tokio::test]
async fn compressed_events_are_the_same_and_fewer_bytes_in_both_contracts() {
    let node = Node::start(Config {
        legacy_topics: vec![TopicFilter::parse("t").unwrap()],
        ..Node::any_port()
    });
    let payload = "all the same ".repeat(5_000);
    let publisher = node.client().build().unwrap().publisher();
    let mut received = Vec::new();
    for compression in [None, Some(Compression::Gzip), Some(Compression::Zstd)] {
        let bytes = Arc::new(AtomicUsize::new(0));
        let counter = bytes.clone();
        let mut client = node.client().connector(move |server| {
            let received = counter.clone();
            async move {
                let socket = TcpStream::connect(server.authority().unwrap().as_str()).await?;
                Ok(Counted { socket, received })
            }
        });
        if let Some(compression) = compression {
            client = client.compression(compression);
        }
        let client = client.build().unwrap();
        let mut legacy = client.legacy_subscriber(1).build();
        let connected = next(&mut legacy).await;
        assert!(matches!(connected, LegacyItem::Connected { .. }));
        let mut subscriber = client.subscriber("s").filter("t").build().unwrap();
        let connected = next(&mut subscriber).await;
        assert!(matches!(connected, Item::Notice(Notice::Connected { .. })));
        for _ in 0..3 {
            publisher.publish(("t", payload.clone())).await.unwrap();
        }
        for _ in 0..3 {
            let LegacyItem::Data(data) = next(&mut legacy).await else {
                panic!("data was expected");
            };
            assert_eq!(data, payload);
        }
        let mut events = 0;
        while events < 3 {
            match next(&mut subscriber).await {
                Item::Event(event) => {
                    assert_eq!(event.payload, payload);
                    events += 1;
                }
                Item::Notice(_) => {}
                other => panic!("an event was expected, not {other:?}"),
            }
        }
        received.push(bytes.load(Ordering::Relaxed));
    }
    assert!(received[0] > 6 * payload.len(), "{received:?}");
    assert!(received[1] < payload.len() / 5, "{received:?}");
    assert!(received[2] < payload.len() / 5, "{received:?}");
}
