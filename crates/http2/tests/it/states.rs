//! The states of a stream (RFC 9113, 5.1): what each frame of the peer does in each of them.

use longlived_http2::{Config, ErrorCode};

use crate::server::{Said, Server};
use crate::wire::{self, END_STREAM, post};

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// A request comes.
    Request,
    /// Content comes.
    Data,
    /// Trailers come.
    Trailers,
    /// The stream is closed, as the peer asks.
    Reset,
    /// The window moves.
    Widen,
    /// Nothing.
    Nothing,
    /// An error of the stream: RST_STREAM with this code.
    Stream(ErrorCode),
    /// An error of the connection: GOAWAY with this code.
    Connection(ErrorCode),
}

use Does::{Connection, Data, Nothing, Request, Reset, Stream, Trailers, Widen};

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;

/// How a stream comes into a state.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nobody has used it.
    Idle,
    /// Of even number: a server could open it, and this one does not (5.1.1).
    Even,
    /// The same, below one that was opened.
    EvenBelow,
    /// The request is under way.
    Open,
    /// The request has ended, and the response has not.
    HalfClosedRemote,
    /// The response has ended, and the caller has not closed the stream; the request is under way.
    HalfClosedLocal,
    /// Both ends have sent END_STREAM.
    Ended,
    /// The peer has sent RST_STREAM.
    ResetByPeer,
    /// The server has sent RST_STREAM.
    ResetByServer,
    /// The server has refused the request.
    Refused,
    /// The server's response was complete before the request (8.1).
    NotNeeded,
    /// The peer has used a higher identifier and never this one (5.1.1).
    Skipped,
    /// Closed so long ago that it is not known how.
    Forgotten,
}

/// The stream whose state is looked at.
const ID: u32 = 5;

fn server_in(state: State) -> Server {
    let mut server = Server::begun(Config {
        streams_max: if matches!(state, State::Refused) {
            0
        } else {
            100
        },
        ..Config::default()
    });
    let open = wire::headers(ID, &post(&[]), false);
    let whole = wire::headers(ID, &post(&[]), true);
    match state {
        State::Idle | State::Even => {}
        State::Open | State::Refused => _ = server.send(&open),
        State::HalfClosedRemote => _ = server.send(&whole),
        State::HalfClosedLocal => {
            server.send(&open);
            server.respond(ID, true);
        }
        State::Ended => {
            server.send(&whole);
            server.answer(ID);
        }
        State::ResetByPeer => {
            server.send(&open);
            server.send(&wire::rst_stream(ID, 8));
        }
        State::ResetByServer => {
            server.send(&open);
            server.reset(ID, 8);
        }
        State::NotNeeded => {
            server.send(&open);
            server.answer(ID);
        }
        State::EvenBelow | State::Skipped => {
            server.send(&wire::headers(ID + 2, &post(&[]), true));
        }
        State::Forgotten => {
            server.send(&whole);
            server.answer(ID);
            for id in (ID + 2..).step_by(2).take(100) {
                server.send(&wire::headers(id, &post(&[]), true));
                server.answer(id);
            }
        }
    }
    assert_eq!(server.error, None, "{state:?}");
    server.take_said();
    server.take_frames();
    server
}

/// The columns of the table.
fn frames(id: u32) -> [Vec<u8>; 8] {
    [
        wire::data(id, b"four", false),
        wire::headers(id, &post(&[]), false),
        wire::headers(id, &wire::block(&[("x-sum", "1")]), true),
        wire::priority(id, 0),
        wire::rst_stream(id, 8),
        wire::frame(wire::PUSH_PROMISE, 4, id, &[0, 0, 0, 2]),
        wire::window_update(id, 1),
        wire::frame(wire::CONTINUATION, 4, id, &[]),
    ]
}

