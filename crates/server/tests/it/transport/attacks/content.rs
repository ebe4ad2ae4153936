//! DATA that is small, empty, or of no use (RFC 9113, 6.1).

use longlived_testkit::attacker::Attacker;
use longlived_testkit::frames::{DATA, PADDED, frame};

use super::{ENHANCE_YOUR_CALM, WATCH, attacked, call, flood, scale, streams};

const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";

/// Each octet of a message in a frame of its own: ten on the wire for each that is held.
#[test]
fn a_message_in_frames_of_one_octet_costs_its_octets() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        for stream in streams(8) {
            attacker.send(&call(stream, PUBLISH_STREAM)).await;
            // Of 200,000 octets, which never come whole.
            let prefix = [0, 0, 3, 0x0d, 0x40];
            attacker.send(&frame(DATA, 0, stream, &prefix)).await;
        }
        let round: Vec<u8> = streams(8)
            .flat_map(|stream| frame(DATA, 0, stream, b"x"))
            .collect();
        for _ in 0..5_000 * scale().min(30) {
            assert!(attacker.send(&round).await);
        }
        assert!(attacker.is_taken().await);
        arena.neighbour_is_answered(2).await;
    });
}

#[test]
fn frames_without_content_are_cut() {
    attacked(async |arena| {
        let padded = [&[255][..], &[0; 255]].concat();
        for (name, flags, payload) in [("empty", 0, &[][..]), ("padding alone", PADDED, &padded)] {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker.send(&call(1, PUBLISH_STREAM)).await;
            let empty = frame(DATA, flags, 1, payload);
            let (code, _) = flood(arena, &mut attacker, |_| empty.clone()).await;
            assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{name}");
        }
    });
}

/// The server has refused the stream, and the peer goes on for longer than a client that does not know it yet.
#[test]
fn content_of_a_stream_that_the_server_closed_is_cut() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        attacker.send(&call(1, "/no/Method")).await;
        assert!(attacker.is_answered(1).await);
        let late = frame(DATA, 0, 1, b"x").repeat(100);
        let (code, _) = flood(arena, &mut attacker, |_| late.clone()).await;
        assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    });
}

/// Every stream has begun a message; the server holds what has come.
#[test]
fn messages_that_are_never_whole_are_held_within_the_cap() {
    attacked(async |arena| {
        let mut attackers = Vec::new();
        for _ in 0..8 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            for stream in streams(64) {
                let mut bytes = call(stream, WATCH);
                // Of 100,000 octets.
                bytes.extend(frame(DATA, 0, stream, &[0, 0, 1, 0x86, 0xa0]));
                for _ in 0..6 {
                    bytes.extend(frame(DATA, 0, stream, &[b'x'; 16_384]));
                }
                if !attacker.send(&bytes).await {
                    break;
                }
            }
            attackers.push(attacker);
        }
        arena.neighbour_is_answered(2).await;
    });
}
