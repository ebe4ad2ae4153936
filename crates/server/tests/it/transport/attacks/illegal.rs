//! Streams that a client must not name, frames of a wrong size, and frames that no client sends.

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, RST_STREAM, WINDOW_UPDATE, frame,
    reset, window_update,
};

use super::{
    Answer, CHECK, FRAME_SIZE_ERROR, PRIORITY, PROTOCOL_ERROR, PUSH_PROMISE, UNKNOWN, WATCH,
    assert_answer, attacked, call, headers, watch,
};

/// The highest identifier there is.
const HIGHEST: u32 = 0x7fff_ffff;

fn check(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &Block::grpc(CHECK))
}

#[test]
fn streams_that_a_client_must_not_name_end_the_connection() {
    attacked(async |arena| {
        let protocol = Answer::GoAway(PROTOCOL_ERROR);
        for (name, bytes) in [
            ("HEADERS of an even stream (5.1.1)", check(2)),
            ("HEADERS of Stream 0 (6.2)", check(0)),
            (
                "HEADERS of a lower stream (5.1.1)",
                [call(5, WATCH), call(3, WATCH)].concat(),
            ),
            ("DATA of Stream 0 (6.1)", frame(DATA, 0, 0, b"x")),
            ("DATA of an idle stream (5.1)", frame(DATA, 0, 1, b"x")),
            (
                "DATA above the highest stream (5.1)",
                [call(1, WATCH), frame(DATA, 0, 3, b"x")].concat(),
            ),
            ("DATA of an even stream (5.1)", frame(DATA, 0, 2, b"x")),
            ("PRIORITY of Stream 0 (6.3)", frame(PRIORITY, 0, 0, &[0; 5])),
            ("RST_STREAM of Stream 0 (6.4)", reset(0)),
            ("RST_STREAM of an idle stream (6.4)", reset(1)),
            ("RST_STREAM of an even stream (5.1)", reset(2)),
            (
                "WINDOW_UPDATE of an idle stream (5.1)",
                window_update(HIGHEST, 1),
            ),
            ("PING of a stream (6.7)", frame(PING, 0, 1, &[0; 8])),
            ("GOAWAY of a stream (6.8)", frame(GOAWAY, 0, 1, &[0; 8])),
            (
                "PUSH_PROMISE of a client (8.4)",
                frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            ),
            ("WINDOW_UPDATE by 0 (6.9)", window_update(0, 0)),
        ] {
            assert_answer(arena, name, &bytes, protocol).await;
        }
    });
}

/// A stream may have any higher number, and after the highest there is none (5.1.1).
#[test]
fn the_highest_stream_is_the_last() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        attacker.send(&check(HIGHEST)).await;
        assert!(attacker.is_answered(1).await);
        attacker.send(&check(1)).await;
        assert_eq!(attacker.end().await, Some(PROTOCOL_ERROR));
    });
}

#[test]
fn frames_of_a_wrong_size_end_the_connection() {
    attacked(async |arena| {
        let size = Answer::GoAway(FRAME_SIZE_ERROR);
        let protocol = Answer::GoAway(PROTOCOL_ERROR);
        let large = vec![0; 16_385];
        let after_a_call = |frame: Vec<u8>| [call(1, WATCH), frame].concat();
        for (name, bytes, answer) in [
            (
                "DATA over 2^14 (4.2)",
                after_a_call(frame(DATA, 0, 1, &large)),
                size,
            ),
            (
                "HEADERS over 2^14 (4.2)",
                frame(HEADERS, END_HEADERS, 1, &large),
                size,
            ),
            (
                "an unknown frame over 2^14 (4.2)",
                frame(UNKNOWN, 0, 0, &large),
                size,
            ),
            ("PING of 7 (6.7)", frame(PING, 0, 0, &[0; 7]), size),
            ("PING of 9 (6.7)", frame(PING, 0, 0, &[0; 9]), size),
            ("GOAWAY of 7 (6.8)", frame(GOAWAY, 0, 0, &[0; 7]), size),
            (
                "RST_STREAM of 3 (6.4)",
                after_a_call(frame(RST_STREAM, 0, 1, &[0; 3])),
                size,
            ),
            (
                "PRIORITY of 6 (6.3)",
                after_a_call(frame(PRIORITY, 0, 1, &[0; 6])),
                size,
            ),
            (
                "WINDOW_UPDATE of 3 (6.9)",
                frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
                size,
            ),
            (
                "HEADERS without the length of its padding (4.2)",
                frame(HEADERS, END_HEADERS | PADDED, 1, &[]),
                size,
            ),
            (
                "HEADERS with more padding than payload (6.2)",
                frame(HEADERS, END_HEADERS | PADDED, 1, &[9; 5]),
                protocol,
            ),
            (
                "DATA with more padding than payload (6.1)",
                after_a_call(frame(DATA, PADDED, 1, &[9; 5])),
                protocol,
            ),
        ] {
            assert_answer(arena, name, &bytes, answer).await;
        }
    });
}

/// What an endpoint must ignore (4.1, 5.1, 5.5).
#[test]
fn what_must_be_ignored_is_ignored() {
    attacked(async |arena| {
        for (name, bytes) in [
            ("an unknown frame", frame(UNKNOWN, 0xff, 9, &[0; 16_384])),
            (
                "flags that have no meaning",
                frame(PING, 0xfe, 0, b"flagged!"),
            ),
            (
                "the reserved bit",
                frame(WINDOW_UPDATE, 0, 1 << 31, &[0, 0, 0, 1]),
            ),
            (
                "PRIORITY of an idle stream",
                frame(PRIORITY, 0, 9, &[0, 0, 0, 1, 0]),
            ),
            (
                "WINDOW_UPDATE of a closed stream",
                [watch(1), reset(1), window_update(1, 1)].concat(),
            ),
            (
                "RST_STREAM of a closed stream",
                [watch(1), reset(1), reset(1)].concat(),
            ),
            ("an answer to no PING", frame(PING, 1, 0, b"answered")),
        ] {
            assert_answer(arena, name, &bytes, Answer::Nothing).await;
        }
    });
}
