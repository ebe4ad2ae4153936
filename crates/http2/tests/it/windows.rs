//! The windows for what the server sends (RFC 9113, 6.9): the judge sees to it that none is passed.

use longlived_http2::ErrorCode;

use crate::server::{Said, Server};
use crate::wire::{self, INITIAL_WINDOW_SIZE, WINDOW_MAX, post};

const FLOW: u32 = ErrorCode::FLOW_CONTROL_ERROR.0;
const PROTOCOL: u32 = ErrorCode::PROTOCOL_ERROR.0;

fn with_streams(ids: &[u32]) -> Server {
    let mut server = Server::usual();
    for id in ids {
        server.send(&wire::headers(*id, &post(&[]), true));
        server.respond(*id, false);
    }
    server.take_said();
    server.take_frames();
    server
}

fn initial(window: u32) -> Vec<u8> {
    wire::settings(&[(INITIAL_WINDOW_SIZE, window)])
}

#[test]
fn a_stream_sends_until_its_window_is_empty_and_goes_on_when_it_is_not() {
    let mut server = with_streams(&[1]);
    server.send(&initial(10));
    assert_eq!(server.data(1, &[1; 25], true), 10);
    assert_eq!(server.data(1, &[1; 15], true), 0);
    assert_eq!(server.writable(), []);
    server.send(&wire::window_update(1, 5));
    assert_eq!(server.writable(), [1]);
    assert_eq!(server.writable(), [], "once");
    assert_eq!(server.data(1, &[1; 15], true), 5);
    server.send(&wire::window_update(1, 100));
    assert_eq!(server.writable(), [1]);
    assert_eq!(server.data(1, &[1; 10], true), 10);
    server.close(1);
}

#[test]
fn a_stream_that_sends_piece_by_piece_stops_when_its_window_is_empty() {
    let mut server = with_streams(&[1]);
    server.send(&initial(10));
    for _ in 0..2 {
        assert_eq!(server.data(1, &[1; 5], false), 5);
    }
    assert_eq!(server.data(1, &[1; 5], false), 0);
    assert_eq!(server.connection.connection_send_window(), 65_535 - 10);
}

#[test]
fn streams_share_the_window_of_the_connection_in_turns() {
    let mut server = with_streams(&[1, 3, 5]);
    server.send(&initial(1_000_000));
    assert_eq!(server.data(3, &vec![0; 70_000], true), 65_535);
    assert_eq!(server.data(1, b"waits", true), 0);
    assert_eq!(server.data(5, b"waits", true), 0);
    assert_eq!(server.connection.connection_send_window(), 0);
    assert_eq!(server.writable(), []);
    server.send(&wire::window_update(0, 10));
    // The one that has waited longest comes first.
    let next = server.connection.next_writable().unwrap();
    assert_eq!(server.connection.stream_id(next), 3);
    assert_eq!(server.data(3, &[0; 4_465], true), 10);
    assert_eq!(server.writable(), [], "the window is used up");
    server.send(&wire::window_update(0, 100_000));
    assert_eq!(server.writable(), [1, 5, 3]);
}

#[test]
fn a_stream_that_waits_and_is_closed_is_not_named() {
    let mut server = with_streams(&[1, 3, 5]);
    server.send(&initial(0));
    for id in [1, 3, 5] {
        assert_eq!(server.data(id, b"waits", true), 0);
    }
    server.send(&wire::rst_stream(3, 8));
    server.send(&initial(5));
    server.reset(1, 8);
    assert_eq!(server.writable(), [5]);
    assert_eq!(server.data(5, b"waits", true), 5);
}

#[test]
fn the_end_needs_no_window() {
    let mut server = with_streams(&[1]);
    server.send(&initial(5));
    assert_eq!(server.data(1, b"12345", false), 5);
    server.send(&initial(0));
    assert_eq!(server.data(1, b"", true), 0);
    assert!(server.peer.has_response(1));
}

