//! SETTINGS of both ends (RFC 9113, 6.5), the preface (3.4), and the limit of streams (5.1.2).

use std::time::Duration;

use longlived_http2::{Config, ErrorCode};

use crate::server::{Said, Server};
use crate::wire::{self, PREFACE, field_to_table, post};

const PROTOCOL: u32 = ErrorCode::PROTOCOL_ERROR.0;

#[test]
fn settings_are_sent_when_the_preface_is_certain() {
    let mut server = Server::new(Config::default());
    for (at, byte) in PREFACE.iter().enumerate() {
        assert!(server.peer.inbox.is_empty(), "after {at} bytes");
        server.send(&[*byte]);
    }
    let frames = server.take_frames();
    assert_eq!((frames.len(), frames[0].kind), (1, wire::SETTINGS));
}

#[test]
fn a_stranger_is_turned_away_at_the_first_byte_that_is_wrong() {
    for at in 0..PREFACE.len() {
        let mut server = Server::new(Config::default());
        let mut bytes = PREFACE.to_vec();
        bytes[at] ^= 0x20;
        let mut out = longlived_http2::Output::default();
        let mut receive = |bytes: &[u8]| {
            server
                .connection
                .receive(bytes, server.now, &mut out)
                .map(|it| it.consumed)
        };
        assert_eq!(receive(&bytes[..at]), Ok(at));
        let error = receive(&bytes[at..]).unwrap_err();
        assert_eq!(error.code, ErrorCode::PROTOCOL_ERROR);
        assert!(out.is_empty(), "nothing is said before the preface");
    }
}

#[test]
fn the_first_frame_is_settings() {
    for first in [
        wire::ping(*b"too soon"),
        wire::settings_ack(),
        wire::headers(1, &post(&[]), true),
        wire::window_update(0, 1),
        wire::frame(99, 0, 0, &[]),
    ] {
        let mut server = Server::new(Config::default());
        server.send(PREFACE);
        server.send(&first);
        assert_eq!(server.peer.failed(), Some(PROTOCOL), "type {}", first[3]);
    }
}

#[test]
fn each_settings_frame_is_acknowledged_in_order_with_pings() {
    let mut server = Server::usual();
    for n in 0..3 {
        server.send(&wire::settings(&[(wire::INITIAL_WINDOW_SIZE, n)]));
        server.send(&wire::ping([n as u8; 8]));
    }
    let kinds: Vec<u8> = server.take_frames().iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [wire::SETTINGS, wire::PING].repeat(3));
}

#[test]
fn values_that_a_setting_must_not_have_end_the_connection() {
    let flow = ErrorCode::FLOW_CONTROL_ERROR.0;
    for (id, value, code) in [
        (wire::ENABLE_PUSH, 0, None),
        (wire::ENABLE_PUSH, 1, None),
        (wire::ENABLE_PUSH, 2, Some(PROTOCOL)),
        (wire::INITIAL_WINDOW_SIZE, 0, None),
        (wire::INITIAL_WINDOW_SIZE, 0x7fff_ffff, None),
        (wire::INITIAL_WINDOW_SIZE, 0x8000_0000, Some(flow)),
        (wire::MAX_FRAME_SIZE, 16_383, Some(PROTOCOL)),
        (wire::MAX_FRAME_SIZE, 16_384, None),
        (wire::MAX_FRAME_SIZE, 16_777_215, None),
        (wire::MAX_FRAME_SIZE, 16_777_216, Some(PROTOCOL)),
        (wire::HEADER_TABLE_SIZE, u32::MAX, None),
        (wire::HEADER_TABLE_SIZE, 0, None),
        (wire::MAX_CONCURRENT_STREAMS, 0, None),
        (wire::MAX_HEADER_LIST_SIZE, 0, None),
        (0x0, u32::MAX, None),
        (0xffff, u32::MAX, None),
    ] {
        let mut server = Server::usual();
        server.send(&wire::settings(&[(id, value)]));
        assert_eq!(server.peer.failed(), code, "setting {id}: {value}");
    }
}

#[test]
fn an_initial_window_is_too_wide_also_where_all_streams_have_used_theirs() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    server.respond(1, false);
    assert_eq!(server.data(1, &[0; 100], false), 100);
    server.send(&wire::settings(&[(wire::INITIAL_WINDOW_SIZE, 0x8000_0000)]));
    let code = ErrorCode::FLOW_CONTROL_ERROR.0;
    assert_eq!(server.peer.failed(), Some(code));
}

#[test]
fn of_one_setting_twice_the_last_holds() {
    let mut server = Server::usual();
    server.send(&wire::settings(&[
        (wire::INITIAL_WINDOW_SIZE, 5),
        (wire::INITIAL_WINDOW_SIZE, 7),
    ]));
    server.send(&wire::headers(1, &post(&[]), true));
    server.respond(1, false);
    assert_eq!(server.data(1, &[0; 100], true), 7);
}

#[test]
fn settings_that_are_not_acknowledged_in_time_end_the_connection() {
    let mut server = Server::new(Config::default());
    server.send(&[PREFACE, &wire::settings(&[])].concat());
    let deadline = server.now + Duration::from_secs(10);
    assert_eq!(server.connection.deadline(), Some(deadline));
    server.wait(Duration::from_millis(9_999));
    assert_eq!(server.error, None);
    server.wait(Duration::from_millis(1));
    let code = ErrorCode::SETTINGS_TIMEOUT.0;
    assert_eq!(server.peer.failed(), Some(code));

    let mut server = Server::usual();
    assert_eq!(server.connection.deadline(), None);
    // An acknowledgement that nobody waits for says nothing.
    server.send(&wire::settings_ack());
    assert_eq!(server.error, None);
}

