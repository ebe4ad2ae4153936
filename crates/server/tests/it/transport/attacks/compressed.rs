//! First messages that are small and become large: at a node that takes them from everybody, and at one that asks who calls first.

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, END_STREAM, frame};

use super::arena::{Arena, attacked, attacked_by, scale};
use super::{headers, streams};

/// What a message becomes: four times what a node may hold for all peers here.
const BECOMES_BYTES: usize = 256 << 20;
/// Calls of a connection.
const CALLS: u32 = 20;
/// Turns of the neighbour, in which the node has looked at everything.
const TURNS: u64 = 20;
const PATHS: [&str; 4] = [
    "/longlived.v1.SubscriptionService/Subscribe",
    "/longlived.v1.SubscriptionService/Session",
    "/longlived.v1.PublishService/Publish",
    "/longlived.v1.PublishService/PublishStream",
];
/// Nobody has a right, or can prove anything.
const RULES: &str = "";

/// A message of zeros, as gRPC frames a compressed one.
fn bomb() -> Vec<u8> {
    let mut compressed = zstd::Encoder::new(Vec::new(), 1).expect("a level");
    let mut zeros = std::io::Read::take(std::io::repeat(0), BECOMES_BYTES as u64);
    std::io::copy(&mut zeros, &mut compressed).expect("memory");
    let compressed = compressed.finish().expect("memory");
    assert!(compressed.len() * 1_000 < BECOMES_BYTES);
    let length = u32::try_from(compressed.len()).expect("it is small");
    [&[1][..], &length.to_be_bytes(), &compressed].concat()
}

/// Each call brings one.
async fn bombs(arena: &Arena, bomb: &[u8]) {
    let mut attackers = Vec::new();
    for number in 0..10 * scale() {
        let mut attacker = Attacker::hello(arena.address()).await;
        for stream in streams(CALLS) {
            let path = PATHS[(stream / 2 + number) as usize % PATHS.len()];
            let block = Block::grpc(path).field("grpc-encoding", "zstd");
            let mut call = headers(stream, 0, &block);
            for part in bomb.chunks(16_384) {
                call.extend(frame(DATA, 0, stream, part));
            }
            call.extend(frame(DATA, END_STREAM, stream, b""));
            if !attacker.send(&call).await {
                break;
            }
        }
        attacker.is_taken().await;
        attackers.push(attacker);
        arena.neighbour_is_answered(1).await;
    }
    arena.neighbour_is_answered(TURNS).await;
}

#[test]
fn first_messages_that_become_a_thousand_times_larger_are_not_made_larger_than_their_limit() {
    let bomb = bomb();
    attacked(async |arena| bombs(arena, &bomb).await);
}

#[test]
fn without_a_credential_a_first_message_is_not_looked_at() {
    let bomb = bomb();
    attacked_by(Some(RULES), async |arena| bombs(arena, &bomb).await);
}
