//! Peers that drip: each octet comes alone, and the last never.

use std::time::Duration;

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{END_STREAM, WINDOW_INITIAL, hello};

use super::{Arena, CHECK, ENHANCE_YOUR_CALM, attacked, headers};
use crate::transport::support::pass;

/// Between two octets.
const DRIP: Duration = Duration::from_millis(400);
/// A preface, and a header block, must have come whole within it (`HANDSHAKE_TIMEOUT`, `HEADER_BLOCK_TIMEOUT`).
const LIMIT: Duration = Duration::from_secs(10);

/// Drips octets until the server has ended the connection, or there are no more. How long that took.
async fn drip(arena: &Arena, attacker: &mut Attacker, octets: &[u8]) -> Duration {
    let mut passed = Duration::ZERO;
    for octet in octets {
        if !attacker.send(&[*octet]).await {
            break;
        }
        // It is read before the time passes.
        arena.neighbour_is_answered(1).await;
        pass(DRIP).await;
        passed += DRIP;
    }
    passed
}

#[test]
fn a_preface_that_drips_is_not_waited_for() {
    attacked(async |arena| {
        let mut silent = Attacker::connect(arena.address()).await;
        let mut attacker = Attacker::connect(arena.address()).await;
        let passed = drip(arena, &mut attacker, &hello(WINDOW_INITIAL)).await;
        assert!(passed <= LIMIT + 2 * DRIP, "{passed:?}");
        assert_eq!(attacker.end().await, None, "a stranger is told nothing");
        assert_eq!(silent.end().await, None);
    });
}

/// The preface is whole, and the frame that belongs to it is not.
#[test]
fn first_settings_that_drip_are_not_waited_for() {
    attacked(async |arena| {
        let hello = hello(WINDOW_INITIAL);
        let mut attacker = Attacker::connect(arena.address()).await;
        attacker.send(&hello[..24]).await;
        let endless = [&[0, 0x3f, 0xff, 4, 0, 0, 0, 0, 0][..], &[0; 100]].concat();
        let passed = drip(arena, &mut attacker, &endless).await;
        assert!(passed <= LIMIT + 2 * DRIP, "{passed:?}");
        attacker.end().await;
    });
}

#[test]
fn headers_that_drip_are_not_waited_for() {
    attacked(async |arena| {
        let block = Block::grpc(CHECK).field("x", "y".repeat(100));
        let whole = headers(1, END_STREAM, &block);
        // From the head of the frame on, and from its payload on.
        for at_once in [1, 9, 40] {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker.is_taken().await;
            attacker.send(&whole[..at_once]).await;
            let passed = drip(arena, &mut attacker, &whole[at_once..]).await;
            assert!(passed <= LIMIT + 2 * DRIP, "{passed:?}");
            assert_eq!(attacker.end().await, Some(ENHANCE_YOUR_CALM));
        }
    });
}
