//! What h2 has fixed since its release 0.4.9 and a server can get wrong: each is a test here, or stands in another module.
//!
//! | h2 | fixed | here |
//! |---|---|---|
//! | 0.4.10 | an end is clean only if the stream was not reset | `states`: Reset and Data with `end` are two events |
//! | 0.4.12 | a limit of reset streams that are remembered | `states::how_a_stream_was_closed...`: 32 |
//! | 0.4.13 | a stream that cannot use the connection's window does not take it | below |
//! | 0.4.13 | padding of DATA given back | `credit::padding_counts_and_comes_back` |
//! | 0.4.13, 0.4.16 | informational responses | `responses::trailers_come_after_content...` |
//! | 0.4.14 | credit of padded DATA for a stream that was reset | below |
//! | 0.4.14 | credit of DATA after GOAWAY | below |
//! | 0.4.14 | HEADERS of a stream that is reset go before RST_STREAM | below |
//! | 0.4.14 | the peer's GOAWAY does not close its streams | below |
//! | 0.4.14 | the connection's window after a stream that waited is reset | `windows::a_stream_that_waits_and_is_closed...` |
//! | 0.4.14, 0.4.16 | wake-ups of a stream that this end resets, or whose trailers come | there are no wakers: the value is given back, and trailers are an event |
//! | 0.4.15 | an error of a stream does not end the connection | `messages::head` asks for another request after each |
//! | 0.4.15 | content that was sent goes before the reset | below |
//! | 0.4.15 | a header block that is far too large ends the connection | `blocks::a_block_over_four_times...` |
//! | 0.4.15 | 255 octets of padding | below |
//! | 0.4.15 | more fields than a map takes | below |
//! | 0.4.15 | frames of streams without HEADERS | `states`, row Idle |
//! | 0.4.15 | no empty capacity is told | `windows::the_initial_window_moves_all_windows...` |
//! | 0.4.16 | credit of content that nobody takes, when the call ends | below |
//! | 0.4.16 | content that came before a reset is told first | below |
//! | 0.4.16 | a reset after END_STREAM lets the content be read | below |
//! | 0.4.16 | a socket that takes 0 bytes | the caller's |
//! | 0.4.17 | the last DATA does not count as empty | below |
//! | 0.4.17 | the encoder's table has a limit | it has none: `responses::a_block_over_the_size_of_a_frame...` |
//! | 0.4.16 to 0.4.20 | many small DATA frames | counted by the caller: [`Received::frame`] |
//! | 0.4.20 | two different values of `content-length` | `messages::content_length_is_one_number` |
//! | 0.4.20 | refused streams are counted | `settings::streams_over_the_limit...`: an event each |
//! | 0.4.20 | an end of the connection while streams come | `closing` |
//! | 0.4.20 | GOAWAY on a stream | `states::frames_of_the_wrong_size...` |
//!
//! [`Received::frame`]: longlived_http2::Received

use longlived_http2::{Config, GO_AWAY_PING};

use crate::server::{Said, Server, Take};
use crate::wire::{self, PADDED, block, post};

/// Content for a stream that takes none: half of the connection's window comes back, again and again.
#[track_caller]
fn credit_comes_back(server: &mut Server, frame: &[u8], length: i64) {
    for _ in 0..1_000 {
        let credit = server.peer.connection_credit();
        assert!(credit >= 16_384, "{credit}");
        server.send(frame);
    }
    assert_eq!(server.error, None);
    let lost = 65_535 - server.peer.connection_credit();
    assert!(lost < 32_768 && lost % length == 0, "{lost}");
}

#[test]
fn credit_of_padded_data_comes_back_when_the_stream_was_reset() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.reset(1, 8);
    let frame = wire::frame(wire::DATA, PADDED, 1, &wire::padded(&[0; 44], 211));
    credit_comes_back(&mut server, &frame, 256);
}

#[test]
fn credit_of_data_after_the_last_stream_comes_back() {
    let mut server = Server::usual();
    server.connection.go_away(server.now, &mut server.out);
    server.flush();
    server.send(&wire::pong(GO_AWAY_PING));
    server.send(&wire::headers(1, &post(&[]), false));
    credit_comes_back(&mut server, &wire::data(1, &[0; 100], false), 100);
}