#[test]
fn the_initial_window_moves_all_windows_also_below_zero() {
    let mut server = with_streams(&[1, 3]);
    server.send(&initial(100));
    assert_eq!(server.data(1, &[0; 1_000], false), 100);
    server.send(&initial(40));
    assert_eq!(server.peer.server_window(1), -60);
    assert_eq!(server.connection.send_window(server.slot(1)), 0);
    assert_eq!(server.data(1, &[0; 900], false), 0);
    assert_eq!(server.data(3, &[0; 900], false), 40);
    server.send(&wire::window_update(1, 60));
    assert_eq!(server.writable(), [], "the window is 0 (6.9.2)");
    server.send(&wire::window_update(1, 1));
    assert_eq!(server.writable(), [1]);
    assert_eq!(server.data(1, &[0; 900], false), 1);
    server.send(&initial(42));
    assert_eq!(server.writable(), [3, 1]);
    assert_eq!(server.data(1, &[0; 900], false), 2);
    // A stream that is opened now has the window of now.
    server.send(&wire::headers(5, &post(&[]), true));
    server.respond(5, false);
    assert_eq!(server.data(5, &[0; 900], false), 42);
}

#[test]
fn up_and_down_between_two_looks_names_a_stream_only_if_it_may_send() {
    let mut server = with_streams(&[1]);
    server.send(&initial(0));
    assert_eq!(server.data(1, b"x", false), 0);
    server.send(&initial(9));
    server.send(&initial(0));
    assert_eq!(server.writable(), []);
    server.send(&initial(9));
    assert_eq!(server.writable(), [1]);
    assert_eq!(server.data(1, b"x", false), 1);
}

#[test]
fn the_widest_windows_are_right_and_wider_ones_are_errors() {
    // The connection.
    let mut server = with_streams(&[1]);
    server.send(&wire::window_update(0, WINDOW_MAX - 65_535));
    assert_eq!(server.error, None);
    server.send(&wire::window_update(0, 1));
    assert_eq!(server.peer.failed(), Some(FLOW));
    // A stream.
    let mut server = with_streams(&[1, 3]);
    server.send(&wire::window_update(1, WINDOW_MAX - 65_535));
    server.take_said();
    server.send(&wire::window_update(1, 1));
    assert_eq!(server.take_said(), [Said::Failed(1, FLOW)]);
    assert_eq!(server.error, None);
    // All streams.
    server.send(&wire::window_update(3, 1));
    server.send(&initial(WINDOW_MAX - 1));
    assert_eq!(server.error, None);
    server.send(&initial(WINDOW_MAX));
    assert_eq!(server.peer.failed(), Some(FLOW));
}

#[test]
fn an_overflow_counts_only_streams_that_are_open() {
    let mut server = with_streams(&[1, 3]);
    server.send(&wire::window_update(1, 100_000));
    server.send(&wire::rst_stream(1, 8));
    server.send(&initial(WINDOW_MAX));
    assert_eq!(server.error, None);
    // What was sent makes room again.
    server.send(&initial(10));
    assert_eq!(server.data(3, &[0; 10], false), 10);
    server.send(&wire::window_update(3, 10));
    server.send(&initial(WINDOW_MAX));
    assert_eq!(server.error, None);
    server.send(&wire::window_update(3, 1));
    assert_eq!(server.said.last(), Some(&Said::Failed(3, FLOW)));
}

#[test]
fn an_increment_of_zero_is_an_error() {
    let mut server = with_streams(&[1]);
    server.send(&wire::window_update(1, 0));
    assert_eq!(server.take_said(), [Said::Failed(1, PROTOCOL)]);
    server.send(&wire::window_update(0, 0));
    assert_eq!(server.peer.failed(), Some(PROTOCOL));
}

#[test]
fn a_thousand_streams_that_wait_are_each_named_once() {
    let ids: Vec<u32> = (1..200).step_by(2).collect();
    let mut server = with_streams(&ids);
    server.send(&initial(0));
    for id in &ids {
        assert_eq!(server.data(*id, b"12", false), 0);
    }
    for _ in 0..2 {
        server.send(&initial(1));
        server.send(&initial(0));
    }
    assert_eq!(server.writable(), []);
    server.send(&initial(1));
    assert_eq!(server.writable(), ids);
}
