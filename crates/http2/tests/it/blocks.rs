//! Header blocks in pieces (RFC 9113, 4.3, 6.2 and 6.10), and the table that every block keeps in step.

use std::time::Duration;

use longlived_http2::{Config, ErrorCode};

use crate::server::{Said, Server};
use crate::wire::{self, END_HEADERS, END_STREAM, NEWEST, POST, block, field_to_table, post};

const CALM: u32 = ErrorCode::ENHANCE_YOUR_CALM.0;

/// A request of one HEADERS and many CONTINUATION frames.
fn in_pieces(stream: u32, block: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut rest = block;
    for (n, size) in sizes.iter().enumerate() {
        let (piece, after) = rest.split_at(*size);
        rest = after;
        let kind = if n == 0 {
            wire::HEADERS
        } else {
            wire::CONTINUATION
        };
        let flags = if n == 0 { END_STREAM } else { 0 };
        frames.extend(wire::frame(kind, flags, stream, piece));
    }
    frames.extend(wire::frame(wire::CONTINUATION, END_HEADERS, stream, rest));
    frames
}

#[test]
fn a_block_means_the_same_wherever_it_is_cut() {
    let whole = post(&[("x-a", &"v".repeat(300)), ("x-b", "1")]);
    let mut expected = Server::usual();
    expected.send(&wire::headers(1, &whole, true));
    for at in 0..=whole.len() {
        let mut server = Server::usual();
        server.send(&in_pieces(1, &whole, &[at]));
        assert_eq!(server.said, expected.said, "cut at {at}");
    }
    let mut server = Server::usual();
    server.send(&in_pieces(1, &whole, &vec![1; whole.len()]));
    assert_eq!(server.said, expected.said, "an octet a frame");
}

#[test]
fn continuation_may_be_empty() {
    let mut server = Server::usual();
    server.send(&in_pieces(1, &post(&[]), &[0, 0, 5, 0, 0]));
    assert!(matches!(server.said[..], [Said::Request(1, _, true)]));
}

#[test]
fn nothing_comes_between_headers_and_continuation() {
    for frame in [
        wire::ping(*b"between!"),
        wire::data(1, b"x", false),
        wire::settings(&[]),
        wire::frame(99, 0, 0, &[]),
        wire::headers(3, &post(&[]), true),
        wire::priority(7, 0),
        wire::frame(wire::CONTINUATION, END_HEADERS, 1, &[]),
    ] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), false));
        server.send(&wire::frame(wire::HEADERS, 0, 3, &post(&[])));
        server.send(&frame);
        assert_eq!(server.peer.failed(), Some(1), "type {}", frame[3]);
        assert_eq!(server.peer.go_aways, [(1, 1)], "3 was never handed out");
    }
}

#[test]
fn a_block_that_is_not_whole_in_time_ends_the_connection() {
    let mut server = Server::usual();
    server.send(&wire::frame(wire::HEADERS, 0, 1, &post(&[])));
    server.wait(Duration::from_secs(6));
    // An octet more does not put the end off.
    server.send(&wire::frame(wire::CONTINUATION, 0, 1, &[]));
    server.wait(Duration::from_millis(3_999));
    assert_eq!(server.error, None);
    server.wait(Duration::from_millis(1));
    assert_eq!(server.peer.failed(), Some(CALM));
    assert_eq!(server.connection.deadline(), None);
    assert_eq!(server.connection.held().header_blocks, 0);
}

#[test]
fn the_time_of_a_block_begins_with_the_first_byte_of_its_first_frame() {
    let mut server = Server::usual();
    let frame = wire::frame(wire::HEADERS, 0, 1, &post(&[]));
    server.send(&frame[..1]);
    server.wait(Duration::from_secs(9));
    server.send(&frame[1..]);
    assert_eq!(server.error, None);
    server.wait(Duration::from_secs(1));
    assert_eq!(server.peer.failed(), Some(CALM));
}

#[test]
fn half_a_frame_of_another_type_may_take_its_time() {
    let mut server = Server::usual();
    let ping = wire::ping(*b"dripping");
    server.send(&ping[..3]);
    server.wait(Duration::from_secs(60));
    server.send(&ping[3..16]);
    assert_eq!(server.connection.deadline(), None);
    assert_eq!(server.connection.held().half_frames, 16);
    server.wait(Duration::from_secs(60));
    server.send(&ping[16..]);
    assert_eq!(server.error, None);
    assert_eq!(server.connection.held().half_frames, 0);
}

#[test]
fn a_block_over_four_times_the_limit_ends_the_connection() {
    let limit = 1_000;
    for (bytes, ends) in [(4_000, false), (4_001, true)] {
        let mut server = Server::begun(Config {
            header_list_bytes_max: limit,
            ..Config::default()
        });
        // Names are over the limit of the list soon; the block goes on.
        let mut whole = post(&[]);
        let rest = bytes - whole.len();
        whole.extend(block(&[("x-a", &"v".repeat(rest - 8))]));
        assert_eq!(whole.len(), bytes);
        server.send(&in_pieces(1, &whole, &[1_000, 1_000, 1_000]));
        assert_eq!(server.peer.failed(), ends.then_some(CALM), "{bytes}");
        if !ends {
            assert_eq!(server.said, [Said::TooLarge(1, false)]);
        }
    }
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    for broken in [
        &[0x80][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x40],
        &[NEWEST],
    ] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, broken, true));
        let code = ErrorCode::COMPRESSION_ERROR.0;
        assert_eq!(server.peer.failed(), Some(code), "{broken:x?}");
    }
}

