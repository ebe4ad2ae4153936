//! Peers that keep a connection busy for nothing are cut; honest ones that do a lot are not. Frames are written by hand.

use std::time::Duration;

use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    DATA, FRAME_HEADER_BYTES, GOAWAY, PING, call, frame, hello, reset, window_update,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::piped::{Says, WITHOUT_END, connection, count, turns};

const ENHANCE_YOUR_CALM: u32 = 0x0b;

/// Sends what `round` gives, round after round, until the connection ends or `rounds` are over; the code of its GOAWAY.
async fn flood(
    near: DuplexStream,
    rounds: u32,
    mut round: impl FnMut(u32) -> Vec<u8>,
) -> Option<u32> {
    let (mut from, mut to) = tokio::io::split(near);
    let mut said = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    for number in 0..rounds {
        let bytes = round(number);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // What comes is read meanwhile, so that neither end waits for the other.
            tokio::select! {
                biased;
                read = from.read(&mut buffer) => match read {
                    Ok(count @ 1..) => said.extend_from_slice(&buffer[..count]),
                    _ => return code_of(&said),
                },
                written = to.write(rest) => match written {
                    Ok(count) => rest = &rest[count..],
                    Err(_) => rest = &[],
                },
            }
        }
        if code_of(&said).is_some() {
            break;
        }
    }
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_millis(10), from.read(&mut buffer)).await
    {
        said.extend_from_slice(&buffer[..count]);
    }
    code_of(&said)
}

/// The code of the first GOAWAY among whole frames.
fn code_of(said: &[u8]) -> Option<u32> {
    let mut rest = said;
    while let [high, middle, low, kind, _, _, _, _, _, after @ ..] = rest {
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let payload = after.get(..length)?;
        if *kind == GOAWAY {
            let code = payload[4..8].try_into().expect("four bytes");
            return Some(u32::from_be_bytes(code));
        }
        rest = &after[length..];
    }
    None
}

async fn peer(answer: Says) -> (DuplexStream, super::piped::Counts) {
    let (mut near, counts) = connection(256 << 10, answer, answer);
    near.write_all(&hello(65_535)).await.expect("it is read");
    (near, counts)
}

