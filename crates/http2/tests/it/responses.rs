//! Responses as the peer sees them (RFC 9113, 8.1): heads, content, trailers, and the end of a stream.

use longlived_http2::ErrorCode;

use crate::server::{Said, Server, response, trailers};
use crate::wire::{self, END_HEADERS, END_STREAM, block, post};

/// Types and flags of what the peer received.
fn kinds(server: &mut Server) -> Vec<(u8, u8)> {
    let frames = server.take_frames();
    frames.iter().map(|it| (it.kind, it.flags)).collect()
}

#[test]
fn the_last_data_has_end_stream() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    server.respond(1, false);
    assert_eq!(server.data(1, b"first", false), 5);
    assert_eq!(server.data(1, b"", false), 0);
    assert_eq!(server.data(1, &vec![0; 20_000], true), 20_000);
    server.close(1);
    assert_eq!(
        kinds(&mut server),
        [
            (wire::HEADERS, END_HEADERS),
            (wire::DATA, 0),
            (wire::DATA, 0),
            (wire::DATA, END_STREAM)
        ]
    );
}

#[test]
fn an_answer_of_trailers_only_is_one_frame() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    server.answer(1);
    assert_eq!(
        kinds(&mut server),
        [(wire::HEADERS, END_HEADERS | END_STREAM)]
    );
    assert_eq!(server.connection.open_streams(), 0);
}

#[test]
fn trailers_come_after_content_and_informational_heads_before() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    let slot = server.slot(1);
    server
        .connection
        .inform(slot, &response("100"), &mut server.out);
    server.respond(1, false);
    server.data(1, b"content", false);
    server
        .connection
        .trailers(slot, &trailers(), &mut server.out);
    server.flush();
    assert!(server.connection.is_response_ended(slot));
    server.close(1);
    assert_eq!(
        kinds(&mut server),
        [
            (wire::HEADERS, END_HEADERS),
            (wire::HEADERS, END_HEADERS),
            (wire::DATA, 0),
            (wire::HEADERS, END_HEADERS | END_STREAM)
        ]
    );
}

#[test]
fn the_answer_to_head_has_no_content() {
    let head = [
        (":method", "HEAD"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let mut server = Server::usual();
    server.send(&wire::headers(1, &block(&head), true));
    server.respond(1, false);
    // The caller answers as for GET.
    assert_eq!(server.data(1, b"content", false), 7);
    assert_eq!(server.data(1, b"content", true), 7);
    let slot = server.slot(1);
    server
        .connection
        .trailers(slot, &trailers(), &mut server.out);
    server.close(1);
    assert_eq!(
        kinds(&mut server),
        [(wire::HEADERS, END_HEADERS | END_STREAM)]
    );
}

#[test]
fn a_head_request_whose_list_is_too_large_gets_no_content_either() {
    for method_first in [true, false] {
        let long = "/".repeat(17_000);
        let mut head = vec![
            (":method", "HEAD"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", &long[..]),
        ];
        if !method_first {
            head.reverse();
        }
        let whole = block(&head);
        let (first, second) = whole.split_at(wire::FRAME);
        let mut server = Server::usual();
        server.send(&wire::frame(wire::HEADERS, END_STREAM, 1, first));
        server.send(&wire::frame(wire::CONTINUATION, END_HEADERS, 1, second));
        assert_eq!(server.take_said(), [Said::TooLarge(1, false)]);
        server.respond(1, false);
        assert_eq!(server.data(1, b"too large", true), 9);
        server.close(1);
        assert_eq!(
            kinds(&mut server),
            [(wire::HEADERS, END_HEADERS | END_STREAM)],
            "method first: {method_first}"
        );
    }
}

#[test]
fn a_response_that_is_complete_before_its_request_tells_the_peer_to_stop() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.answer(1);
    assert_eq!(
        kinds(&mut server),
        [
            (wire::HEADERS, END_HEADERS | END_STREAM),
            (wire::RST_STREAM, 0)
        ]
    );
    assert_eq!(server.peer.reset_code(1), Some(ErrorCode::NO_ERROR.0));
    // What is on its way is dropped.
    server.take_said();
    server.send(&wire::data(1, b"late", true));
    assert_eq!(server.take_said(), []);
}

#[test]
fn a_block_over_the_size_of_a_frame_goes_on_in_continuation() {
    for length in [16_384, 16_385, 32_768, 50_000] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), true));
        server.send(&wire::headers(3, &post(&[]), true));
        for id in [1, 3] {
            let long = block(&[("x-a", &"v".repeat(length))]);
            let slot = server.slot(id);
            server
                .connection
                .respond(slot, &long, true, &mut server.out);
            server.flush();
            let frames = server.take_frames();
            let mut came: Vec<u8> = (frames.iter().flat_map(|it| it.payload.clone())).collect();
            if id == 1 {
                assert_eq!(came.remove(0), 0x20, "the first block empties the table");
            }
            assert_eq!(came, long);
            assert!(frames.len() > 1, "{}", frames.len());
            let flags: Vec<u8> = frames.iter().map(|it| it.flags).collect();
            assert_eq!(flags[0], END_STREAM);
            assert_eq!(flags[1..].iter().sum::<u8>(), END_HEADERS, "on the last");
        }
    }
}

#[test]
fn a_larger_frame_size_of_the_peer_holds_for_blocks() {
    let mut server = Server::usual();
    server.send(&wire::settings(&[(wire::MAX_FRAME_SIZE, 60_000)]));
    server.send(&wire::headers(1, &post(&[]), true));
    server.take_frames();
    let long = block(&[("x-a", &"v".repeat(50_000))]);
    let slot = server.slot(1);
    server
        .connection
        .respond(slot, &long, true, &mut server.out);
    server.flush();
    assert_eq!(server.take_frames().len(), 1);
}

#[test]
fn the_servers_reset_gives_the_value_back_and_is_sent_once() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.respond(1, false);
    server.data(1, b"content", false);
    let slot = server.slot(1);
    let value = (server.connection).reset(slot, ErrorCode::CANCEL, &mut server.out);
    server.flush();
    assert_eq!(value.id, 1);
    assert_eq!(server.peer.reset_code(1), Some(ErrorCode::CANCEL.0));
    server.send(&wire::rst_stream(1, 8));
    server.send(&wire::rst_stream(1, 8));
    assert_eq!(server.connection.open_streams(), 0);
}

#[test]
fn a_stream_that_ends_amid_a_wrong_block_is_reset_once() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    let wrong = post(&[]);
    let (first, second) = wrong.split_at(9);
    // A second head, which is not whole when the caller resets the stream.
    server.send(&wire::frame(wire::HEADERS, 0, 1, first));
    server.reset(1, ErrorCode::CANCEL.0);
    server.take_said();
    server.send(&wire::frame(wire::CONTINUATION, END_HEADERS, 1, second));
    assert_eq!(server.take_said(), []);
    assert_eq!(server.peer.reset_code(1), Some(ErrorCode::CANCEL.0));
}
