//! The end of a connection (RFC 9113, 6.8), and a connection that is asked for more answers than it may keep.

use std::time::Duration;

use longlived_http2::{CONTROL_BYTES_MAX, Config, ErrorCode, GO_AWAY_PING};

use crate::server::{Said, Server};
use crate::wire::{self, WINDOW_MAX, post};

fn announced() -> Server {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.connection.go_away(server.now, &mut server.out);
    server.flush();
    assert_eq!(server.peer.go_aways, [(WINDOW_MAX, 0)]);
    assert_eq!(server.peer.server_pings, [GO_AWAY_PING]);
    server
}

#[test]
fn the_last_stream_is_said_when_the_ping_is_answered() {
    let mut server = announced();
    // What was on its way is taken.
    server.send(&wire::headers(3, &post(&[]), false));
    assert!(!server.connection.is_last_stream_said());
    server.send(&wire::pong(*b"another "));
    assert!(!server.connection.is_last_stream_said());
    server.send(&wire::pong(GO_AWAY_PING));
    assert!(server.connection.is_last_stream_said());
    assert_eq!(server.peer.go_aways[1..], [(3, 0)]);
    assert_eq!(server.connection.deadline(), None);
    // Streams above it are ignored; those below go on.
    server.take_said();
    server.send(&wire::headers(5, &post(&[]), false));
    server.send(&wire::data(5, b"content", false));
    server.send(&wire::window_update(5, 9));
    server.send(&wire::rst_stream(5, 8));
    assert_eq!(server.take_said(), []);
    server.send(&wire::data(3, b"content", true));
    assert_eq!(
        server.take_said(),
        [Said::Data(3, b"content".to_vec(), true)]
    );
    server.answer(3);
    server.answer(1);
    assert_eq!(server.connection.open_streams(), 0);
    // Asked again, it says nothing more.
    server.connection.go_away(server.now, &mut server.out);
    server.send(&wire::pong(GO_AWAY_PING));
    server.wait(Duration::from_secs(60));
    assert_eq!(server.peer.go_aways.len(), 2);
}

#[test]
fn the_last_stream_is_said_after_a_second_without_an_answer() {
    let mut server = announced();
    server.wait(Duration::from_millis(999));
    assert!(!server.connection.is_last_stream_said());
    server.wait(Duration::from_millis(1));
    assert_eq!(server.peer.go_aways[1..], [(1, 0)]);
    server.send(&wire::pong(GO_AWAY_PING));
    assert_eq!(server.peer.go_aways.len(), 2);
}

#[test]
fn an_end_before_the_preface_is_said_after_settings() {
    let mut server = Server::new(Config::default());
    server.connection.go_away(server.now, &mut server.out);
    assert!(server.out.is_empty() && server.connection.is_last_stream_said());
    server.send(&wire::begin());
    assert_eq!(server.peer.go_aways, [(0, 0)]);
    server.send(&wire::headers(1, &post(&[]), true));
    assert_eq!(server.take_said(), []);
}

#[test]
fn nobody_is_asked_before_the_preface() {
    let mut server = Server::new(Config::default());
    server.send(&wire::PREFACE[..23]);
    server.connection.ping(*b"too soon", &mut server.out);
    assert!(server.out.is_empty());
    server.send(&wire::PREFACE[23..]);
    server.connection.ping(*b"are you ", &mut server.out);
    server.flush();
    assert_eq!(server.peer.server_pings, [*b"are you "]);
}

#[test]
fn a_stranger_is_told_nothing() {
    let mut server = Server::new(Config::default());
    let error = (server.connection)
        .receive(b"GET / HTTP/1.1", server.now, &mut server.out)
        .unwrap_err();
    server.fail(error);
    assert!(server.peer.inbox.is_empty());
}

#[test]
fn an_error_names_the_highest_stream_that_was_handed_out() {
    let mut server = Server::usual();
    for id in [1, 5] {
        server.send(&wire::headers(id, &post(&[]), true));
    }
    // Malformed, and so never handed out.
    server.send(&wire::headers(7, &wire::block(&[("x-a", "1")]), true));
    server.send(&wire::window_update(0, 0));
    assert_eq!(server.peer.go_aways, [(5, 1)]);
}

#[test]
fn an_orderly_end_names_the_highest_stream_that_was_handed_out() {
    for answered in [true, false] {
        let mut server = announced();
        // Malformed, and so never handed out.
        server.send(&wire::headers(7, &wire::block(&[("x-a", "1")]), true));
        if answered {
            server.send(&wire::pong(GO_AWAY_PING));
        } else {
            server.wait(Duration::from_secs(1));
        }
        server.send(&wire::window_update(0, 0));
        assert_eq!(server.peer.go_aways[1..], [(1, 0), (1, 1)]);
    }
}

