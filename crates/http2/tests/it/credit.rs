//! Credit for the peer's DATA (RFC 9113, 5.2 and 6.9): all of it comes back, for every octet that counts.

use longlived_http2::{Config, ErrorCode};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::server::{Said, Server, Take};
use crate::wire::{self, PADDED, WINDOW, block, post};

const FLOW: u32 = ErrorCode::FLOW_CONTROL_ERROR.0;

/// The increments of WINDOW_UPDATE for a stream, or for the connection.
fn updates(server: &mut Server, id: u32) -> Vec<u32> {
    let frames = server.take_frames();
    let updates = frames
        .iter()
        .filter(|it| it.kind == wire::WINDOW_UPDATE && it.stream == id);
    updates.map(|it| it.number(0)).collect()
}

#[test]
fn the_connections_window_is_widened_at_the_begin() {
    let mut server = Server::new(Config {
        connection_window: 1_000_000,
        ..Config::default()
    });
    server.send(&wire::begin());
    assert_eq!(updates(&mut server, 0), [1_000_000 - WINDOW]);
    // All of it can be used.
    server
        .connection
        .hold_connection_credit(true, &mut server.out);
    server.send(&wire::headers(1, &post(&[]), false));
    for _ in 0..100 {
        server.send(&wire::data(1, &[0; 10_000], false));
    }
    assert_eq!(server.error, None);
    server.send(&wire::data(1, &[0], false));
    assert_eq!(server.peer.failed(), Some(FLOW));
}

#[test]
fn credit_of_the_connection_comes_back_at_receipt_and_of_a_stream_when_it_is_taken() {
    let mut server = Server::begun(Config {
        stream_window: 40_000,
        ..Config::default()
    });
    server.take = Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::data(1, &[0; 16_000], false));
    assert_eq!(updates(&mut server, 0), []);
    server.send(&wire::data(1, &[0; 16_384], false));
    server.send(&wire::data(1, &[0; 384], false));
    assert_eq!(updates(&mut server, 0), [32_768], "half of the window");
    let slot = server.slot(1);
    server.connection.taken(slot, 19_999, &mut server.out);
    server.flush();
    assert_eq!(updates(&mut server, 1), []);
    server.connection.taken(slot, 1, &mut server.out);
    server.flush();
    assert_eq!(updates(&mut server, 1), [20_000]);
    // A call that takes nothing stops its own stream and no other.
    server.send(&wire::data(1, &[0; 16_000], false));
    server.send(&wire::headers(3, &post(&[]), false));
    assert_eq!(server.peer.stream_credit(3), 40_000);
}

#[test]
fn credit_comes_back_no_later_than_at_a_window_of_zero() {
    let mut server = Server::begun(Config {
        stream_window: 1_000,
        ..Config::default()
    });
    server.take = Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::data(1, &[0; 1_000], false));
    let slot = server.slot(1);
    server.connection.taken(slot, 1, &mut server.out);
    server.flush();
    assert_eq!(updates(&mut server, 1), [1]);
}

#[test]
fn padding_counts_and_comes_back() {
    let mut server = Server::begun(Config {
        stream_window: 1_000,
        ..Config::default()
    });
    server.take = Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    for _ in 0..100 {
        server.send(&wire::frame(wire::DATA, PADDED, 1, &wire::padded(b"", 199)));
    }
    assert_eq!(server.error, None);
    assert_eq!(server.connection.open_streams(), 1);
    assert!(server.peer.stream_credit(1) > 500);
    // Content and padding: only the padding, and the octet of its length, come back by themselves.
    for _ in 0..5 {
        server.send(&wire::frame(
            wire::DATA,
            PADDED,
            1,
            &wire::padded(&[0; 50], 149),
        ));
    }
    let slot = server.slot(1);
    server.connection.taken(slot, 250, &mut server.out);
    server.flush();
    server.send(&wire::data(1, &vec![0; server.peer.may_send(1)], false));
    server.connection.taken(
        slot,
        server.connection.value(slot).untaken - 250,
        &mut server.out,
    );
    server.flush();
    assert_eq!(server.peer.stream_credit(1), 1_000);
}