#[rustfmt::skip]
const TABLE: [(State, [Does; 8]); 13] = {
    use State::*;
    const PUSH: Does = Connection(PROTOCOL);
    const ALONE: Does = Connection(PROTOCOL);
    [
        //                  DATA                  HEADERS               HEADERS, END_STREAM   PRIORITY RST_STREAM            PUSH  WINDOW_UPDATE         CONTINUATION
        (Idle,             [Connection(PROTOCOL), Request,              Stream(PROTOCOL),     Nothing, Connection(PROTOCOL), PUSH, Connection(PROTOCOL), ALONE]),
        (Even,             [Connection(PROTOCOL), Connection(PROTOCOL), Connection(PROTOCOL), Nothing, Connection(PROTOCOL), PUSH, Connection(PROTOCOL), ALONE]),
        (EvenBelow,        [Connection(PROTOCOL), Connection(PROTOCOL), Connection(PROTOCOL), Nothing, Connection(PROTOCOL), PUSH, Connection(PROTOCOL), ALONE]),
        (Open,             [Data,                 Stream(PROTOCOL),     Trailers,             Nothing, Reset,                PUSH, Widen,                ALONE]),
        (HalfClosedLocal,  [Data,                 Stream(PROTOCOL),     Trailers,             Nothing, Reset,                PUSH, Widen,                ALONE]),
        (HalfClosedRemote, [Stream(CLOSED),       Stream(CLOSED),       Stream(CLOSED),       Nothing, Reset,                PUSH, Widen,                ALONE]),
        (Ended,            [Connection(CLOSED),   Connection(CLOSED),   Connection(CLOSED),   Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (ResetByPeer,      [Stream(CLOSED),       Stream(CLOSED),       Stream(CLOSED),       Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (ResetByServer,    [Nothing,              Nothing,              Nothing,              Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (Refused,          [Nothing,              Nothing,              Nothing,              Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (NotNeeded,        [Nothing,              Nothing,              Nothing,              Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (Skipped,          [Connection(CLOSED),   Connection(PROTOCOL), Connection(PROTOCOL), Nothing, Nothing,              PUSH, Nothing,              ALONE]),
        (Forgotten,        [Nothing,              Nothing,              Nothing,              Nothing, Nothing,              PUSH, Nothing,              ALONE]),
    ]
};

/// What the frame did, as both ends see it.
fn outcome(server: &mut Server, id: u32, frame: &[u8]) -> Does {
    let reset_before = server.peer.reset_code(id);
    server.send(frame);
    if let Some(code) = server.peer.failed() {
        return Connection(ErrorCode(code));
    }
    if let Some(code) = server.peer.reset_code(id)
        && reset_before.is_none()
    {
        return Stream(ErrorCode(code));
    }
    let said = server.take_said();
    match &said[..] {
        [] => Nothing,
        [Said::Request(of, ..)] if *of == id => Request,
        [Said::Data(of, bytes, false)] if *of == id && bytes == b"four" => Data,
        [Said::Trailers(of, fields)] if *of == id && fields == "x-sum=1;" => Trailers,
        [Said::Reset(of, 8)] if *of == id => Reset,
        [Said::WindowUpdate(of, 1)] if *of == id => Widen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_frame_does_in_each_state_what_the_rfc_says() {
    for (state, row) in TABLE {
        let id = if matches!(state, State::Even | State::EvenBelow) {
            4
        } else {
            ID
        };
        for (frame, expected) in frames(id).iter().zip(row) {
            let mut server = server_in(state);
            let does = outcome(&mut server, id, frame);
            assert_eq!(does, expected, "{state:?}, frame of type {}", frame[3]);
            if server.error.is_some() {
                continue;
            }
            // The connection goes on, and nothing of its credit is lost.
            let next = 1_001;
            server.send(&wire::ping(*b"go on..."));
            server.send(&wire::headers(next, &post(&[]), false));
            server.send(&wire::data(next, &[0; 1_000], false));
            let sent = if frame[3] == wire::DATA { 1_004 } else { 1_000 };
            assert_eq!(server.peer.connection_credit(), 65_535 - sent, "{state:?}");
            assert!(server.peer.is_sending(next) || matches!(state, State::Refused));
        }
    }
}

#[test]
fn how_a_stream_was_closed_is_known_until_32_others_are() {
    let states = [State::Ended, State::ResetByPeer, State::ResetByServer];
    for (state, expected) in states
        .into_iter()
        .zip([Connection(CLOSED), Stream(CLOSED), Nothing])
    {
        for others in [1, 31, 32] {
            let mut server = server_in(state);
            for id in (ID + 2..).step_by(2).take(others) {
                server.send(&wire::headers(id, &post(&[]), true));
                server.answer(id);
            }
            server.take_said();
            let does = outcome(&mut server, ID, &wire::data(ID, b"late", false));
            let expected = if others < 32 { expected } else { Nothing };
            assert_eq!(does, expected, "{state:?} and {others} others");
        }
    }
}

#[test]
fn content_that_is_under_way_when_its_stream_is_closed_is_dropped() {
    for ends in [false, true] {
        let mut server = server_in(State::Open);
        let content = wire::data(ID, b"first and last", ends);
        server.send(&content[..14]);
        assert_eq!(
            server.take_said(),
            [Said::Data(ID, b"first".to_vec(), false)]
        );
        server.reset(ID, 8);
        server.send(&content[14..]);
        server.send(&wire::headers(ID + 2, &post(&[]), false));
        assert!(matches!(server.take_said()[..], [Said::Request(7, ..)]));
        assert_eq!(server.peer.connection_credit(), 65_535 - 14);
    }
}

#[test]
fn data_with_end_stream_ends_a_request_and_is_an_error_after_it() {
    let mut server = server_in(State::Open);
    server.send(&wire::frame(wire::DATA, END_STREAM, ID, b"last"));
    assert_eq!(server.take_said(), [Said::Data(ID, b"last".to_vec(), true)]);
    server.send(&wire::data(ID, b"more", false));
    assert_eq!(server.take_said(), [Said::Failed(ID, CLOSED.0)]);
    // The stream is reset once, and what was on its way is ignored.
    server.send(&wire::data(ID, b"more", true));
    assert_eq!(server.take_said(), []);
}

#[test]
fn frames_for_a_stream_that_the_peer_reset_are_answered_once() {
    let mut server = server_in(State::ResetByPeer);
    for _ in 0..3 {
        server.send(&wire::data(ID, b"late", false));
    }
    let resets = server.take_frames();
    assert_eq!(
        resets
            .iter()
            .filter(|it| it.kind == wire::RST_STREAM)
            .count(),
        1
    );
    assert_eq!(server.take_said(), [Said::Malformed(CLOSED.0)]);
}

#[test]
fn a_stream_that_depends_on_itself_is_an_error_of_that_stream() {
    let mut server = server_in(State::Open);
    server.send(&wire::priority(ID, ID));
    assert_eq!(server.take_said(), [Said::Failed(ID, PROTOCOL.0)]);

    let mut server = Server::usual();
    let payload = [&wire::dependency(1)[..], &post(&[])].concat();
    server.send(&wire::frame(wire::HEADERS, 0x25, 1, &payload));
    assert_eq!(server.take_said(), [Said::Malformed(PROTOCOL.0)]);
    assert_eq!(server.peer.reset_code(1), Some(PROTOCOL.0));

    // A stream that is not open has nothing to reset.
    let mut server = server_in(State::Ended);
    server.send(&wire::priority(ID, ID));
    assert_eq!(server.error, None);
    let mut server = Server::usual();
    server.send(&wire::priority(9, 9));
    assert_eq!(server.peer.failed(), Some(PROTOCOL.0));
}

#[test]
fn frames_of_the_wrong_size_or_on_the_wrong_stream_end_the_connection() {
    use wire::{DATA, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE};
    let size = ErrorCode::FRAME_SIZE_ERROR;
    for (kind, flags, stream, length, code) in [
        (PRIORITY, 0, 1, 4, size),
        (PRIORITY, 0, 1, 6, size),
        (RST_STREAM, 0, 1, 3, size),
        (RST_STREAM, 0, 1, 5, size),
        (SETTINGS, 0, 0, 5, size),
        (SETTINGS, wire::ACK, 0, 6, size),
        (PING, 0, 0, 7, size),
        (PING, 0, 0, 9, size),
        (GOAWAY, 0, 0, 7, size),
        (WINDOW_UPDATE, 0, 0, 3, size),
        (WINDOW_UPDATE, 0, 1, 5, size),
        (DATA, wire::PADDED, 1, 0, size),
        (HEADERS, wire::PADDED, 3, 0, size),
        (HEADERS, wire::WITH_PRIORITY, 3, 4, size),
        (DATA, 0, 1, wire::FRAME + 1, size),
        (HEADERS, 0, 3, wire::FRAME + 1, size),
        (77, 0, 0, wire::FRAME + 1, size),
        (DATA, 0, 0, 4, PROTOCOL),
        (HEADERS, 0, 0, 4, PROTOCOL),
        (PRIORITY, 0, 0, 5, PROTOCOL),
        (RST_STREAM, 0, 0, 4, PROTOCOL),
        (SETTINGS, 0, 1, 0, PROTOCOL),
        (PING, 0, 1, 8, PROTOCOL),
        (GOAWAY, 0, 1, 8, PROTOCOL),
        (wire::CONTINUATION, 0, 0, 8, PROTOCOL),
    ] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), false));
        server.send(&wire::frame(kind, flags, stream, &vec![1; length]));
        assert_eq!(
            server.peer.failed(),
            Some(code.0),
            "type {kind}, flags {flags}, stream {stream}, {length} bytes"
        );
    }
}

#[test]
fn padding_leaves_room_for_its_own_length() {
    for (padding, ends) in [(3, false), (4, true), (255, true)] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), false));
        server.send(&wire::frame(
            wire::DATA,
            wire::PADDED,
            1,
            &[padding, 0, 0, 0],
        ));
        assert_eq!(
            server.peer.failed(),
            ends.then_some(PROTOCOL.0),
            "{padding}"
        );
        // What comes next is no padding.
        server.send(&wire::data(1, b"next", false));
        let next = server.said.last() == Some(&Said::Data(1, b"next".to_vec(), false));
        assert_eq!(next, !ends);
    }
}

#[test]
fn unknown_frames_flags_and_reserved_bits_are_ignored() {
    let mut server = Server::usual();
    let request = wire::headers(1, &post(&[]), false);
    server.send(&request);
    for kind in 0x0a..=0xff {
        server.send(&wire::frame(kind, 0xff, 1, &[7; 300]));
        server.send(&wire::frame(kind, 0xff, 0, &[]));
    }
    server.take_said();
    server.send(&wire::frame(wire::PING, 0xfe, 0, b"flags..."));
    let reserved = |id: u32| id | 1 << 31;
    server.send(&wire::frame(wire::DATA, 0xf6, reserved(1), b"x"));
    server.send(&wire::window_update(reserved(1), reserved(5)));
    server.send(&wire::rst_stream(reserved(1), 8));
    assert_eq!(
        server.take_said(),
        [
            Said::Data(1, b"x".to_vec(), false),
            Said::WindowUpdate(1, 5),
            Said::Reset(1, 8),
        ]
    );
    assert_eq!(server.connection.open_streams(), 0);
}
