//! A reader that reads all the time, and so slowly that its answer to a PING stands behind seconds of sent bytes.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use longlived_server::testkit::acceptor::AcceptorSettings;
use longlived_server::testkit::connection::ConnectionSettings;
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc::Sender;

use super::support::{Node, node_with, until, within};
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    FRAME_HEADER_BYTES, PING, WINDOW_INITIAL, WINDOW_MAX, frame, hello, window_update,
};

const ACK: u8 = 1;
/// About 128 KiB a second.
const PIECE_BYTES: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(64);
/// Ten seconds of that; keepalive would have ended it after three.
const READ_BYTES: usize = 1_280 << 10;

/// The rest of a stream that ends: it fits the reader's kernel, with the PING behind it, and takes seconds to read.
const REST_BYTES: usize = 160 << 10;
/// Small enough to cost a reader no time.
const TRICKLE_BYTES: usize = 2 << 10;
const TRICKLE_PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Progress {
    read: AtomicUsize,
    /// PINGs that were answered.
    answered: AtomicUsize,
    /// From now on it reads nothing.
    hangs: AtomicBool,
}

impl Progress {
    fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }
}

/// Reads the stream `path` on a thread of its own, and answers each PING when it comes to it.
fn reads_slowly(address: SocketAddr, path: &'static str) -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    let told = Arc::clone(&progress);
    std::thread::spawn(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let _ = socket.set_recv_buffer_size(4 * REST_BYTES);
        socket.connect(&address.into()).expect("it listens");
        let mut socket = std::net::TcpStream::from(socket);
        let mut says = hello(WINDOW_MAX);
        says.extend(window_update(0, WINDOW_MAX - WINDOW_INITIAL));
        says.extend(Block::grpc(path).headers(1, 0));
        socket.write_all(&says).expect("the kernel takes it");
        let mut bytes = Vec::new();
        let mut piece = [0; PIECE_BYTES];
        while let Ok(count @ 1..) = socket.read(&mut piece) {
            told.read.fetch_add(count, Ordering::Relaxed);
            bytes.extend_from_slice(&piece[..count]);
            while let [a, b, c, kind, flags, ..] = bytes[..] {
                let end = FRAME_HEADER_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
                if bytes.len() < end {
                    break;
                }
                if kind == PING && flags & ACK == 0 {
                    let answer = frame(PING, ACK, 0, &bytes[FRAME_HEADER_BYTES..end]);
                    if socket.write_all(&answer).is_err() {
                        return;
                    }
                    told.answered.fetch_add(1, Ordering::Relaxed);
                }
                bytes.drain(..end);
            }
            loop {
                std::thread::sleep(PAUSE);
                if !told.hangs.load(Ordering::Relaxed) {
                    break;
                }
                if Arc::strong_count(&told) == 1 {
                    // The test is over.
                    return;
                }
            }
        }
    });
    progress
}

/// A node that asks soon, and waits for readers of this rate, in bytes a second.
fn asks_soon(slowest: u32) -> Node {
    node_with(AcceptorSettings {
        connection: Arc::new(ConnectionSettings {
            keepalive_interval: Duration::from_millis(200),
            keepalive_timeout: Duration::from_millis(200),
            keepalive_slowest_reader: slowest,
            ..ConnectionSettings::default()
        }),
        ..AcceptorSettings::default()
    })
}

async fn feeds(node: &Node) -> Sender<Bytes> {
    until("it has called", || !node.calls.feeds.lock().is_empty()).await;
    node.calls.feeds.lock()[0].clone()
}

#[tokio::test]
async fn a_reader_whose_answer_stands_behind_unread_bytes_stays() {
    let node = node_with(AcceptorSettings {
        connection: Arc::new(ConnectionSettings {
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_millis(500),
            ..ConnectionSettings::default()
        }),
        ..AcceptorSettings::default()
    });
    let progress = reads_slowly(node.address, "/test/endless");
    let so_much = || progress.read() >= READ_BYTES;
    until("it reads on", so_much).await;
    assert_eq!(node.counts.open(), 1);
}

#[tokio::test]
async fn a_reader_whose_kernel_has_it_all_stays() {
    // Slow enough for a busy machine: the rest takes it a minute at this rate.
    let node = asks_soon(2 << 10);
    let progress = reads_slowly(node.address, "/test/feed");
    let feed = feeds(&node).await;
    let rest = Bytes::from(vec![7; REST_BYTES]);
    feed.send(rest).await.expect("the stream is open");
    until("it comes to the PING", || {
        progress.read() >= REST_BYTES && progress.answered.load(Ordering::Relaxed) >= 1
    })
    .await;
    // The answer to the next is heard too, so the server has not closed behind the first.
    until("it is asked again", || {
        progress.answered.load(Ordering::Relaxed) >= 2
    })
    .await;
    assert_eq!(node.counts.open(), 1);
}

#[tokio::test]
async fn a_program_that_hangs_is_closed_though_its_kernel_acknowledges() {
    let node = asks_soon(1 << 20);
    let progress = reads_slowly(node.address, "/test/feed");
    let feed = feeds(&node).await;
    let rest = Bytes::from(vec![7; REST_BYTES]);
    feed.send(rest).await.expect("the stream is open");
    until("it has begun", || progress.read() > PIECE_BYTES).await;
    progress.hangs.store(true, Ordering::Relaxed);
    // Its kernel takes each of them.
    let trickle = async {
        while feed.send(Bytes::from(vec![7; TRICKLE_BYTES])).await.is_ok() {
            tokio::time::sleep(TRICKLE_PAUSE).await;
        }
    };
    within("a step", trickle).await;
    until("it is closed", || node.counts.open() == 0).await;
}
