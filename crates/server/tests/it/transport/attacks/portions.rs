//! What a peer sent is taken in portions, one for each poll of the connection's task, so that the neighbours of the connection have
//! their turn between them. Over a pipe in memory, whose polls are counted.

use longlived_testkit::block::Block;
use longlived_testkit::frames::{END_STREAM, PING, WINDOW_INITIAL, frame, hello};
use tokio::io::AsyncWriteExt as _;

use super::{UNKNOWN, headers};
use crate::transport::piped::{Says, connection, count, settled};

const SHORT: Says = Says {
    chunks: 1,
    bytes: 1,
};

/// The polls in which a connection takes these bytes, which it has all at once.
async fn polls(bytes: Vec<u8>) -> usize {
    let (mut near, counts) = connection(1 << 20, SHORT, SHORT);
    near.write_all(&hello(WINDOW_INITIAL)).await.expect("room");
    settled(&counts.polls).await;
    let before = count(&counts.polls);
    near.write_all(&bytes).await.expect("room for all of them");
    settled(&counts.polls).await;
    count(&counts.polls) - before
}

#[tokio::test(start_paused = true)]
async fn a_portion_has_at_most_sixty_four_control_frames() {
    for (kind, flags, payload) in [(UNKNOWN, 0, &b""[..]), (PING, 0, b"are you?")] {
        let polls = polls(frame(kind, flags, 0, payload).repeat(64 * 16)).await;
        // Fewer of those that are longer.
        assert!((16..48).contains(&polls), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn sixteen_requests_that_no_handler_sees_are_a_portion() {
    let block = Block::default().octets(&[0x83]);
    let malformed = |number: u32| headers(2 * number + 1, END_STREAM, &block);
    let polls = polls((0..16 * 10).flat_map(malformed).collect()).await;
    assert!((10..20).contains(&polls), "{polls} polls");
}

#[tokio::test(start_paused = true)]
async fn six_calls_are_a_portion() {
    let block = Block::post("/");
    let call = |number: u32| headers(2 * number + 1, END_STREAM, &block);
    let polls = polls((0..6 * 20).flat_map(call).collect()).await;
    assert!((20..40).contains(&polls), "{polls} polls");
}

/// A field is as much work as eight octets at least.
#[tokio::test(start_paused = true)]
async fn the_octets_that_are_decoded_at_once_are_a_portion() {
    let block = Block::post("/").tiny_fields(400);
    let call = |number: u32| headers(2 * number + 1, END_STREAM, &block);
    let polls = polls((0..50).flat_map(call).collect()).await;
    // Each block is as much work as 3,200 octets, in pieces of 32 fields.
    assert!((150..250).contains(&polls), "{polls} polls");
}