#[test]
fn content_over_a_window_is_an_error_of_what_the_window_belongs_to() {
    let mut server = Server::begun(Config {
        stream_window: 100,
        ..Config::default()
    });
    server.take = Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::data(1, &[0; 100], false));
    server.take_said();
    server.send(&wire::data(1, b"", false));
    assert_eq!(server.take_said(), []);
    server.send(&wire::data(1, b"x", false));
    assert_eq!(server.take_said(), [Said::Failed(1, FLOW)]);
    // The connection: it is held back, so that it can be used up.
    server
        .connection
        .hold_connection_credit(true, &mut server.out);
    server.send(&wire::headers(3, &post(&[]), false));
    server.reset(3, 8);
    while server.peer.connection_credit() > 0 {
        let n = server.peer.connection_credit().min(16_000).unsigned_abs();
        server.send(&wire::data(3, &vec![0; n as usize], false));
    }
    assert_eq!(server.error, None);
    server.send(&wire::data(3, b"", false));
    assert_eq!(server.error, None);
    server.send(&wire::data(3, b"x", false));
    assert_eq!(server.peer.failed(), Some(FLOW));
}

#[test]
fn padding_over_a_window_is_an_error_too() {
    let padded = |id, content, padding| {
        let payload = wire::padded(&vec![0; content], padding);
        wire::frame(wire::DATA, PADDED, id, &payload)
    };
    let mut server = Server::begun(Config {
        stream_window: 200,
        ..Config::default()
    });
    server.take = Take::Never;
    for id in [1, 3] {
        server.send(&wire::headers(id, &post(&[]), false));
    }
    server.send(&padded(1, 149, 50));
    assert_eq!(server.connection.open_streams(), 2);
    server.take_said();
    server.send(&padded(3, 149, 51));
    assert_eq!(server.take_said(), [Said::Failed(3, FLOW)]);
    // The connection.
    server
        .connection
        .hold_connection_credit(true, &mut server.out);
    while server.peer.connection_credit() > 256 {
        server.send(&padded(3, 0, 255));
    }
    let left = server.peer.connection_credit().unsigned_abs() as u8;
    assert_eq!(server.error, None);
    server.send(&padded(3, 0, left));
    assert_eq!(server.peer.failed(), Some(FLOW));
}

#[test]
fn credit_that_is_held_back_comes_back_at_once() {
    let mut server = Server::usual();
    server
        .connection
        .hold_connection_credit(true, &mut server.out);
    server.send(&wire::headers(1, &post(&[]), false));
    for _ in 0..3 {
        server.send(&wire::data(1, &[0; 16_384], false));
    }
    assert_eq!(updates(&mut server, 0), []);
    server
        .connection
        .hold_connection_credit(false, &mut server.out);
    server.flush();
    assert_eq!(updates(&mut server, 0), [3 * 16_384]);
}

#[test]
fn a_request_that_has_ended_gets_no_credit() {
    let ends: [fn(&mut Server); 3] = [
        |server| _ = server.send(&wire::data(1, &[0; 900], true)),
        |server| {
            server.send(&wire::data(1, &[0; 900], false));
            server.send(&wire::headers(1, &block(&[("x-sum", "1")]), true));
        },
        // The frame that ends it has begun.
        |server| {
            let last = wire::data(1, &[0; 900], true);
            server.send(&last[..500]);
        },
    ];
    for end in ends {
        let mut server = Server::begun(Config {
            stream_window: 1_000,
            ..Config::default()
        });
        server.take = Take::Never;
        server.send(&wire::headers(1, &post(&[]), false));
        end(&mut server);
        let slot = server.slot(1);
        let untaken = server.connection.value(slot).untaken;
        server.connection.taken(slot, untaken, &mut server.out);
        server.flush();
        assert_eq!(updates(&mut server, 1), []);
    }
}

