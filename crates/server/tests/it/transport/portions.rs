//! What a peer sends at once, in portions: how much is read at a time, and how many writes its answers take.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, FRAME_HEADER_BYTES, HEADERS, call, frame, hello};
use parking_lot::Mutex;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};

use super::piped::{Says, connection_by, count, settled};
use super::support::within;

/// Calls that one turn takes.
const CALLS: u32 = 6;

/// A pipe that notes what the connection asks of it.
struct Noted {
    pipe: DuplexStream,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    writes: usize,
    /// The most that each read that gave something might have given.
    reads: Vec<usize>,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.remaining();
        let polled = Pin::new(&mut self.pipe).poll_read(cx, into);
        if into.remaining() < room {
            self.notes.lock().reads.push(room);
        }
        polled
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.notes.lock().writes += 1;
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// The peer's end of a connection that answers each call with its head alone, and what it asks of its pipe.
fn connection() -> (DuplexStream, super::piped::Counts, Arc<Mutex<Notes>>) {
    let notes: Arc<Mutex<Notes>> = Arc::default();
    let socket = |pipe| Noted {
        pipe,
        notes: Arc::clone(&notes),
    };
    let says = Says {
        chunks: 0,
        bytes: 0,
    };
    let (peer, counts) = connection_by(socket, 1 << 20, says, says);
    (peer, counts, notes)
}

/// How many heads of responses are among the frames.
fn heads(mut frames: &[u8]) -> usize {
    let mut heads = 0;
    while let Some(head) = frames.first_chunk::<FRAME_HEADER_BYTES>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        heads += usize::from(head[3] == HEADERS);
        frames = frames
            .get(FRAME_HEADER_BYTES + length..)
            .unwrap_or_default();
    }
    heads
}

#[tokio::test]
async fn answers_of_four_turns_go_in_one_write_and_those_of_more_do_not() {
    let (mut peer, counts, notes) = connection();
    peer.write_all(&hello(65_535)).await.expect("there is room");
    let calls: Vec<_> = (0..8 * CALLS)
        .flat_map(|number| call(2 * number + 1))
        .collect();
    peer.write_all(&calls).await.expect("there is room");
    settled(&counts.polls).await;
    assert_eq!(count(&counts.asked), 8 * CALLS as usize);
    let writes = notes.lock().writes;
    // Of eight turns; one more for SETTINGS, perhaps.
    assert!((2..=3).contains(&writes), "{writes} writes");
    let mut told = vec![0; 1 << 16];
    let length = within("the answers", peer.read(&mut told)).await;
    let length = length.expect("the pipe is open");
    assert_eq!(heads(&told[..length]), 8 * CALLS as usize);
}

#[tokio::test]
async fn little_is_read_until_a_read_takes_all_that_it_may_and_again_when_calls_wait() {
    let (mut peer, counts, notes) = connection();
    let mut bytes = hello(65_535);
    bytes.extend(Block::post("/").headers(1, 0));
    bytes.extend((0..4).flat_map(|_| frame(DATA, 0, 1, &[0; 15_000])));
    peer.write_all(&bytes).await.expect("there is room");
    settled(&counts.polls).await;
    let mut reads = std::mem::take(&mut notes.lock().reads);
    // Before them the preface.
    let rest = reads.split_off(
        reads
            .iter()
            .position(|most| *most == 4_096)
            .expect("a small one"),
    );
    assert_eq!(rest, [4_096, 16_384, 65_536]);
    let calls: Vec<_> = (1..=2 * CALLS)
        .flat_map(|number| call(2 * number + 1))
        .collect();
    peer.write_all(&calls).await.expect("there is room");
    settled(&counts.polls).await;
    peer.write_all(&call(101)).await.expect("there is room");
    settled(&counts.polls).await;
    assert_eq!(notes.lock().reads, [65_536, 4_096]);
}

#[tokio::test]
async fn a_peer_that_closes_its_side_reads_the_answers_of_the_turns_before() {
    let (mut peer, counts, _) = connection();
    let mut bytes = hello(65_535);
    // All but the last of four turns, which finds the end of what comes.
    bytes.extend((0..4 * CALLS - 1).flat_map(|number| call(2 * number + 1)));
    peer.write_all(&bytes).await.expect("there is room");
    peer.shutdown().await.expect("it is a pipe");
    settled(&counts.polls).await;
    let mut told = Vec::new();
    let read = within("the end", peer.read_to_end(&mut told)).await;
    read.expect("the pipe is whole");
    assert!(heads(&told) >= 3 * CALLS as usize, "{}", heads(&told));
}
