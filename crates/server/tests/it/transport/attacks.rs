//! Attacks with frames written by hand, each against a whole node over TCP.
//!
//! Holds, of each: what the node holds grows by no more than the cap of the account; a neighbour on another connection is answered
//! meanwhile and afterwards; afterwards connections, calls, tasks, sockets and memory are as before. Where RFC 9113 demands an answer, it
//! is that one.
//! Does not: repeat what the tests of `longlived-http2` say of each rule; nor measure a neighbour (docs/TESTING.md, "Neighbours").

mod arena;
mod churn;
mod compressed;
mod content;
mod continuation;
mod hpack;
mod illegal;
mod made_you_reset;
mod portions;
mod requests;
mod settings;
mod slow;
mod unread;

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{DATA, END_STREAM, frame};

use self::arena::{Arena, attacked, scale};

/// Error codes of RFC 9113, 7.
const PROTOCOL_ERROR: u32 = 0x01;
const FLOW_CONTROL_ERROR: u32 = 0x03;
const SETTINGS_TIMEOUT: u32 = 0x04;
const STREAM_CLOSED: u32 = 0x05;
const FRAME_SIZE_ERROR: u32 = 0x06;
const REFUSED_STREAM: u32 = 0x07;
const COMPRESSION_ERROR: u32 = 0x09;
const ENHANCE_YOUR_CALM: u32 = 0x0b;

/// Types of frames that have no name in the testkit.
const PRIORITY: u8 = 0x02;
const PUSH_PROMISE: u8 = 0x05;
const UNKNOWN: u8 = 0xfa;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// A gRPC message of no bytes.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// No flood is longer: on a slow machine the levels of floods fall meanwhile.
const ROUNDS_MAX: u32 = 1_000_000;

/// Streams that may be open at once.
const STREAMS_MAX: u32 = 1_024;

/// HEADERS with a whole block.
fn headers(stream: u32, flags: u8, block: &Block) -> Vec<u8> {
    block.headers(stream, flags)
}

/// The field `grpc-status` in a header block of the server, which encodes the name by Huffman's code (RFC 7541, 5.2).
fn grpc_status(code: &str) -> Vec<u8> {
    const NAME: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
    [&NAME[..], &[code.len() as u8], code.as_bytes()].concat()
}

/// A call whose messages are to come.
fn call(stream: u32, path: &str) -> Vec<u8> {
    headers(stream, 0, &Block::grpc(path))
}

/// A call that is answered at once and stays open: the client has said all.
fn watch(stream: u32) -> Vec<u8> {
    let message = frame(DATA, END_STREAM, stream, EMPTY_MESSAGE);
    [call(stream, WATCH), message].concat()
}

/// The streams of a client, from the first on.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// What the server does about some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It ends the connection.
    GoAway(u32),
    /// It resets Stream 1, and the connection goes on.
    Reset(u32),
    /// It takes them, and says nothing of it.
    Nothing,
}

/// Sends round after round until the server ends the connection. The neighbour is answered meanwhile. The code of the GOAWAY, and how
/// many rounds were sent before it.
async fn flood(
    arena: &Arena,
    attacker: &mut Attacker,
    round: impl Fn(u32) -> Vec<u8>,
) -> (Option<u32>, u32) {
    let mut rounds = 0;
    while rounds < ROUNDS_MAX && attacker.send(&round(rounds)).await {
        rounds += 1;
        if rounds == 8 {
            arena.neighbour_is_answered(1).await;
        }
    }
    assert!(rounds < ROUNDS_MAX, "the server never ends it");
    (attacker.end().await, rounds)
}

/// Says hello and these bytes on a connection of its own, and holds the server to its answer.
async fn assert_answer(arena: &Arena, what: &str, bytes: &[u8], answer: Answer) {
    let mut attacker = Attacker::hello(arena.address()).await;
    attacker.send(bytes).await;
    let goes_on = attacker.is_taken().await;
    let answered = match attacker.reset(1) {
        _ if !goes_on => Answer::GoAway(attacker.end().await.expect("a GOAWAY before the end")),
        Some(code) => Answer::Reset(code),
        None => Answer::Nothing,
    };
    assert_eq!(answered, answer, "{what}");
}
