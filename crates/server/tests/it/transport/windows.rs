//! Peers that send WINDOW_UPDATEs in their own ways: a little at a time, too much, too early, or none while the socket
//! is full. Frames are written by hand, since a well-behaved client does none of this. The pipes are in memory, so the
//! clock is paused: it goes on when nobody else does.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

use super::{
    piped::{Counts, Says, WITHOUT_END, connection, count, settled, turns},
    support::{spawn, until, within},
};
use longlived_testkit::frames::{
    DATA, HEADERS, PING, WINDOW_MAX, call, frame, hello, reset, window_update,
};

/// One whose first call says chunks without end into a socket that nobody reads.
async fn blocked() -> (DuplexStream, Counts) {
    let answer = Says {
        chunks: 1,
        bytes: 1,
    };
    let (mut near, counts) = connection(4 << 10, WITHOUT_END, answer);
    for bytes in [
        hello(WINDOW_MAX),
        window_update(0, WINDOW_MAX - 65_535),
        call(1),
    ] {
        near.write_all(&bytes).await.expect("it is read");
    }
    settled(&counts.said).await;
    (near, counts)
}

/// All frames that come, as kind, flags, stream and length of each.
async fn frames(near: &mut (impl AsyncReadExt + Unpin)) -> Vec<(u8, u8, u32, usize)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(Ok(count @ 1..)) =
        timeout(Duration::from_millis(500), near.read(&mut buffer)).await
    {
        bytes.extend_from_slice(&buffer[..count]);
    }
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let [high, middle, low, kind, flags, a, b, c, d, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let stream = u32::from_be_bytes([*a, *b, *c, *d]);
        frames.push((*kind, *flags, stream, length));
        rest = after.get(length..).unwrap_or_default();
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn a_window_that_overflows_while_the_socket_is_full_keeps_no_thread_busy() {
    let (mut near, counts) = blocked().await;
    let before = count(&counts.polls);
    near.write_all(&window_update(0, WINDOW_MAX))
        .await
        .expect("it is read");
    turns(1_000).await;
    let polls = count(&counts.polls) - before;
    assert!(polls < 50, "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_begun_although_the_socket_is_full() {
    let (mut near, counts) = blocked().await;
    near.write_all(&call(3)).await.expect("it is read");
    let begun = || count(&counts.asked) == 2;
    until("the second call is polled", begun).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_a_stream_that_always_has_something_to_say() {
    let (mut near, counts) = connection(64 << 10, WITHOUT_END, WITHOUT_END);
    for bytes in [
        hello(WINDOW_MAX),
        window_update(0, WINDOW_MAX - 65_535),
        call(1),
    ] {
        near.write_all(&bytes).await.expect("it is read");
    }
    let (mut read, mut write) = tokio::io::split(near);
    spawn(async move {
        let mut buffer = vec![0; 64 << 10];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    let flows = || count(&counts.said) > 1_000;
    until("it flows", flows).await;
    write.write_all(&reset(1)).await.expect("it is read");
    let gone = || count(&counts.live) == 0;
    until("the body is dropped", gone).await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_end_also_while_the_socket_is_full() {
    const ROUNDS: u32 = 5;
    const CALLS: u32 = 500;
    let (mut near, counts) = blocked().await;
    for round in 0..ROUNDS {
        let streams = || (3 + 2 * CALLS * round..).step_by(2).take(CALLS as usize);
        let calls = streams().flat_map(call).collect::<Vec<_>>();
        near.write_all(&calls).await.expect("it is read");
        let asked = || count(&counts.asked) as u32 == 1 + CALLS * (round + 1);
        until("they are begun", asked).await;
        let resets = streams().flat_map(reset).collect::<Vec<_>>();
        near.write_all(&resets).await.expect("it is read");
        let dropped = || count(&counts.live) == 1;
        until("they are dropped", dropped).await;
    }
    near.write_all(&reset(1)).await.expect("it is read");
    let dropped = || count(&counts.live) == 0;
    until("the first too", dropped).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_while_the_socket_is_full_ends_when_it_is_aborted() {
    let (mut near, counts) = blocked().await;
    near.write_all(&call(3)).await.expect("it is read");
    let begun = || count(&counts.asked) == 2;
    until("it is begun", begun).await;
    counts.aborts.lock()[1].abort();
    let dropped = || count(&counts.live) == 1;
    until("it is dropped", dropped).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_update_that_comes_with_a_call_is_not_lost_with_a_full_socket() {
    const CALLS: u32 = 700;
    const ANSWER_BYTES: usize = 500;
    let many = Says {
        chunks: 2_000,
        bytes: 1_000,
    };
    let answer = Says {
        chunks: 1,
        bytes: ANSWER_BYTES,
    };
    let (mut near, counts) = connection(16 << 10, many, answer);
    // An answer does not fit into the initial window of a stream.
    for bytes in [
        hello(10),
        window_update(0, WINDOW_MAX - 65_535),
        call(1),
        window_update(1, 1 << 30),
    ] {
        near.write_all(&bytes).await.expect("it is read");
    }
    settled(&counts.said).await;
    let mut calls = Vec::new();
    for stream in (3..).step_by(2).take(CALLS as usize) {
        // HTTP/2 answers pings before it reads on.
        calls.extend(frame(PING, 0, 0, &[0; 8]));
        calls.extend(frame(PING, 0, 0, &[0; 8]));
        calls.extend(call(stream));
        calls.extend(window_update(stream, 1_000));
    }
    let (mut read, mut write) = tokio::io::split(near);
    let writing = spawn(async move {
        write.write_all(&calls).await.expect("it is read");
        write
    });
    let mut received = BTreeMap::new();
    for (kind, _, stream, length) in frames(&mut read).await {
        if kind == DATA && stream > 1 {
            *received.entry(stream).or_insert(0) += length;
        }
    }
    within("a step", writing)
        .await
        .expect("all calls were sent");
    assert!(received.len() > 10, "{} were answered", received.len());
    let stuck = received.values().filter(|bytes| **bytes < ANSWER_BYTES);
    assert_eq!(stuck.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_data_comes_without_a_head_when_the_peer_resets_at_once() {
    let answer = Says {
        chunks: 1,
        bytes: 10,
    };
    let (mut near, counts) = connection(256 << 10, answer, answer);
    near.write_all(&hello(65_535)).await.expect("it is read");
    for number in 1..=40_u32 {
        let stream = 2 * number - 1;
        near.write_all(&call(stream)).await.expect("it is read");
        if number % 2 == 0 {
            // A call that is reset at once may be dropped before it is polled.
            let asked = || counts.aborts.lock().len() as u32 == number;
            until("it is begun", asked).await;
        }
        near.write_all(&reset(stream)).await.expect("it is read");
    }
    let mut with_head = Vec::new();
    for (kind, _, stream, _) in frames(&mut near).await {
        match kind {
            HEADERS => with_head.push(stream),
            DATA => assert!(with_head.contains(&stream)),
            _ => {}
        }
    }
    assert!(!with_head.is_empty(), "none was answered");
}

#[tokio::test(start_paused = true)]
async fn a_small_window_goes_round_among_streams_that_all_have_more_to_send() {
    const STREAMS: u32 = 20;
    let (mut near, counts) = connection(1 << 20, WITHOUT_END, WITHOUT_END);
    near.write_all(&hello(WINDOW_MAX))
        .await
        .expect("it is read");
    for stream in (1..).step_by(2).take(STREAMS as usize) {
        near.write_all(&call(stream)).await.expect("it is read");
    }
    settled(&counts.said).await;
    frames(&mut near).await;
    let mut received = BTreeMap::new();
    for _ in 0..10 * STREAMS {
        const ROOM: usize = 1_000;
        near.write_all(&window_update(0, ROOM as u32))
            .await
            .expect("it is read");
        let mut came = 0;
        while came < ROOM {
            let mut head = [0; 9];
            within("a step", near.read_exact(&mut head))
                .await
                .expect("a frame");
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            within("a step", near.read_exact(&mut payload))
                .await
                .expect("its payload");
            if head[3] == DATA {
                came += length;
                *received.entry(head[8]).or_insert(0) += length;
            }
        }
        assert_eq!(came, ROOM);
    }
    assert_eq!(received.len(), STREAMS as usize);
    let (least, most) = (received.values().min(), received.values().max());
    assert!(
        least
            .zip(most)
            .is_some_and(|(least, most)| least * 2 >= *most),
        "{received:?}"
    );
}