/// A conversation of that number of frames, within the rules but for what closed streams get.
fn run(seed: u64, frames: usize) -> (Server, Config) {
    let rng = &mut SmallRng::seed_from_u64(seed);
    let config = Config {
        stream_window: rng.random_range(2_000..90_000),
        connection_window: rng.random_range(65_535..200_000),
        streams_max: 20,
        ..Config::default()
    };
    let mut server = Server::begun(config.clone());
    // The acknowledgement of the first frames may have come before SETTINGS moved the window.
    let (mut next, mut dead) = (1, Vec::new());
    for _ in 0..frames {
        let open: Vec<u32> = (server.connection.slots())
            .map(|slot| server.connection.stream_id(slot))
            .collect();
        let id = open.get(rng.random_range(0..open.len().max(1))).copied();
        match (rng.random_range(0..20), id) {
            (0..4, _) | (_, None) => {
                server.send(&wire::headers(next, &post(&[]), false));
                if !server.peer.is_sending(next) {
                    dead.push(next);
                }
                next += 2;
            }
            (4..15, Some(id)) if server.peer.is_sending(id) => {
                send_content(&mut server, rng, id);
            }
            (15, Some(id)) => {
                server.send(&wire::rst_stream(id, 8));
            }
            (16, Some(id)) if server.peer.is_sending(id) => {
                server.reset(id, 8);
                dead.push(id);
            }
            (17, Some(id)) if server.peer.is_sending(id) => {
                server.answer(id);
                dead.push(id);
            }
            (18, Some(id)) if !server.peer.is_sending(id) => server.answer(id),
            // What the server has reset: the peer does not know it yet.
            _ => {
                let id = dead
                    .last()
                    .copied()
                    .filter(|_| server.peer.connection_credit() > 5_000);
                if let Some(id) = id {
                    server.send(&wire::data(id, &[0; 5_000], false));
                }
            }
        }
    }
    (server, config)
}

fn send_content(server: &mut Server, rng: &mut SmallRng, id: u32) {
    let most = server.peer.may_send(id).min(wire::FRAME);
    assert!(most > 0, "everything is taken, so there is credit");
    let size = rng.random_range(0..=most);
    let end = u8::from(rng.random_bool(0.1));
    if size > 0 && rng.random_bool(0.4) {
        let padding = rng.random_range(0..size.min(256));
        let content = vec![0; size - 1 - padding];
        let payload = wire::padded(&content, padding as u8);
        server.send(&wire::frame(wire::DATA, PADDED | end, id, &payload));
    } else {
        server.send(&wire::frame(wire::DATA, end, id, &vec![0; size]));
    }
}

#[test]
fn after_ten_thousand_frames_all_credit_is_back_and_nothing_is_held() {
    for seed in 0..4 {
        let (mut server, config) = run(seed, 10_000);
        assert_eq!(server.error, None);
        // Streams that are still under way, and one more: when credit comes, all of it does.
        let last = 1_000_001;
        server.send(&wire::rst_stream(first_open(&server), 8));
        server.send(&wire::headers(last, &post(&[]), false));
        let open: Vec<_> = (server.connection.slots())
            .map(|slot| server.connection.stream_id(slot))
            .collect();
        for id in &open {
            if server.peer.is_sending(*id) {
                until_credit(&mut server, *id, *id);
                let window = i64::from(config.stream_window);
                assert_eq!(server.peer.stream_credit(*id), window, "stream {id}");
            }
        }
        for _ in 0..2 {
            until_credit(&mut server, last, 0);
            let window = i64::from(config.connection_window);
            assert_eq!(server.peer.connection_credit(), window);
        }
        for id in open {
            server.reset(id, 8);
        }
        let held = server.connection.held();
        assert_eq!(server.connection.open_streams(), 0);
        let rest = held.total() - held.header_table;
        assert!(rest <= 160, "{held:?}");
    }
}

fn first_open(server: &Server) -> u32 {
    let slot = server.connection.slots().next().expect("an open stream");
    server.connection.stream_id(slot)
}

/// Content until a WINDOW_UPDATE comes for this stream, or for the connection.
#[track_caller]
fn until_credit(server: &mut Server, stream: u32, of: u32) {
    server.take_frames();
    for _ in 0..10_000 {
        let n = server.peer.may_send(stream).min(100);
        assert!(n > 0, "no credit");
        server.send(&wire::data(stream, &vec![0; n], false));
        if !updates(server, of).is_empty() {
            return;
        }
    }
    panic!("no credit came back");
}
