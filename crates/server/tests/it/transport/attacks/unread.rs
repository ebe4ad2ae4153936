//! Peers that ask and never read: the answers fill the socket, and then the server must not read on.

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    DATA, END_STREAM, PING, WINDOW_INITIAL, WINDOW_MAX, frame, initial_window, window_update,
};
use longlived_testkit::grpc::framed;
use longlived_testkit::requests::{earliest, message, request};
use prost::Message;

use super::arena::Arena;
use super::{CHECK, WATCH, attacked, call, headers, scale, streams};

/// Turns of the neighbour without a byte that the kernel takes: the server does not read.
const TURNS: u64 = 20;
/// More than the kernel's buffers take.
const BYTES_MAX: usize = 256 << 20;

const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const PUBLISH: &str = "/longlived.v1.PublishService/Publish";

/// A call with its whole request.
fn asked(stream: u32, path: &str, request: &impl Message) -> Vec<u8> {
    let message = framed(&request.encode_to_vec());
    [
        call(stream, path),
        frame(DATA, END_STREAM, stream, &message),
    ]
    .concat()
}

/// Pushes what `round` gives until the server reads no more, or has ended the connection.
async fn push(arena: &Arena, attacker: &mut Attacker, mut round: impl FnMut(u32) -> Vec<u8>) {
    let (mut pushed, mut number) = (0, 0);
    let mut rest = Vec::new();
    loop {
        if rest.is_empty() {
            rest = round(number);
            number += 1;
        }
        let taken = attacker.push(&rest);
        rest.drain(..taken);
        pushed += taken;
        assert!(pushed < BYTES_MAX, "the server reads on and on");
        if taken == 0 {
            arena.neighbour_is_answered(TURNS).await;
            let taken = attacker.push(&rest);
            rest.drain(..taken);
            pushed += taken;
            if taken == 0 {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn answers_to_pings_and_settings_that_are_not_read_are_bounded() {
    attacked(async |arena| {
        for frames in [
            frame(PING, 0, 0, b"are you?").repeat(50),
            initial_window(9).repeat(50),
        ] {
            let mut attacker = Attacker::hello(arena.address()).await;
            push(arena, &mut attacker, |_| frames.clone()).await;
        }
    });
}

/// Calls allow for a few such frames each.
#[test]
fn answers_to_calls_that_are_not_read_are_bounded() {
    attacked(async |arena| {
        let checks = |number| headers(2 * number + 1, END_STREAM, &Block::grpc(CHECK));
        let unknown = |number| headers(2 * number + 1, END_STREAM, &Block::grpc("/no/Method"));
        let with_pings = |number| {
            let ping = frame(PING, 0, 0, b"are you?").repeat(4);
            [unknown(number), ping].concat()
        };
        let forms: [&dyn Fn(u32) -> Vec<u8>; 3] = [&with_pings, &unknown, &checks];
        // A quarter of a million calls each, until the buffers of both kernels are full.
        for form in forms.into_iter().take(scale() as usize) {
            let mut attacker = Attacker::hello(arena.address()).await;
            push(arena, &mut attacker, form).await;
        }
    });
}

/// Each stream that is open has an answer of its own to wait with.
#[test]
fn open_calls_of_a_peer_that_does_not_read_are_bounded() {
    attacked(async |arena| {
        let mut attackers = Vec::new();
        for _ in 0..4 {
            let mut attacker = Attacker::hello(arena.address()).await;
            let calls: Vec<u8> = streams(1_024)
                .flat_map(|stream| call(stream, WATCH))
                .collect();
            let mut rest = &calls[..];
            while !rest.is_empty() {
                let taken = attacker.push(rest);
                rest = &rest[taken..];
                arena.neighbour_is_answered(1).await;
            }
            attackers.push(attacker);
        }
        arena.neighbour_is_answered(TURNS).await;
    });
}

/// Each reads the history by itself, and its window takes none of an event.
#[test]
fn subscriptions_whose_windows_are_too_small_for_an_event_are_held_within_the_cap() {
    attacked(async |arena| {
        let payload = "x".repeat(1_000);
        let mut publisher = Attacker::hello(arena.address()).await;
        for stream in streams(200) {
            publisher
                .send(&asked(stream, PUBLISH, &message("t", &payload)))
                .await;
        }
        publisher.is_answered(400).await;
        let mut attackers = Vec::new();
        for connection in 0..2 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker
                .send(&window_update(0, WINDOW_MAX - WINDOW_INITIAL))
                .await;
            // Welcome fits, and no event.
            attacker.send(&initial_window(200)).await;
            for stream in streams(1_000) {
                let mut subscribe = request(&format!("{connection}-{stream}"), &["t"]);
                subscribe.start = Some(earliest());
                attacker.send(&asked(stream, SUBSCRIBE, &subscribe)).await;
            }
            attacker.is_answered(1_000).await;
            attackers.push(attacker);
            arena.neighbour_is_answered(TURNS).await;
        }
    });
}

/// Each has an answer with the whole contract in it.
#[test]
fn answers_of_reflection_that_are_not_read_are_held_within_the_cap() {
    attacked(async |arena| {
        // Of `ServerReflectionRequest`: the field `file_containing_symbol`.
        let symbol = b"longlived.v1.SubscriptionService";
        let request = framed(&[&[0x22, symbol.len() as u8], &symbol[..]].concat());
        let mut attackers = Vec::new();
        for _ in 0..4 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker.send(&initial_window(0)).await;
            for stream in streams(1_000) {
                let asked = frame(DATA, 0, stream, &request);
                attacker
                    .send(&[call(stream, REFLECTION), asked].concat())
                    .await;
            }
            attacker.is_taken().await;
            attackers.push(attacker);
            arena.neighbour_is_answered(TURNS).await;
        }
    });
}

/// Each call asks again and again, and takes none of its answers.
#[test]
fn answers_of_reflection_that_follow_one_that_is_not_read_are_not_made() {
    attacked(async |arena| {
        let symbol = b"longlived.v1.SubscriptionService";
        let request = framed(&[&[0x22, symbol.len() as u8], &symbol[..]].concat());
        let mut attackers = Vec::new();
        for _ in 0..4 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker.send(&initial_window(0)).await;
            for stream in streams(1_000) {
                let asked = frame(DATA, 0, stream, &request.repeat(20));
                attacker
                    .send(&[call(stream, REFLECTION), asked].concat())
                    .await;
            }
            attacker.is_taken().await;
            attackers.push(attacker);
            arena.neighbour_is_answered(TURNS).await;
        }
    });
}

/// The answer repeats the question.
#[test]
fn long_symbols_that_reflection_does_not_know_are_held_within_the_cap() {
    attacked(async |arena| {
        let symbol = vec![b'x'; 60_000];
        // The length in base 128, lowest first.
        let length = [
            symbol.len() & 0x7f | 0x80,
            symbol.len() >> 7 & 0x7f | 0x80,
            symbol.len() >> 14,
        ];
        let length = length.map(|septet| septet as u8);
        let request = framed(&[&[0x22], &length[..], &symbol].concat());
        let mut attackers = Vec::new();
        for _ in 0..4 * scale() {
            let mut attacker = Attacker::hello(arena.address()).await;
            attacker.send(&initial_window(0)).await;
            for stream in streams(300) {
                let mut asked = call(stream, REFLECTION);
                for part in request.chunks(16_384) {
                    asked.extend(frame(DATA, 0, stream, part));
                }
                if !attacker.send(&asked).await {
                    break;
                }
            }
            attackers.push(attacker);
            arena.neighbour_is_answered(TURNS).await;
        }
    });
}
