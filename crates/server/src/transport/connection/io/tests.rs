use std::collections::VecDeque;
use std::task::Waker;

use proptest::prelude::*;

use super::super::outlet::Sent;
use super::*;

/// Takes the bytes of its script, then everything.
struct Socket {
    taken: Vec<u8>,
    writes: usize,
    /// How much each write takes; 0 is "not now".
    script: VecDeque<usize>,
    /// Every write that would take something fails.
    broken: bool,
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let limit = self.script.pop_front().unwrap_or(usize::MAX);
        if limit == 0 {
            return Poll::Pending;
        }
        self.writes += 1;
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = self.taken.len();
        for slice in slices {
            let free = limit - (self.taken.len() - before);
            let part = &slice[..slice.len().min(free)];
            self.taken.extend_from_slice(part);
        }
        Poll::Ready(Ok(self.taken.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

fn over(script: &[usize]) -> (Io<Socket>, IoHandle<Socket>) {
    let (io, handle) = split(
        Socket {
            taken: Vec::new(),
            writes: 0,
            script: script.iter().copied().collect(),
            broken: false,
        },
        b"",
    );
    handle.stage(Waker::noop().clone());
    handle.windows().give_connection(1 << 30);
    (io, handle)
}

/// With the largest window of a stream.
fn stream(handle: &IoHandle<Socket>) -> Spent {
    let mut windows = handle.windows();
    windows.open(1, 0);
    windows.give(1, 1 << 30);
    Spent::default()
}

#[test]
fn many_small_frames_are_one_write() {
    let (mut io, handle) = over(&[]);
    let mut cx = Context::from_waker(Waker::noop());
    let mut spent = stream(&handle);
    for _ in 0..30 {
        let written = Pin::new(&mut io).poll_write(&mut cx, &[7; 1000]);
        assert!(matches!(written, Poll::Ready(Ok(1000))));
        assert!(Pin::new(&mut io).poll_flush(&mut cx).is_ready());
        assert_eq!(handle.sender().send(1, &mut spent, &[8; 991]), Sent::All);
    }
    assert_eq!(handle.shared.lock().socket.writes, 0);
    assert!(!handle.write(&mut cx).unwrap().blocked);
    assert_eq!(handle.shared.lock().socket.writes, 1);
    assert_eq!(handle.shared.lock().socket.taken.len(), 60_000);
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let (mut io, handle) = over(&[]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut io).poll_write(&mut cx, b"frame").is_ready());
    assert!(!handle.write(&mut cx).unwrap().blocked);
    assert_eq!(handle.shared.lock().buffer.capacity(), 0);
}

#[test]
fn window_updates_go_out_when_a_full_socket_takes_more() {
    let (mut io, handle) = over(&[100, 0, 0]);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut io).poll_write(&mut cx, &[1; 150]).is_ready());
    assert!(handle.write(&mut cx).unwrap().blocked);
    handle.windows().returned.owe(1, 7);
    assert!(handle.write(&mut cx).unwrap().blocked);
    assert!(
        !handle.windows().returned.is_empty(),
        "nothing is collected"
    );
    assert!(!handle.write(&mut cx).unwrap().blocked);
    let taken = &handle.shared.lock().socket.taken[150..];
    assert_eq!(taken[..9], [0, 0, 4, 8, 0, 0, 0, 0, 1]);
    assert_eq!(taken[13..22], [0, 0, 4, 8, 0, 0, 0, 0, 0]);
    assert_eq!(taken.len(), 26);
}

#[test]
fn a_full_socket_stops_collecting() {
    let (mut io, handle) = over(&[100, 0, 0, 0, 0]);
    let mut cx = Context::from_waker(Waker::noop());
    let mut spent = stream(&handle);
    assert!(Pin::new(&mut io).poll_write(&mut cx, &[1; 150]).is_ready());
    assert!(handle.write(&mut cx).unwrap().blocked);
    assert!(Pin::new(&mut io).poll_write(&mut cx, &[2; 10]).is_pending());
    assert!(handle.has_refused());
    let refused = handle.sender().send(1, &mut spent, &[3; 10]);
    assert_eq!(refused, Sent::Blocked(0));
    assert!(
        handle.shared.lock().buffer.capacity() < 100,
        "only the rest is kept"
    );
}

