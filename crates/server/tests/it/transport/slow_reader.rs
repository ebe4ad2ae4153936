//! A reader that reads all the time, and so slowly that its answer to a PING stands behind seconds of what it was sent.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longlived_server::acceptor::AcceptorSettings;
use longlived_server::connection::ConnectionSettings;

use super::support::{node_with, until};
use crate::by_hand::{HEAD_BYTES, PING, WINDOW_INITIAL, WINDOW_MAX, frame, grpc_call, hello, room};

const ACK: u8 = 1;
/// About 128 KiB a second.
const PIECE_BYTES: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(64);
/// Ten seconds of that; keepalive would have ended it after three.
const READ_BYTES: usize = 1_280 << 10;

/// Reads on a thread of its own, and answers each PING when it comes to it. Counts what it has read.
fn reads_slowly(address: SocketAddr) -> Arc<AtomicUsize> {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    std::thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect(address).expect("it listens");
        let mut says = hello(WINDOW_MAX);
        says.extend(room(0, WINDOW_MAX - WINDOW_INITIAL));
        says.extend(grpc_call(1, "/test/endless"));
        socket.write_all(&says).expect("the kernel takes it");
        let mut bytes = Vec::new();
        let mut piece = [0; PIECE_BYTES];
        while let Ok(count @ 1..) = socket.read(&mut piece) {
            counted.fetch_add(count, Ordering::Relaxed);
            bytes.extend_from_slice(&piece[..count]);
            while let [a, b, c, kind, flags, ..] = bytes[..] {
                let end = HEAD_BYTES + u32::from_be_bytes([0, a, b, c]) as usize;
                if bytes.len() < end {
                    break;
                }
                if kind == PING && flags & ACK == 0 {
                    let answer = frame(PING, ACK, 0, &bytes[HEAD_BYTES..end]);
                    if socket.write_all(&answer).is_err() {
                        return;
                    }
                }
                bytes.drain(..end);
            }
            std::thread::sleep(PAUSE);
        }
    });
    read
}

#[tokio::test]
async fn a_reader_whose_answer_stands_behind_what_it_reads_stays() {
    let node = node_with(AcceptorSettings {
        connection: Arc::new(ConnectionSettings {
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_millis(500),
            ..ConnectionSettings::default()
        }),
        ..AcceptorSettings::default()
    });
    let read = reads_slowly(node.address);
    let so_much = || read.load(Ordering::Relaxed) >= READ_BYTES;
    until(Duration::from_secs(120), "it reads on", so_much).await;
    assert_eq!(node.counts.open(), 1);
}
