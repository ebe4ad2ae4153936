//! A node and its peers in one process, over sockets in memory, which need no descriptors: what very many connections with one live
//! subscription each take (docs/BENCHMARKS.md, "A million connections").
//!
//! The sockets are made first, and what they take is not counted. Then each connects and subscribes. When all have their Welcome, the memory
//! is looked at, and one event is published to all.
//!
//!     cargo run --release -p longlived-server --example memory_connections -- 1000000

use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longlived_server::{Config, Environment, Server};
use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, END_STREAM, FRAME_HEADER_BYTES, frame, hello};
use longlived_testkit::grpc::framed;
use longlived_testkit::requests::{message, request};
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 1_000_000;
/// Connections whose Welcome is waited for before others begin.
const AT_ONCE: usize = 1_000;
const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const TOPIC: &str = "news";
/// Between two looks at a number that others change.
const LOOK: Duration = Duration::from_millis(1);
/// The allocator gives back what is free.
const REST: Duration = Duration::from_secs(3);

/// What a peer has said, and not what it has heard: that is only counted.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    reader: Option<Waker>,
}

/// The server's end of a connection.
struct Socket {
    said: Arc<Mutex<Said>>,
    /// DATA frames that all peers have heard.
    heard: Arc<AtomicUsize>,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut said = self.said.lock();
        if said.bytes.is_empty() {
            said.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = said.bytes.len().min(buf.remaining());
        buf.put_slice(&said.bytes[..count]);
        // What was read is let go.
        said.bytes = said.bytes.split_off(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    /// The connection writes whole frames, and this takes all of them.
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut rest = bytes;
        while let Some((head, after)) = rest.split_at_checked(FRAME_HEADER_BYTES) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.heard.fetch_add(usize::from(head[3] == DATA), Relaxed);
            rest = &after[length..];
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A peer says its first words: a call with one request.
fn say(said: &Mutex<Said>, path: &str, request: &impl Message) {
    let mut bytes = hello(65_535);
    bytes.extend(Block::grpc(path).headers(1, 0));
    let message = framed(&request.encode_to_vec());
    bytes.extend(frame(DATA, END_STREAM, 1, &message));
    let mut said = said.lock();
    said.bytes = bytes;
    if let Some(reader) = said.reader.take() {
        reader.wake();
    }
}

/// Bytes of this process that are in memory.
fn resident() -> io::Result<usize> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = rss.and_then(|rss| rss.split_whitespace().next()?.parse().ok());
    let kib: usize = kib.ok_or_else(|| io::Error::other("smaps_rollup has no Rss"))?;
    Ok(kib << 10)
}

async fn until(heard: &AtomicUsize, frames: usize) {
    while heard.load(Relaxed) < frames {
        sleep(LOOK).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let connections = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => CONNECTIONS,
    };
    let mut config = Config {
        max_silence: Duration::from_secs(300),
        ..Config::default()
    };
    config.acceptor.connections_max = connections + 1;
    // Peers that only count do not answer to a PING.
    Arc::make_mut(&mut config.acceptor.connection).keepalive_interval = Duration::from_secs(3_600);
    let (door, incoming) = mpsc::channel(AT_ONCE);
    let server = Server::with_listener(incoming, address(), config, Environment::system());
    tokio::select! {
        end = server.run(std::future::pending()) => Ok(end?),
        end = connect(connections, door) => end,
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7070))
}

/// The peers: all of them connect, subscribe, and hear one event.
async fn connect(
    connections: usize,
    door: mpsc::Sender<(Socket, SocketAddr)>,
) -> Result<(), Box<dyn Error>> {
    let heard = Arc::new(AtomicUsize::new(0));
    let socket = |said: &Arc<Mutex<Said>>| Socket {
        said: Arc::clone(said),
        heard: Arc::clone(&heard),
    };
    let before = resident()?;
    let said: Vec<Arc<Mutex<Said>>> = (0..connections).map(|_| Arc::default()).collect();
    let sockets = resident()?;
    println!("{connections} sockets: {} MiB", (sockets - before) >> 20);

    let began = Instant::now();
    for (number, said) in said.iter().enumerate() {
        if number % AT_ONCE == 0 {
            until(&heard, number).await;
        }
        say(said, SUBSCRIBE, &request(&format!("s-{number}"), &[TOPIC]));
        door.send((socket(said), address())).await?;
    }
    until(&heard, connections).await;
    println!("connected and subscribed in {:.1?}", began.elapsed());
    sleep(REST).await;
    let taken = resident()? - sockets;
    println!(
        "{} MiB, {} bytes a connection",
        taken >> 20,
        taken / connections
    );

    let publisher = Arc::default();
    say(&publisher, PUBLISH, &message(TOPIC, "to all"));
    let began = Instant::now();
    door.send((socket(&publisher), address())).await?;
    // The answer to the publisher as well.
    until(&heard, 2 * connections + 1).await;
    println!("an event was with all after {:.2?}", began.elapsed());
    Ok(())
}
