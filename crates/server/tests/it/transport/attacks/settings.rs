//! SETTINGS that a peer must not send, and lawful ones sent to make work (RFC 9113, 6.5 and 6.9.2).

use std::time::Duration;

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    ACK, END_STREAM, PING, SETTINGS, WINDOW_INITIAL, WINDOW_MAX, frame, initial_window,
    window_update,
};

use super::{
    Answer, CHECK, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR,
    SETTINGS_TIMEOUT, STREAMS_MAX, WATCH, assert_answer, attacked, call, flood, headers, scale,
    streams, watch,
};
use crate::transport::support::pass;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER_TABLE_SIZE: u16 = 0x01;
const ENABLE_PUSH: u16 = 0x02;
const INITIAL_WINDOW_SIZE: u16 = 0x04;
const MAX_FRAME_SIZE: u16 = 0x05;
/// Settings that fit into one frame.
const SETTINGS_A_FRAME: usize = 16_384 / 6;

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn settings(settings: &[Vec<u8>]) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &settings.concat())
}

#[test]
fn values_that_a_setting_must_not_have_end_the_connection() {
    attacked(async |arena| {
        let one = |id, value| settings(&[setting(id, value)]);
        for (name, bytes, code) in [
            (
                "a window of 2^31",
                one(INITIAL_WINDOW_SIZE, WINDOW_MAX + 1),
                FLOW_CONTROL_ERROR,
            ),
            (
                "a window of 2^32-1",
                one(INITIAL_WINDOW_SIZE, u32::MAX),
                FLOW_CONTROL_ERROR,
            ),
            ("frames of 0", one(MAX_FRAME_SIZE, 0), PROTOCOL_ERROR),
            (
                "frames of 2^14-1",
                one(MAX_FRAME_SIZE, 16_383),
                PROTOCOL_ERROR,
            ),
            (
                "frames of 2^24",
                one(MAX_FRAME_SIZE, 1 << 24),
                PROTOCOL_ERROR,
            ),
            ("push of 2", one(ENABLE_PUSH, 2), PROTOCOL_ERROR),
            (
                "a setting that is not whole",
                frame(SETTINGS, 0, 0, &[0; 7]),
                FRAME_SIZE_ERROR,
            ),
            (
                "an ACK with settings",
                frame(SETTINGS, ACK, 0, &[0; 6]),
                FRAME_SIZE_ERROR,
            ),
            (
                "SETTINGS of a stream",
                frame(SETTINGS, 0, 1, &[]),
                PROTOCOL_ERROR,
            ),
            (
                "a window over 2^31-1 by what was added",
                [
                    call(1, WATCH),
                    window_update(1, 1),
                    one(INITIAL_WINDOW_SIZE, WINDOW_MAX),
                ]
                .concat(),
                FLOW_CONTROL_ERROR,
            ),
        ] {
            assert_answer(arena, name, &bytes, Answer::GoAway(code)).await;
        }
    });
}

#[test]
fn the_first_frame_is_settings_and_its_answer_is_waited_for() {
    attacked(async |arena| {
        let mut attacker = Attacker::connect(arena.address()).await;
        let ping = frame(PING, 0, 0, &[0; 8]);
        attacker.send(&[PREFACE, &ping].concat()).await;
        assert_eq!(attacker.end().await, Some(PROTOCOL_ERROR));

        let mut attacker = Attacker::connect(arena.address()).await;
        attacker.send(&[PREFACE, &initial_window(9)].concat()).await;
        assert!(attacker.is_taken().await);
        pass(Duration::from_secs(11)).await;
        assert_eq!(attacker.end().await, Some(SETTINGS_TIMEOUT));
    });
}

#[test]
fn windows_of_0_and_2_31_minus_1_are_kept_to() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        attacker.send(&initial_window(0)).await;
        // Heads need no window, and nothing else comes.
        for stream in streams(100) {
            attacker.send(&watch(stream)).await;
        }
        assert!(attacker.is_answered(100).await);
        attacker.send(&initial_window(WINDOW_MAX)).await;
        attacker
            .send(&window_update(0, WINDOW_MAX - WINDOW_INITIAL))
            .await;
        assert!(attacker.is_taken().await);
        attacker.send(&window_update(0, WINDOW_INITIAL)).await;
        assert_eq!(attacker.end().await, Some(FLOW_CONTROL_ERROR));
    });
}

/// Each change moves the windows of all streams, and each rise lets all of them send.
#[test]
fn a_window_that_goes_up_and_down_over_a_thousand_streams_is_cut() {
    attacked(async |arena| {
        for waiting in [false, true] {
            let mut attacker = Attacker::hello(arena.address()).await;
            if waiting {
                attacker.send(&initial_window(0)).await;
            }
            for stream in streams(1_000) {
                attacker.send(&watch(stream)).await;
            }
            assert!(attacker.is_answered(1_000).await);
            let both = [initial_window(0), initial_window(1)].concat();
            let (code, _) = flood(arena, &mut attacker, |_| both.clone()).await;
            assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{waiting}");
        }
    });
}

/// One frame has room for 2,730 changes.
#[test]
fn settings_that_change_again_and_again_in_one_frame_are_all_applied() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        for stream in streams(STREAMS_MAX) {
            attacker.send(&watch(stream)).await;
        }
        assert!(attacker.is_answered(STREAMS_MAX.into()).await);
        for id in [INITIAL_WINDOW_SIZE, HEADER_TABLE_SIZE, 0xff] {
            let changes: Vec<_> = (0..SETTINGS_A_FRAME)
                .map(|number| setting(id, if number % 2 == 0 { 0 } else { WINDOW_MAX }))
                .collect();
            for _ in 0..50 * scale() {
                assert!(attacker.send(&settings(&changes)).await);
            }
        }
        assert!(attacker.is_taken().await);
    });
}

/// The server's header compression keeps no table, so its size says nothing.
#[test]
fn the_size_of_the_peers_table_changes_nothing() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        let sizes = [0, 1, u32::MAX, 4_096, 1 << 30, 0];
        for (number, stream) in streams(600).enumerate() {
            let size = setting(HEADER_TABLE_SIZE, sizes[number % sizes.len()]);
            assert!(attacker.send(&settings(&[size])).await);
            let check = headers(stream, END_STREAM, &Block::grpc(CHECK));
            assert!(attacker.send(&check).await);
        }
        assert!(attacker.is_answered(600).await);
    });
}