#[test]
fn a_head_that_was_sent_goes_before_the_reset() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), true));
    server.flushes = false;
    server.respond(1, false);
    server.data(1, b"content", false);
    server.reset(1, 8);
    server.flushes = true;
    server.flush();
    let kinds: Vec<u8> = server.take_frames().iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [wire::HEADERS, wire::DATA, wire::RST_STREAM]);
}

#[test]
fn streams_go_on_after_the_peers_go_away() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.send(&wire::go_away(0, 0));
    server.send(&wire::data(1, b"content", true));
    assert_eq!(
        server.said.last(),
        Some(&Said::Data(1, b"content".to_vec(), true))
    );
    server.respond(1, false);
    assert_eq!(server.data(1, b"content", true), 7);
    server.close(1);
}

#[test]
fn all_lengths_of_padding_are_taken() {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &post(&[]), false));
    server.take_said();
    for padding in 0..=255 {
        let payload = wire::padded(b"x", padding);
        server.send(&wire::frame(wire::DATA, PADDED, 1, &payload));
        assert_eq!(server.take_said(), [Said::Data(1, b"x".to_vec(), false)]);
    }
}

#[test]
fn more_fields_than_a_map_takes_are_malformed() {
    let mut server = Server::begun(Config {
        header_list_bytes_max: 10_000_000,
        ..Config::default()
    });
    let mut whole = post(&[]);
    let names = 33_000;
    for n in 0..names {
        wire::field(&mut whole, &format!("x{n}"), "");
    }
    let pieces: Vec<&[u8]> = whole.chunks(wire::FRAME).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 {
            wire::HEADERS
        } else {
            wire::CONTINUATION
        };
        let flags = if n + 1 == pieces.len() {
            wire::END_HEADERS
        } else {
            0
        };
        server.send(&wire::frame(kind, flags, 1, piece));
    }
    assert_eq!(server.take_said(), [Said::Malformed(1)]);
}

#[test]
fn content_that_nobody_took_costs_no_credit_when_the_call_ends() {
    let mut server = Server::usual();
    server.take = Take::Never;
    for id in (1..200).step_by(2) {
        server.send(&wire::headers(id, &post(&[]), false));
        let n = server.peer.may_send(id).min(wire::FRAME);
        assert_eq!(n, wire::FRAME);
        server.send(&wire::data(id, &vec![0; n], false));
        server.reset(id, 8);
    }
}

#[test]
fn content_that_came_before_a_reset_is_told_first() {
    let mut server = Server::usual();
    server.send(
        &[
            wire::headers(1, &post(&[]), false),
            wire::data(1, b"content", false),
            wire::headers(1, &block(&[("x-sum", "1")]), true),
            wire::rst_stream(1, 8),
        ]
        .concat(),
    );
    let said = server.take_said();
    let sums = Said::Trailers(1, "x-sum=1;".to_owned());
    let content = Said::Data(1, b"content".to_vec(), false);
    assert_eq!(said[1..], [content, sums, Said::Reset(1, 8)]);
}

#[test]
fn a_stream_without_a_window_of_its_own_leaves_the_connections_to_others() {
    let mut server = Server::usual();
    for id in [1, 3] {
        server.send(&wire::headers(id, &post(&[]), true));
        server.respond(id, false);
    }
    server.send(&wire::window_update(3, 100_000));
    assert_eq!(server.data(3, &vec![0; 65_535], false), 65_535);
    assert_eq!(server.data(1, b"waits", true), 0);
    assert_eq!(server.data(3, b"waits", true), 0);
    // Both wait for the connection, and then one has no window of its own any more.
    server.send(&wire::settings(&[(wire::INITIAL_WINDOW_SIZE, 0)]));
    server.send(&wire::window_update(0, 5));
    assert_eq!(server.writable(), [3]);
    assert_eq!(server.data(3, b"waits", true), 5);
}

#[test]
fn the_last_data_is_not_empty() {
    for (padded, ends) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), false));
        let flags = u8::from(ends) | if padded { PADDED } else { 0 };
        let payload = if padded {
            wire::padded(b"", 9)
        } else {
            Vec::new()
        };
        let frame = wire::frame(wire::DATA, flags, 1, &payload);
        let received = (server.connection)
            .receive(&frame, server.now, &mut server.out)
            .expect("no rule is broken");
        assert_eq!(received.empty, !ends, "padded: {padded}");
    }
}
