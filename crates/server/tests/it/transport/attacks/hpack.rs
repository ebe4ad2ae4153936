//! Header blocks that are small on the wire and large, or dear, at the server (RFC 7541).

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, END_STREAM, frame};

use super::{
    Answer, CHECK, COMPRESSION_ERROR, EMPTY_MESSAGE, ENHANCE_YOUR_CALM, STREAMS_MAX, WATCH,
    assert_answer, attacked, call, grpc_status, headers, scale, streams,
};

/// The index of the entry that was added last.
const NEWEST: usize = 62;
/// The fields of the largest list of tiny ones that is within the limit: 34 bytes each (RFC 9113, 10.5.1).
const TINY_FIELDS: usize = 460;

/// Fields that a table of 4,096 bytes gives back: 3,900 bytes each for an octet.
fn bomb(head: Block) -> Block {
    let mut block = head.added("x", "y".repeat(3_900));
    for _ in 0..8_000 {
        block = block.indexed(NEWEST);
    }
    block
}

#[test]
fn references_to_a_large_entry_are_refused_in_the_words_of_the_caller() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        for (number, stream) in streams(20 * scale()).enumerate() {
            let grpc = number % 2 == 0;
            let (head, told) = if grpc {
                (Block::grpc(CHECK), grpc_status("8"))
            } else {
                (Block::post(CHECK), b"431".to_vec())
            };
            assert!(
                attacker
                    .send(&headers(stream, END_STREAM, &bomb(head)))
                    .await
            );
            assert!(attacker.is_taken().await, "the connection goes on");
            assert!(attacker.is_answered(number as u64 + 1).await);
            assert!(attacker.was_told(stream, &told), "{stream}");
        }
    });
}

#[test]
fn references_to_a_large_entry_are_refused_as_trailers() {
    attacked(async |arena| {
        let trailers = headers(1, END_STREAM, &bomb(Block::default()));
        let bytes = [call(1, WATCH), trailers].concat();
        let answer = Answer::Reset(ENHANCE_YOUR_CALM);
        assert_answer(arena, "trailers", &bytes, answer).await;
    });
}

#[test]
fn the_size_of_the_table_goes_up_and_down_within_its_limit() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        for stream in streams(500 * scale()) {
            // Emptied, and filled again.
            let mut block = Block::default().table_size(0).table_size(4_096);
            block = block.octets(Block::grpc("/no/Method").as_bytes());
            for entry in 0..20 {
                block = block.added(format!("x-{entry}"), "y".repeat(150));
            }
            assert!(attacker.send(&headers(stream, END_STREAM, &block)).await);
        }
        assert!(attacker.is_taken().await, "the connection goes on");
        assert!(attacker.is_answered(500).await);
        drop(attacker);
        for (name, block) in [
            (
                "three sizes (4.2)",
                Block::default().table_size(0).table_size(1).table_size(2),
            ),
            ("over the limit (6.3)", Block::default().table_size(4_097)),
            ("after a field (4.2)", Block::grpc(CHECK).table_size(0)),
            ("index 0 (6.1)", Block::default().indexed(0)),
            ("no such entry (2.3.3)", Block::default().indexed(NEWEST)),
            (
                "an entry that was evicted (4.4)",
                Block::grpc(CHECK)
                    .added("a", "b")
                    .added("c", "y".repeat(4_050))
                    .indexed(NEWEST + 1),
            ),
            (
                "an integer without end (5.1)",
                Block::default().octets(&[0xff; 12]),
            ),
            (
                "EOS in a string (5.2)",
                Block::default().octets(&[0x00, 0x84, 0xff, 0xff, 0xff, 0xff]),
            ),
            (
                "a field that is cut (5.2)",
                Block::default().octets(&[0x00, 5, b'a']),
            ),
        ] {
            let bytes = headers(1, END_STREAM, &block);
            assert_answer(arena, name, &bytes, Answer::GoAway(COMPRESSION_ERROR)).await;
        }
    });
}

/// Each entry evicts those before it.
#[test]
fn entries_that_push_each_other_out_cost_no_memory() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        for stream in streams(100 * scale()) {
            let mut block = Block::grpc("/no/Method");
            for entry in 0..3 {
                block = block.added(format!("x-{entry}"), "y".repeat(4_000));
            }
            for entry in 0..300 {
                block = block.added("", format!("{entry}"));
            }
            assert!(attacker.send(&headers(stream, END_STREAM, &block)).await);
        }
        assert!(attacker.is_taken().await, "the connection goes on");
    });
}

/// As many streams as may be open, on two connections: 2 KiB each on the wire, and some 50 as a map of fields.
fn held_within_the_cap(bytes: impl Fn(u32) -> Vec<u8>) {
    attacked(async |arena| {
        let mut attackers = Vec::new();
        for _ in 0..2 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            for stream in streams(STREAMS_MAX) {
                if !attacker.send(&bytes(stream)).await {
                    break;
                }
            }
            attacker.is_taken().await;
            attackers.push(attacker);
        }
        arena.neighbour_is_answered(2).await;
    });
}

fn many_fields() -> Block {
    Block::grpc(WATCH).tiny_fields(TINY_FIELDS - 10)
}

#[test]
fn tiny_fields_of_calls_that_say_nothing_more_are_held_within_the_cap() {
    let head = many_fields();
    held_within_the_cap(|stream| headers(stream, 0, &head));
}

#[test]
fn tiny_fields_of_calls_that_are_answered_are_held_within_the_cap() {
    let head = many_fields();
    held_within_the_cap(|stream| {
        let message = frame(DATA, END_STREAM, stream, EMPTY_MESSAGE);
        [headers(stream, 0, &head), message].concat()
    });
}

#[test]
fn tiny_fields_as_trailers_are_held_within_the_cap() {
    let trailers = Block::default().tiny_fields(TINY_FIELDS);
    held_within_the_cap(|stream| {
        let message = frame(DATA, 0, stream, EMPTY_MESSAGE);
        let trailers = headers(stream, END_STREAM, &trailers);
        [call(stream, WATCH), message, trailers].concat()
    });
}

/// Half of a message, and then the end: of a call that has been refused, or waits for nothing.
#[test]
fn tiny_fields_as_trailers_amid_a_message_are_held_within_the_cap() {
    let trailers = Block::default().tiny_fields(TINY_FIELDS);
    held_within_the_cap(|stream| {
        let half = frame(DATA, 0, stream, &EMPTY_MESSAGE[..3]);
        let trailers = headers(stream, END_STREAM, &trailers);
        [call(stream, WATCH), half, trailers].concat()
    });
}

#[test]
fn calls_with_many_small_fields_are_answered_and_leave_nothing() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        let block = Block::grpc("/no/Method").tiny_fields(400);
        let count = 1_000 * scale();
        for stream in streams(count) {
            assert!(attacker.send(&headers(stream, END_STREAM, &block)).await);
        }
        assert!(attacker.is_answered(count.into()).await);
        assert!(attacker.is_taken().await);
    });
}