fn narrow(stream_window: u32) -> Server {
    let mut server = Server::new(Config {
        stream_window,
        ..Config::default()
    });
    server.send(&[PREFACE, &wire::settings(&[])].concat());
    server
}

#[test]
fn a_wider_window_holds_from_sending_it() {
    let mut server = Server::new(Config {
        stream_window: 80_000,
        connection_window: 200_000,
        ..Config::default()
    });
    server.take = crate::server::Take::Never;
    server.send(&[PREFACE, &wire::settings(&[])].concat());
    server.send(&wire::headers(1, &post(&[]), false));
    for _ in 0..5 {
        server.send(&wire::data(1, &[0; 16_000], false));
    }
    assert_eq!(server.connection.open_streams(), 1);
    server.send(&wire::settings_ack());
    server.send(&wire::data(1, &[0], false));
    let code = ErrorCode::FLOW_CONTROL_ERROR.0;
    assert_eq!(server.said.last(), Some(&Said::Failed(1, code)));
}

#[test]
fn a_narrower_window_holds_from_its_acknowledgement() {
    let mut server = narrow(1_000);
    server.take = crate::server::Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::data(1, &[0; 1_001], false));
    assert_eq!(server.connection.open_streams(), 1, "it may not know yet");
    server.send(&wire::settings_ack());
    server.send(&wire::headers(3, &post(&[]), false));
    server.send(&wire::data(3, &[0; 1_001], false));
    let code = ErrorCode::FLOW_CONTROL_ERROR.0;
    assert_eq!(server.said.last(), Some(&Said::Failed(3, code)));
    assert_eq!(server.connection.open_streams(), 1);
}

#[test]
fn content_that_came_before_a_narrower_window_is_given_back_after_it() {
    let mut server = narrow(1_000);
    server.take = crate::server::Take::Never;
    server.send(&wire::headers(1, &post(&[]), false));
    for _ in 0..3 {
        server.send(&wire::data(1, &[0; 16_384], false));
    }
    let slot = server.slot(1);
    // All of it is taken before the peer knows the window, and then the window is narrow.
    server.connection.taken(slot, 3 * 16_384, &mut server.out);
    server.flush();
    server.send(&wire::settings_ack());
    assert_eq!(server.peer.stream_credit(1), 1_000);
    server.send(&wire::data(1, &[0; 1_000], false));
    server.connection.taken(slot, 1_000, &mut server.out);
    server.flush();
    assert_eq!(server.peer.stream_credit(1), 1_000);
}

#[test]
fn a_smaller_table_holds_from_its_acknowledgement() {
    let mut server = Server::new(Config {
        header_table_bytes: 0,
        ..Config::default()
    });
    server.send(&[PREFACE, &wire::settings(&[])].concat());
    let mut adding = post(&[]);
    field_to_table(&mut adding, "x-a", "1");
    server.send(&wire::headers(1, &adding, true));
    let mut named = post(&[]);
    named.push(wire::NEWEST);
    server.send(&wire::headers(3, &named, true));
    assert!(matches!(
        server.said[..],
        [Said::Request(..), Said::Request(..)]
    ));
    assert!(server.connection.held().header_table > 0);
    server.send(&wire::settings_ack());
    assert_eq!(server.connection.held().header_table, 0);
    // The peer says so at the begin of its next block (RFC 7541, 4.2).
    let block = [&[0x20][..], &post(&[])].concat();
    server.send(&wire::headers(5, &block, true));
    assert!(matches!(server.said.last(), Some(Said::Request(5, ..))));
    server.send(&wire::headers(7, &named, true));
    let code = ErrorCode::COMPRESSION_ERROR.0;
    assert_eq!(server.peer.failed(), Some(code));
}

#[test]
fn streams_over_the_limit_are_refused_also_before_the_acknowledgement() {
    for acknowledged in [false, true] {
        let mut server = Server::new(Config {
            streams_max: 2,
            ..Config::default()
        });
        server.send(&[PREFACE, &wire::settings(&[])].concat());
        if acknowledged {
            server.send(&wire::settings_ack());
        }
        for id in [1, 3, 5] {
            server.send(&wire::headers(id, &post(&[]), false));
        }
        assert_eq!(server.said.last(), Some(&Said::Refused));
        let refused = ErrorCode::REFUSED_STREAM.0;
        assert_eq!(server.peer.reset_code(5), Some(refused));
        // Its content is dropped; the next stream after one that has ended is taken.
        server.send(&wire::data(5, b"content", true));
        server.send(&wire::rst_stream(1, 8));
        server.send(&wire::headers(7, &post(&[]), true));
        assert!(matches!(server.said.last(), Some(Said::Request(7, ..))));
        assert_eq!(server.connection.open_streams(), 2);
    }
}

#[test]
fn a_caller_that_refuses_says_why() {
    let mut connection = longlived_http2::Connection::<()>::new(Config::default().into());
    let mut out = longlived_http2::Output::default();
    let now = std::time::Instant::now();
    let bytes = [&wire::begin()[..], &wire::headers(1, &post(&[]), true)].concat();
    let mut at = 0;
    let mut refused = false;
    while at < bytes.len() {
        let received = connection.receive(&bytes[at..], now, &mut out).unwrap();
        at += received.consumed;
        if let Some(longlived_http2::Event::Request(_, opening)) = received.event {
            connection.refuse(opening, ErrorCode::REFUSED_STREAM, &mut out);
            refused = true;
        }
    }
    assert!(refused);
    assert_eq!(connection.open_streams(), 0);
    assert!(out.bytes().ends_with(&wire::rst_stream(1, 7)));
}