/// A block that puts a field of its own into the table.
fn adding(value: &str) -> Vec<u8> {
    let mut block = post(&[]);
    field_to_table(&mut block, "x-table", value);
    block
}

/// The table's newest field has this value.
#[track_caller]
fn newest_is(server: &mut Server, stream: u32, value: &str) {
    server.take_said();
    let mut block = post(&[]);
    block.push(NEWEST);
    server.send(&wire::headers(stream, &block, true));
    let head = format!("POST http://a.test/ x-table={value};");
    assert_eq!(server.take_said(), [Said::Request(stream, head, true)]);
}

#[test]
fn blocks_whose_streams_are_refused_or_ignored_keep_the_table_in_step() {
    let mut server = Server::begun(Config {
        streams_max: 2,
        header_list_bytes_max: 3_000,
        ..Config::default()
    });
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::headers(3, &post(&[]), false));
    server.send(&wire::headers(5, &adding("refused"), true));
    assert_eq!(server.said.last(), Some(&Said::Refused));
    server.reset(1, 8);
    newest_is(&mut server, 7, "refused");
    server.reset(7, 8);
    // A stream that this end has reset.
    server.send(&wire::headers(1, &adding("ignored"), true));
    newest_is(&mut server, 9, "ignored");
    server.reset(9, 8);
    // One that the peer has reset.
    server.send(&wire::headers(11, &post(&[]), false));
    server.send(&wire::rst_stream(11, 8));
    server.send(&wire::headers(11, &adding("closed"), true));
    newest_is(&mut server, 13, "closed");
    server.reset(13, 8);
    // Malformed, before the field and after it.
    let mut malformed = block(&[("Upper", "1")]);
    field_to_table(&mut malformed, "x-table", "malformed");
    server.send(&wire::headers(15, &malformed, true));
    newest_is(&mut server, 17, "malformed");
    server.reset(17, 8);
    // A second head amid a request.
    server.send(&wire::headers(3, &adding("again"), false));
    newest_is(&mut server, 19, "again");
    server.reset(19, 8);
    // A list over its limit, before the field.
    let mut large = post(&[("x-a", &"v".repeat(3_000))]);
    field_to_table(&mut large, "x-table", "large");
    server.send(&wire::headers(21, &large, true));
    assert_eq!(server.said.last(), Some(&Said::TooLarge(21, false)));
    newest_is(&mut server, 23, "large");
}

#[test]
fn blocks_of_streams_after_the_last_keep_the_table_in_step() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.connection.go_away(server.now, &mut server.out);
    server.flush();
    server.send(&wire::pong(longlived_http2::GO_AWAY_PING));
    server.take_said();
    server.send(&wire::headers(3, &adding("ignored"), false));
    server.send(&wire::data(3, b"content", true));
    assert_eq!(server.take_said(), []);
    // Trailers of a stream that goes on.
    server.send(&wire::headers(1, &[NEWEST], true));
    let trailers = "x-table=ignored;".to_owned();
    assert_eq!(server.take_said(), [Said::Trailers(1, trailers)]);
}

#[test]
fn a_field_in_the_table_counts_each_time_it_is_named() {
    // 100 octets a field on the wire, and 4,000 in the list each time.
    let value = "v".repeat(3_900);
    let mut server = Server::usual();
    server.send(&wire::headers(1, &adding(&value), true));
    let mut bomb = block(POST);
    bomb.extend([NEWEST; 16_000]);
    server.send(&wire::headers(3, &bomb, true));
    assert_eq!(server.said.last(), Some(&Said::TooLarge(3, false)));
    let held = server.connection.held().total();
    assert!(held < 16 * 1024, "{held} bytes are held");
}

#[test]
fn one_call_decodes_some_of_a_block_and_no_more() {
    let many = [post(&[]), vec![0x90; 1_000]].concat();
    let mut long = post(&[]);
    long.extend([0x00, 1, b'a', 0xff, 0xff, 0x66]);
    // 13,310 octets of symbols of five bits, which are eight in five octets.
    long.resize(long.len() + 13_310, 0);
    for block in [many, long] {
        let mut server = Server::usual();
        let mut rest = &wire::headers(1, &block, true)[..];
        let mut request = false;
        while !rest.is_empty() {
            let received = (server.connection)
                .receive(rest, server.now, &mut server.out)
                .expect("no rule is broken");
            assert!(received.consumed > 0 && received.work >= received.consumed);
            assert!(received.work <= 1_024 + 9, "{}", received.work);
            rest = &rest[received.consumed..];
            request = received.event.is_some();
        }
        assert!(request, "the last call gives the request");
        assert_eq!(server.connection.held().header_blocks, 0);
    }
}
