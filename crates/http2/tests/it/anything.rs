//! Whatever a peer sends, and whatever the caller does meanwhile: no panic, no frame that the server must not send, and no
//! more memory than a bound.

use std::time::Duration;

use longlived_http2::{Config, ErrorCode, Slot};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::dialogue::{self, Choices};
use crate::server::{Server, put_data, response, trailers};
use crate::wire;

/// A frame that is not whole is held in twice its size at most.
const HALF_FRAME_MAX: usize = 2 * (9 + wire::FRAME);
/// Of a block, a string that is not whole, in twice its size as it came or as it is decoded, and a list of fields at its
/// limit of 4,096.
const BLOCK_MAX: usize = 2 * 4 * 4_096 + 4_096 + 2_048;
/// The table: 4,096 bytes, and 8 for each entry, in vectors that grow by doubling.
const TABLE_MAX: usize = 4_096 + 2 * 8 * 128;
/// Eight streams, and the streams that were closed last.
const STREAMS_MAX: usize = 4_096;
/// What a connection of these tests may hold.
pub(crate) const HELD_MAX: usize = HALF_FRAME_MAX + BLOCK_MAX + TABLE_MAX + STREAMS_MAX;

fn config(rng: &mut SmallRng) -> Config {
    Config {
        streams_max: 8,
        stream_window: *pick(rng, &[1, 100, 65_535, 200_000]),
        connection_window: *pick(rng, &[65_535, 100_000]),
        header_list_bytes_max: 4_096,
        header_table_bytes: *pick(rng, &[0, 100, 4_096]),
        ..Config::default()
    }
}

fn pick<'a, T>(rng: &mut SmallRng, all: &'a [T]) -> &'a T {
    &all[rng.random_range(0..all.len())]
}

/// One call does something.
fn act(server: &mut Server, rng: &mut SmallRng) {
    let slots: Vec<Slot> = server.connection.slots().collect();
    if slots.is_empty() || server.error.is_some() {
        return;
    }
    let slot = *pick(rng, &slots);
    let (connection, out) = (&mut server.connection, &mut server.out);
    let ended = connection.is_response_ended(slot);
    let call = connection.value_mut(slot);
    match rng.random_range(0..12) {
        0..2 if !call.answered => {
            call.answered = true;
            connection.respond(slot, &response("200"), rng.random_bool(0.2), out);
        }
        2..6 if call.answered && !ended => {
            let bytes = vec![0; rng.random_range(0..40_000)];
            put_data(connection, slot, &bytes, rng.random_bool(0.3), out);
        }
        6 if call.answered && !ended => connection.trailers(slot, &trailers(), out),
        7..9 => {
            let taken = rng.random_range(0..=call.untaken);
            call.untaken -= taken;
            connection.taken(slot, taken, out);
        }
        9 if ended => _ = connection.close(slot, out),
        10 => _ = connection.reset(slot, ErrorCode::CANCEL, out),
        _ => {}
    }
    server.flush();
}

/// Something of the whole connection.
fn disturb(server: &mut Server, rng: &mut SmallRng) {
    let (connection, out) = (&mut server.connection, &mut server.out);
    if server.error.is_some() {
        return;
    }
    match rng.random_range(0..16) {
        0 => connection.hold_connection_credit(rng.random_bool(0.5), out),
        1 if !server.said.is_empty() => connection.ping([7; 8], out),
        2 => connection.go_away(server.now, out),
        3 => server.flushes = false,
        4..8 => {
            server.flushes = true;
        }
        8 => return server.wait(Duration::from_millis(rng.random_range(0..4_000))),
        _ => while connection.next_writable().is_some() {},
    }
    server.flush();
}

/// The peer sends these bytes in pieces of any size, while the calls do anything.
#[track_caller]
pub(crate) fn whatever(bytes: &[u8], seed: u64) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let config = config(rng);
    let window = config.connection_window;
    let mut server = Server::new(config);
    server.take = *pick(
        rng,
        &[crate::server::Take::AtOnce, crate::server::Take::Never],
    );
    let mut rest = bytes;
    while !rest.is_empty() && server.error.is_none() {
        let most = *pick(rng, &[1, 20, 1_000, 100_000]);
        let (piece, _) = rest.split_at(rng.random_range(1..=most).min(rest.len()));
        let consumed = server.send(piece);
        rest = &rest[consumed..];
        if rng.random_bool(0.5) {
            act(&mut server, rng);
        }
        if consumed == 0 || rng.random_bool(0.1) {
            disturb(&mut server, rng);
        }
        let held = server.connection.held();
        assert!(held.total() <= HELD_MAX, "{held:?}");
    }
    empty(&mut server);
    all_credit_is_back(&mut server, window);
}

