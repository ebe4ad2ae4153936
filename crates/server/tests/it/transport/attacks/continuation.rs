//! Header blocks that do not end, or in which something else stands (6.10).

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame,
};

use super::{
    Answer, Arena, CHECK, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, UNKNOWN, assert_answer, attacked,
    flood, scale,
};
use crate::transport::support::pass;

/// After it a block that is not whole ends its connection (`HEADER_BLOCK_TIMEOUT`).
const BLOCK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// HEADERS that more is to follow.
fn begin(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM, stream, Block::grpc(CHECK).as_bytes())
}

/// Sends one fragment again and again until the server ends the connection, and says by which code.
async fn endless(arena: &Arena, fragment: &[u8]) -> Option<u32> {
    let mut attacker = Attacker::hello(arena.address()).await;
    attacker.send(&begin(1)).await;
    let piece = frame(CONTINUATION, 0, 1, fragment);
    flood(arena, &mut attacker, |_| piece.clone()).await.0
}

#[test]
fn a_block_without_end_is_cut_whatever_its_fragments_are() {
    attacked(async |arena| {
        for (name, fragment) in [
            ("large", Block::default().field("x", "y".repeat(16_000))),
            ("small fields", Block::default().tiny_fields(2_000)),
            ("indexed fields", Block::default().octets(&[0x82; 16_000])),
            ("one field", Block::default().tiny_fields(1)),
            ("one octet", Block::default().octets(&[0x82])),
            ("nothing", Block::default()),
        ] {
            let code = endless(arena, fragment.as_bytes()).await;
            assert_eq!(code, Some(ENHANCE_YOUR_CALM), "fragments of {name}");
        }
    });
}

/// A field that never comes whole is kept no longer than the block may be.
#[test]
fn a_field_without_end_is_cut() {
    attacked(async |arena| {
        // A value of 2^27 octets.
        let field = Block::default().octets(&[0x00, 1, b'x', 0x7f, 0x81, 0xff, 0xff, 0x3f]);
        let mut attacker = Attacker::hello(arena.address()).await;
        attacker.send(&begin(1)).await;
        attacker
            .send(&frame(CONTINUATION, 0, 1, field.as_bytes()))
            .await;
        let more = frame(CONTINUATION, 0, 1, &[b'y'; 16_000]);
        let (code, _) = flood(arena, &mut attacker, |_| more.clone()).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    });
}

#[test]
fn what_stands_between_the_frames_of_a_block_ends_the_connection() {
    attacked(async |arena| {
        let others = [
            ("PING", frame(PING, 0, 0, &[0; 8])),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
            ("DATA", frame(DATA, 0, 1, b"x")),
            ("HEADERS", begin(3)),
            ("HEADERS of the same stream", begin(1)),
            ("an unknown frame", frame(UNKNOWN, 0, 0, b"x")),
            (
                "CONTINUATION of another",
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ),
        ];
        for (name, other) in others {
            let bytes = [begin(1), other].concat();
            assert_answer(arena, name, &bytes, Answer::GoAway(PROTOCOL_ERROR)).await;
        }
        let whole = [begin(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat();
        let again = [whole, frame(CONTINUATION, END_HEADERS, 1, &[])].concat();
        let answer = Answer::GoAway(PROTOCOL_ERROR);
        assert_answer(arena, "CONTINUATION after its block", &again, answer).await;
        let first = frame(CONTINUATION, END_HEADERS, 1, &[]);
        assert_answer(arena, "CONTINUATION without HEADERS", &first, answer).await;
    });
}

/// Each connection holds a block just below its limit, and says nothing more.
#[test]
fn blocks_that_are_never_whole_are_held_for_ten_seconds() {
    attacked(async |arena| {
        let mut attackers = Vec::new();
        for _ in 0..40 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            // Answered before the block begins: no PING may stand amid it.
            attacker.is_taken().await;
            attacker.send(&begin(1)).await;
            let field = Block::default().octets(&[0x00, 1, b'x', 0x7f, 0x81, 0xff, 0xff, 0x3f]);
            let fragment = [field.as_bytes(), &[b'y'; 16_000]].concat();
            attacker.send(&frame(CONTINUATION, 0, 1, &fragment)).await;
            for _ in 0..2 {
                let more = frame(CONTINUATION, 0, 1, &[b'y'; 16_000]);
                attacker.send(&more).await;
            }
            attackers.push(attacker);
        }
        arena.neighbour_is_answered(4).await;
        pass(BLOCK_TIMEOUT).await;
        for mut attacker in attackers {
            assert_eq!(attacker.end().await, Some(ENHANCE_YOUR_CALM));
        }
    });
}