#[test]
fn a_request_that_is_not_whole_when_the_last_stream_is_said_is_never_handed_out() {
    let mut server = announced();
    let request = post(&[]);
    let (first, rest) = request.split_at(9);
    server.send(&wire::frame(wire::HEADERS, 0, 3, first));
    server.wait(Duration::from_secs(1));
    assert_eq!(server.peer.go_aways[1..], [(1, 0)]);
    server.take_said();
    // The peer sends it again on another connection.
    server.send(&wire::frame(wire::CONTINUATION, wire::END_HEADERS, 3, rest));
    server.send(&wire::data(3, b"content", true));
    assert_eq!(server.take_said(), []);
    // One that began before goes on.
    server.send(&wire::data(1, b"content", true));
    assert_eq!(
        server.take_said(),
        [Said::Data(1, b"content".to_vec(), true)]
    );
}

#[test]
fn trailers_that_are_not_whole_when_the_last_stream_is_said_are_handed_out() {
    let mut server = announced();
    let trailers = wire::block(&[("x-sum", "1")]);
    let (first, rest) = trailers.split_at(3);
    server.send(&wire::frame(wire::HEADERS, wire::END_STREAM, 1, first));
    server.wait(Duration::from_secs(1));
    server.take_said();
    server.send(&wire::frame(wire::CONTINUATION, wire::END_HEADERS, 1, rest));
    let trailers = "x-sum=1;".to_owned();
    assert_eq!(server.take_said(), [Said::Trailers(1, trailers)]);
}

#[test]
fn an_error_after_the_last_stream_was_said_names_the_same() {
    let mut server = announced();
    server.send(&wire::pong(GO_AWAY_PING));
    server.send(&wire::headers(9, &post(&[]), true));
    server.send(&wire::window_update(0, 0));
    assert_eq!(server.peer.go_aways[1..], [(1, 0), (1, 1)]);
}

#[test]
fn after_an_error_everything_is_taken_and_dropped() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::window_update(0, 0));
    server.take_said();
    for bytes in [wire::ping(*b"late one"), vec![0xff; 50_000], wire::begin()] {
        let received = (server.connection).receive(&bytes, server.now, &mut server.out);
        let received = received.unwrap();
        assert_eq!(received.consumed, bytes.len());
        assert!(received.event.is_none() && received.frame.is_none());
    }
    assert!(server.out.is_empty());
    assert_eq!(server.connection.deadline(), None);
    assert_eq!(server.connection.held().half_frames, 0);
}

#[test]
fn half_a_frame_is_not_kept_after_an_error() {
    let mut server = Server::new(Config::default());
    server.send(&[wire::PREFACE, &wire::settings(&[])].concat());
    server.send(&wire::ping(*b"half of ")[..13]);
    assert!(server.connection.held().half_frames > 0);
    server.wait(Duration::from_secs(10));
    assert_eq!(server.peer.failed(), Some(ErrorCode::SETTINGS_TIMEOUT.0));
    assert_eq!(server.connection.held().half_frames, 0);
}

#[test]
fn the_peers_go_away_and_pongs_are_told() {
    let mut server = Server::usual();
    server.connection.ping(*b"are you ", &mut server.out);
    server.flush();
    assert_eq!(server.peer.server_pings, [*b"are you "]);
    server.send(&wire::pong(*b"are you "));
    server.send(&wire::go_away(0, ErrorCode::ENHANCE_YOUR_CALM.0));
    assert_eq!(
        server.take_said(),
        [Said::Pong(*b"are you "), Said::GoAway(11)]
    );
}

#[test]
fn reading_stops_while_more_answers_wait_than_may() {
    let mut server = Server::usual();
    server.flushes = false;
    let pings: Vec<u8> = (0..2_000_u64)
        .flat_map(|n| wire::ping(n.to_be_bytes()))
        .collect();
    let consumed = server.send(&pings);
    assert!(consumed < pings.len());
    let waiting = server.out.control_bytes();
    assert!(
        waiting > CONTROL_BYTES_MAX && waiting <= CONTROL_BYTES_MAX + 17,
        "{waiting}"
    );
    // Content does not count, and nothing is lost when the socket takes the answers.
    let mut at = consumed;
    while at < pings.len() {
        server.flushes = true;
        server.flush();
        server.flushes = false;
        at += server.send(&pings[at..]);
    }
    server.flushes = true;
    server.flush();
    server.peer.settled();
}

#[test]
fn what_a_socket_did_not_take_is_kept_with_its_connection() {
    let mut server = Server::usual();
    server.flushes = false;
    server.send(&wire::ping(*b"one more"));
    server.out.written(5);
    let (rest, control) = server.out.take_rest();
    assert_eq!((rest.len(), control), (12, 12));
    assert!(server.out.is_empty());
    server.out.put_rest(&rest, control);
    server.judged = rest.len();
    server.send(&wire::ping(*b"and more"));
    assert_eq!(server.out.len(), 29);
    assert_eq!(server.out.control_bytes(), 29);
    assert_eq!(server.out.bytes()[12..], wire::pong(*b"and more"));
}

#[test]
fn content_that_waits_for_the_socket_does_not_stop_reading() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    server.respond(1, false);
    server.flushes = false;
    assert_eq!(server.data(1, &vec![0; 60_000], false), 60_000);
    let ping = wire::ping(*b"go on...");
    assert_eq!(server.send(&ping), ping.len());
}