/// What is not given back to the connection's window is less than half of it, and no more than a frame is on its way.
#[track_caller]
fn all_credit_is_back(server: &mut Server, window: u32) {
    if server.error.is_some() {
        return;
    }
    let (connection, out) = (&mut server.connection, &mut server.out);
    connection.hold_connection_credit(false, out);
    server.flush();
    let lost = i64::from(window) - server.peer.connection_credit();
    let most = i64::from(window / 2) + i64::from(16 * 1024);
    assert!((0..most).contains(&lost), "{lost} of {window}");
}

/// When all streams are closed, nothing is left but the table and the streams that were closed last.
#[track_caller]
fn empty(server: &mut Server) {
    let slots: Vec<Slot> = server.connection.slots().collect();
    for slot in slots {
        if server.error.is_some() {
            // Nothing is sent any more.
            let mut out = longlived_http2::Output::default();
            server.connection.reset(slot, ErrorCode::CANCEL, &mut out);
        } else {
            server
                .connection
                .reset(slot, ErrorCode::CANCEL, &mut server.out);
        }
    }
    server.flushes = true;
    server.flush();
    let held = server.connection.held();
    assert_eq!(server.connection.open_streams(), 0);
    assert!(held.streams <= 200, "{held:?}");
}

/// A conversation with a few octets changed, taken out or put in.
fn mutated(bytes: &mut Vec<u8>, rng: &mut SmallRng) {
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..bytes.len());
        // Behind the preface most of the time: without it nothing is read.
        let at = if at < wire::PREFACE.len() && rng.random_bool(0.9) {
            bytes.len() - 1
        } else {
            at
        };
        match rng.random_range(0..5) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let end = (at + rng.random_range(1..40)).min(bytes.len());
                bytes.drain(at..end);
                bytes.push(0);
            }
            3 => {
                let end = (at + rng.random_range(1..400)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                let into = rng.random_range(at..=bytes.len());
                bytes.splice(into..into, again);
            }
            _ => {
                let some: Vec<u8> = (0..rng.random_range(1..20)).map(|_| rng.random()).collect();
                bytes.splice(at..at, some);
            }
        }
    }
}

/// The input of a seed.
fn input(seed: u64) -> Vec<u8> {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let mut choices = vec![0; rng.random_range(1..200)];
    rng.fill_bytes(&mut choices);
    match rng.random_range(0..10) {
        // Noise behind the first frames.
        0 => [wire::begin(), choices].concat(),
        1..4 => dialogue::frames(&mut Choices(&choices), rng.random_range(1..20)).concat(),
        _ => {
            let mut bytes =
                dialogue::frames(&mut Choices(&choices), rng.random_range(0..20)).concat();
            mutated(&mut bytes, rng);
            bytes
        }
    }
}

/// The rounds of one run: `LONGLIVED_FUZZ_ROUNDS` of them, from `LONGLIVED_FUZZ_SEED` on.
#[test]
fn any_bytes_are_taken_or_refused_lawfully() {
    let number = |name, usual| {
        let given = std::env::var(name).ok();
        given.map_or(usual, |it| it.parse().expect(name))
    };
    let first: u64 = number("LONGLIVED_FUZZ_SEED", 0);
    for seed in first..first + number("LONGLIVED_FUZZ_ROUNDS", 1_500) {
        let bytes = input(seed);
        let run = std::panic::catch_unwind(|| whatever(&bytes, seed));
        if let Err(panic) = run {
            eprintln!("seed {seed}: LONGLIVED_FUZZ_SEED={seed} LONGLIVED_FUZZ_ROUNDS=1 repeats it");
            let file = format!("{}/frames_{seed}.hex", env!("CARGO_TARGET_TMPDIR"));
            std::fs::write(&file, hex(&bytes[wire::PREFACE.len().min(bytes.len())..]))
                .expect("a file");
            eprintln!("its input, for tests/corpus/frames when it is mended: {file}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}