#[test]
fn a_socket_that_failed_is_written_to_no_more_and_the_failure_is_told() {
    let (_io, handle) = over(&[]);
    handle.shared.lock().socket.broken = true;
    let mut spent = stream(&handle);
    for _ in 0..2 {
        handle.sender().send(1, &mut spent, &vec![1; 300_000]);
        assert_eq!(handle.shared.lock().socket.writes, 1);
    }
    let failed = handle.write(&mut Context::from_waker(Waker::noop()));
    assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// The bytes sent on stream 1, as its peer would put them together, and the frames in between.
fn taken_apart(mut taken: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut between) = (Vec::new(), Vec::new());
    while let [first, ..] = taken {
        if *first == b'h' {
            let (marked, rest) = taken.split_at(100);
            assert!(marked.iter().all(|byte| *byte == b'h'), "a frame is whole");
            between.extend(marked);
            taken = rest;
            continue;
        }
        let (head, rest) = taken.split_at(9);
        assert_eq!(head[3..], [0, 0, 0, 0, 0, 1]);
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        sent.extend(&rest[..length]);
        taken = &rest[length..];
    }
    (sent, between)
}

proptest! {
    #[test]
    fn every_byte_leaves_once_in_order_and_in_whole_frames(
        script in prop::collection::vec(prop_oneof![Just(0_usize), 1_usize..100, 1_usize..100_000], 0..40),
        chunks in prop::collection::vec(
            (prop_oneof![1_usize..300, 1_usize..40_000, 1_usize..200_000], any::<bool>(), any::<bool>()),
            1..40,
        ),
        window in prop_oneof![1_000_u32..100_000, Just(1 << 30)],
    ) {
        let (mut io, handle) = over(&script);
        let mut cx = Context::from_waker(Waker::noop());
        handle.windows().open(1, 0);
        let mut spent = Spent::default();
        let (mut expected, mut expected_between) = (Vec::new(), Vec::new());
        for (number, (length, turn_ends, between)) in chunks.into_iter().enumerate() {
            let chunk = vec![number as u8; length];
            expected.extend_from_slice(&chunk);
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                // The lock is given back before the WINDOW_UPDATE comes.
                let sent = handle.sender().send(1, &mut spent, rest);
                match sent {
                    Sent::All => rest = &[],
                    Sent::Blocked(count) => rest = &rest[count..],
                    Sent::Part(count) => {
                        rest = &rest[count..];
                        handle.windows().give(1, window);
                    }
                    Sent::Overflown(_) => prop_assert!(false, "beyond a window"),
                }
                // HTTP/2 tries again, and nothing comes before that.
                if handle.has_refused()
                    && Pin::new(&mut io).poll_write(&mut cx, &[b'h'; 100]).is_ready()
                {
                    expected_between.extend([b'h'; 100]);
                }
                prop_assert!(handle.shared.lock().buffer.len() <= limits::STAGED_BYTES_MAX);
            }
            if between
                && let Poll::Ready(written) = Pin::new(&mut io).poll_write(&mut cx, &[b'h'; 100])
            {
                prop_assert_eq!(written.expect("the socket does not fail"), 100);
                expected_between.extend([b'h'; 100]);
            }
            if turn_ends {
                handle.write(&mut cx).unwrap();
            }
        }
        while handle.write(&mut cx).unwrap().blocked {}
        let (sent, between) = taken_apart(&handle.shared.lock().socket.taken);
        prop_assert!(sent == expected);
        prop_assert_eq!(between, expected_between);
    }
}