const SHORT: Says = Says {
    chunks: 1,
    bytes: 1,
};

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_nothing_are_a_flood_beyond_some_thousands() {
    let settings = |_| frame(0x04, 0, 0, &[]);
    let ping = |_| frame(PING, 0, 0, b"are you?");
    let priority = |_| frame(0x02, 0, 1, &[0, 0, 0, 0, 1]);
    let unknown = |_| frame(0xfa, 0, 0, b"what");
    let widened = |_| window_update(0, 1);
    let closed = |_| reset(1);
    let floods: [fn(u32) -> Vec<u8>; 6] = [settings, ping, priority, unknown, widened, closed];
    for (number, one) in floods.into_iter().enumerate() {
        let (mut near, _counts) = peer(SHORT).await;
        near.write_all(&call(1)).await.expect("it is read");
        let code = flood(near, 10_000, one).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "flood {number}");
        let (mut near, _counts) = peer(SHORT).await;
        near.write_all(&call(1)).await.expect("it is read");
        assert_eq!(flood(near, 2_000, one).await, None, "as many as {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rapid_reset_is_cut_within_four_times_the_limit_of_streams() {
    let (near, counts) = peer(WITHOUT_END).await;
    let round = |number: u32| [call(2 * number + 1), reset(2 * number + 1)].concat();
    let code = flood(near, 100_000, round).await;
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    assert!(count(&counts.asked) <= 4 * 1_024 + 1, "calls were begun");
}

#[tokio::test(start_paused = true)]
async fn streams_that_break_a_rule_each_are_cut() {
    let (near, counts) = peer(WITHOUT_END).await;
    // Each call is answered, and then broken by a window that grows by nothing.
    let round = |number: u32| [call(2 * number + 1), window_update(2 * number + 1, 0)].concat();
    let code = flood(near, 100_000, round).await;
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    assert!(count(&counts.asked) <= 257, "calls were begun");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_answers_each_frame_of_ours_is_no_flood() {
    let (mut near, counts) = peer(Says {
        chunks: 30_000,
        bytes: 100,
    })
    .await;
    near.write_all(&call(1)).await.expect("it is read");
    let mut buffer = vec![0; 64 << 10];
    let mut read = 0;
    // Two WINDOW_UPDATEs and a PING for each frame of 109 bytes.
    let answers = [
        window_update(0, 100),
        window_update(1, 100),
        frame(PING, 0, 0, b"how fast"),
    ]
    .concat();
    let (mut from, mut to) = tokio::io::split(near);
    while read < 25_000 * 109 {
        let came = from.read(&mut buffer).await.expect("it goes on");
        assert!(came > 0, "the server has hung up after {read} bytes");
        let before = read / 109;
        read += came;
        for _ in before..read / 109 {
            to.write_all(&answers).await.expect("it is read");
        }
    }
    assert!(count(&counts.said) > 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_sends_head_and_payload_of_each_frame_by_themselves_is_no_flood() {
    let (near, _counts) = peer(WITHOUT_END).await;
    let (mut from, mut to) = tokio::io::split(near);
    let head = Block::post("/").headers(1, 0);
    to.write_all(&head).await.expect("it is read");
    let data = frame(DATA, 0, 1, b"x");
    let (head, payload) = data.split_at(FRAME_HEADER_BYTES);
    for _ in 0..5_000 {
        for part in [head, payload] {
            to.write_all(part).await.expect("it is read");
            turns(2).await;
        }
    }
    let mut said = vec![0; 1 << 20];
    let mut came = 0;
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_millis(10), from.read(&mut said[came..])).await
    {
        came += count;
    }
    assert_eq!(code_of(&said[..came]), None);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_answers_every_four_kibibytes_is_no_flood() {
    let (near, counts) = peer(Says {
        chunks: 1_300,
        bytes: 16 << 10,
    })
    .await;
    let (mut from, mut to) = tokio::io::split(near);
    to.write_all(&call(1)).await.expect("it is read");
    let mut buffer = vec![0; 64 << 10];
    // As Go's library: a WINDOW_UPDATE for the stream and one for the connection.
    let answers = [window_update(0, 4_096), window_update(1, 4_096)].concat();
    let mut read = 0;
    while read < 20 << 20 {
        let came = from.read(&mut buffer).await.expect("it goes on");
        assert!(came > 0, "the server has hung up after {read} bytes");
        let before = read / 4_096;
        read += came;
        for _ in before..read / 4_096 {
            to.write_all(&answers).await.expect("it is read");
        }
    }
    assert!(count(&counts.said) > 1_000);
}

/// The bytes of DATA among whole frames, which are taken out.
fn data_among(came: &mut Vec<u8>) -> usize {
    let mut data = 0;
    while let [high, middle, low, kind, ..] = came[..] {
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if came.len() < FRAME_HEADER_BYTES + length {
            break;
        }
        if kind == DATA {
            data += length;
        }
        came.drain(..FRAME_HEADER_BYTES + length);
    }
    data
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_gives_back_each_small_message_is_no_flood() {
    const MESSAGE: usize = 21;
    // As gRPC's C library, whose application takes one message after the other: the five bytes before a message are given back by
    // themselves, and then the message; both for the stream and for the connection.
    let given_back: Vec<u8> = [5, MESSAGE as u32 - 5]
        .into_iter()
        .flat_map(|bytes| [window_update(1, bytes), window_update(0, bytes)].concat())
        .collect();
    let ping = frame(PING, 0, 0, b"how fast");
    let answers_alone = [&given_back[..], &ping].concat();
    // Messages that are sent together, and each in a DATA frame.
    for (chunks, messages, answers) in [(100, 780, &given_back), (20_000, 1, &answers_alone)] {
        let bytes = messages * MESSAGE;
        let (mut near, _counts) = peer(Says { chunks, bytes }).await;
        near.write_all(&call(1)).await.expect("it is read");
        let (mut from, mut to) = tokio::io::split(near);
        let mut buffer = vec![0; 64 << 10];
        let mut came = Vec::new();
        let (mut read, mut given) = (0, 0);
        while given < chunks * messages {
            let more = from.read(&mut buffer).await.expect("it goes on");
            assert!(more > 0, "the server has hung up after {given} messages");
            came.extend_from_slice(&buffer[..more]);
            read += data_among(&mut came);
            for _ in given..read / MESSAGE {
                to.write_all(answers).await.expect("it is read");
            }
            given = read / MESSAGE;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn header_blocks_for_a_stream_that_we_closed_are_a_flood() {
    let (mut near, _counts) = peer(WITHOUT_END).await;
    // A window that grows by nothing has the stream reset.
    let broken = [call(1), window_update(1, 0)].concat();
    near.write_all(&broken).await.expect("it is read");
    assert_eq!(
        flood(near, 10_000, |_| call(1)).await,
        Some(ENHANCE_YOUR_CALM)
    );
}
