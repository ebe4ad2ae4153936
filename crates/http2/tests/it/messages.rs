//! Which requests are malformed (RFC 9113, 8.1 to 8.5), and what a good one becomes.

use std::sync::Arc;
use std::time::Instant;

use longlived_http2::{Config, Connection, ErrorCode, Event, Output};

use crate::server::{Said, Server};
use crate::wire::{self, POST, block, post};

const PROTOCOL: u32 = ErrorCode::PROTOCOL_ERROR.0;

/// What a request of these fields becomes: its head, or `None` if it is malformed.
#[track_caller]
fn head(fields: &[(&str, &str)]) -> Option<String> {
    let mut server = Server::usual();
    server.send(&wire::headers(1, &block(fields), true));
    let said = server.take_said();
    match &said[..] {
        [Said::Request(1, head, true)] => {
            assert_eq!(server.connection.open_streams(), 1);
            Some(head.clone())
        }
        [Said::Malformed(PROTOCOL)] => {
            assert_eq!(server.peer.reset_code(1), Some(PROTOCOL));
            assert_eq!(server.connection.open_streams(), 0);
            // The stream is lost, and the connection is not.
            server.send(&wire::headers(3, &post(&[]), true));
            assert!(matches!(server.said[..], [Said::Request(3, ..)]));
            None
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_malformed(fields: &[(&str, &str)]) {
    assert_eq!(head(fields), None, "{fields:?}");
}

/// A request with these fields behind its pseudo-fields.
#[track_caller]
fn with(fields: &[(&str, &str)]) -> Option<String> {
    head(&[POST, fields].concat())
}

#[test]
fn a_request_is_built_from_its_fields() {
    let built = with(&[("x-a", "1"), ("x-a", "2"), ("x-b", ""), ("te", "trailers")]);
    assert_eq!(
        built.unwrap(),
        "POST http://a.test/ x-a=1;x-a=2;x-b=;te=trailers;"
    );
    let get = [
        (":path", "/a/b?c=d"),
        (":scheme", "https"),
        (":method", "GET"),
        (":authority", "a.test:81"),
    ];
    assert_eq!(head(&get).unwrap(), "GET https://a.test:81/a/b?c=d ");
    let any = [POST, &[("x-any", "\u{e9} ~!\t.")]].concat();
    assert!(head(&any).is_some(), "octets above 127, and a tab within");
}

#[test]
fn names_and_values_have_no_other_octets() {
    for name in [
        "Upper", "x-uPper", "", "a b", "a\tb", "a:b", "x-\u{e9}", "a\0", "a\r\n", "a\x7f", "(a)",
    ] {
        assert_eq!(with(&[(name, "1")]), None, "name {name:?}");
    }
    for value in [
        " a", "a ", "\ta", "a\t", " ", "a\0b", "a\nb", "a\rb", "a\r\n b", "a\x01", "a\x7f",
    ] {
        assert_eq!(with(&[("x-a", value)]), None, "value {value:?}");
    }
}

#[test]
fn fields_of_a_connection_are_malformed() {
    for field in [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("te", ""),
    ] {
        assert_eq!(with(&[field]), None, "{field:?}");
    }
    assert!(with(&[("te", "Trailers")]).is_some());
}

#[test]
fn each_pseudo_field_comes_once_and_first() {
    for missing in [":method", ":scheme", ":path"] {
        let rest: Vec<_> = (POST.iter().copied())
            .filter(|(name, _)| *name != missing)
            .collect();
        is_malformed(&rest);
    }
    for (at, field) in POST.iter().enumerate() {
        is_malformed(&[POST, &[*field]].concat());
        // After a field.
        let mut late = POST.to_vec();
        late.remove(at);
        late.extend([("x-a", "1"), *field]);
        is_malformed(&late);
    }
    for unknown in [
        (":status", "200"),
        (":protocol", "websocket"),
        (":", "a"),
        (":Method", "GET"),
    ] {
        is_malformed(&[&[unknown], POST].concat());
    }
    is_malformed(&[]);
}

#[test]
fn pseudo_fields_have_values_of_their_kind() {
    for (name, value) in [
        (":method", ""),
        (":method", "G T"),
        (":scheme", ""),
        (":scheme", "ht tp"),
        (":path", ""),
        (":path", "a"),
        (":path", "?a=b"),
        (":path", "http://a.test/"),
        (":path", "/a#b"),
        (":path", "/a b"),
        (":path", "/a\0"),
        (":path", "*"),
        (":path", "/a\x7f"),
        (":authority", ""),
        (":authority", "user@a.test"),
        (":authority", "user:word@a.test"),
        (":authority", "a.test/b"),
        (":authority", "a b"),
    ] {
        let fields = POST.iter().map(|field| match *field {
            (of, _) if of == name => (name, value),
            field => field,
        });
        is_malformed(&fields.collect::<Vec<_>>());
    }
}

#[test]
fn authority_and_host_say_the_same() {
    assert!(with(&[("host", "a.test")]).is_some());
    assert!(with(&[("host", "A.TEST")]).is_some());
    is_malformed(&[POST, &[("host", "b.test")]].concat());
    is_malformed(&[POST, &[("host", "a.test"), ("host", "b.test")]].concat());
    is_malformed(&[POST, &[("host", "")]].concat());
    // Either is enough.
    let alone: Vec<_> = (POST.iter().copied())
        .filter(|(name, _)| *name != ":authority")
        .chain([("host", "a.test")])
        .collect();
    assert_eq!(head(&alone).unwrap(), "POST / host=a.test;");
}

#[test]
fn connect_names_an_authority_and_nothing_else() {
    let connect = [(":method", "CONNECT"), (":authority", "a.test:443")];
    assert_eq!(head(&connect).unwrap(), "CONNECT a.test:443 ");
    is_malformed(&connect[..1]);
    for more in [(":scheme", "https"), (":path", "/")] {
        is_malformed(&[&connect[..], &[more]].concat());
    }
}

#[test]
fn options_may_ask_about_the_server_itself() {
    let options = [
        (":method", "OPTIONS"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "*"),
    ];
    let head = head(&options).unwrap();
    assert!(head.starts_with("OPTIONS "), "{head}");
    assert!(head.contains('*'), "{head}");
}

#[test]
fn several_cookie_fields_become_one() {
    let cookies = with(&[
        ("cookie", "a=1"),
        ("x-a", "1"),
        ("cookie", "b=2"),
        ("cookie", "c=3"),
    ]);
    assert_eq!(
        cookies.unwrap(),
        "POST http://a.test/ x-a=1;cookie=a=1; b=2; c=3;"
    );
}

/// A request with this length, pieces of content, and perhaps trailers: what is said after its head.
fn content(length: &str, pieces: &[usize], trailers: bool) -> Vec<Said> {
    let mut server = Server::usual();
    server.send(&wire::headers(
        1,
        &post(&[("content-length", length)]),
        false,
    ));
    assert!(
        matches!(server.take_said()[..], [Said::Request(..)]),
        "{length}"
    );
    for (n, piece) in pieces.iter().enumerate() {
        let end = n + 1 == pieces.len() && !trailers;
        server.send(&wire::frame(
            wire::DATA,
            wire::PADDED | u8::from(end),
            1,
            &wire::padded(&vec![b'x'; *piece], 3),
        ));
    }
    if trailers {
        server.send(&wire::headers(1, &block(&[("x-sum", "1")]), true));
    }
    assert_eq!(server.error, None);
    server.take_said()
}

#[test]
fn content_is_as_long_as_it_says() {
    let end = |n| Said::Data(1, vec![b'x'; n], true);
    let more = |n| Said::Data(1, vec![b'x'; n], false);
    let sums = || Said::Trailers(1, "x-sum=1;".to_owned());
    let failed = || Said::Failed(1, PROTOCOL);
    assert_eq!(content("7", &[3, 4], false), [more(3), end(4)]);
    assert_eq!(content("7", &[7, 0], false), [more(7), end(0)]);
    assert_eq!(content("7", &[3, 4], true), [more(3), more(4), sums()]);
    assert_eq!(content("0", &[0], false), [end(0)]);
    assert_eq!(content("0", &[], true), [sums()]);
    // Too little.
    assert_eq!(content("8", &[3, 4], false), [more(3), failed()]);
    assert_eq!(content("8", &[3, 4], true), [more(3), more(4), failed()]);
    // Too much, at once.
    assert_eq!(content("6", &[3, 4, 5], false), [more(3), failed()]);
    assert_eq!(content("0", &[1], false), [failed()]);
}

#[test]
fn content_length_is_one_number() {
    for length in [
        "",
        "-1",
        "+1",
        "1.0",
        "a",
        "1, 1",
        "18446744073709551615",
        "99999999999999999999",
    ] {
        assert_eq!(with(&[("content-length", length)]), None, "{length:?}");
    }
    assert_eq!(
        with(&[("content-length", "1"), ("content-length", "2")]),
        None
    );
    // Content could still come.
    for lengths in [&["+1"][..], &["1", "2"], &["2", "1"], &["1", ""]] {
        let mut server = Server::usual();
        let fields: Vec<_> = lengths.iter().map(|it| ("content-length", *it)).collect();
        server.send(&wire::headers(1, &post(&fields), false));
        assert_eq!(
            server.take_said(),
            [Said::Malformed(PROTOCOL)],
            "{lengths:?}"
        );
    }
    // The request ends with its head.
    assert_eq!(with(&[("content-length", "1")]), None);
    assert!(with(&[("content-length", "0")]).is_some());
    let twice = with(&[("content-length", "0"), ("content-length", "0")]);
    assert_eq!(twice.unwrap(), "POST http://a.test/ content-length=0;");
}

#[test]
fn trailers_are_fields_at_the_end_and_nothing_else() {
    for (trailers, end) in [
        (&[(":path", "/")][..], true),
        (&[("x-a", "1"), (":status", "200")], true),
        (&[("Upper", "1")], true),
        (&[("connection", "close")], true),
        (&[("x-a", "1")], false),
    ] {
        let mut server = Server::usual();
        server.send(&wire::headers(1, &post(&[]), false));
        server.send(&wire::data(1, b"x", false));
        server.take_said();
        server.send(&wire::headers(1, &block(trailers), end));
        assert_eq!(
            server.take_said(),
            [Said::Failed(1, PROTOCOL)],
            "{trailers:?}"
        );
    }
}

#[test]
fn a_request_is_padded_and_has_a_priority() {
    let mut server = Server::usual();
    let mut payload = vec![200];
    payload.extend(wire::dependency(0));
    payload.extend(post(&[("x-a", "1")]));
    payload.extend([0; 200]);
    server.send(&wire::frame(wire::HEADERS, 0x2d, 1, &payload));
    let head = "POST http://a.test/ x-a=1;".to_owned();
    assert_eq!(server.take_said(), [Said::Request(1, head, true)]);
    // Padding over the end of the frame.
    server.send(&wire::frame(
        wire::HEADERS,
        0x2d,
        3,
        &[6, 0, 0, 0, 0, 1, 0, 0],
    ));
    assert_eq!(server.peer.failed(), Some(PROTOCOL));
}

#[test]
fn a_list_of_fields_over_its_limit_is_a_request_that_can_be_answered() {
    let long = "v".repeat(900);
    let mut fields: Vec<(&str, &str)> = vec![("x-a", &long); 3];
    fields.push(("content-type", "application/grpc+proto"));
    for grpc in [true, false] {
        let mut server = Server::begun(Config {
            header_list_bytes_max: 2_000,
            ..Config::default()
        });
        let fields = &fields[..if grpc { 4 } else { 3 }];
        server.send(&wire::headers(1, &post(fields), false));
        assert_eq!(server.take_said(), [Said::TooLarge(1, grpc)]);
        server.respond(1, false);
        assert_eq!(server.data(1, b"too large", true), 9);
        // A list that is too large and malformed is too large.
        let malformed = [fields, &[("Upper", "1")]].concat();
        server.send(&wire::headers(3, &post(&malformed), true));
        assert_eq!(server.take_said(), [Said::TooLarge(3, grpc)]);
        // Trailers likewise, with a reset.
        server.send(&wire::headers(1, &block(fields), true));
        let calm = ErrorCode::ENHANCE_YOUR_CALM.0;
        assert_eq!(server.take_said(), [Said::Failed(1, calm)]);
        server.send(&wire::headers(5, &post(&[]), true));
        assert!(matches!(server.said[..], [Said::Request(5, ..)]));
    }
}

#[test]
fn a_list_at_its_limit_is_taken() {
    let used: usize = POST.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
    for (value, fits) in [
        (2_000 - used - 3 - 32, true),
        (2_001 - used - 3 - 32, false),
    ] {
        let mut server = Server::begun(Config {
            header_list_bytes_max: 2_000,
            ..Config::default()
        });
        server.send(&wire::headers(
            1,
            &post(&[("x-a", &"v".repeat(value))]),
            true,
        ));
        let is_request = matches!(server.said[..], [Said::Request(..)]);
        assert_eq!(is_request, fits, "{:?}", server.said);
    }
}

/// What the connection says that the fields of a request hold, and those of its trailers.
fn held(fields: &[(&str, &str)]) -> (usize, usize) {
    let mut connection = Connection::<()>::new(Arc::new(Config::default()));
    let mut out = Output::default();
    let bytes = [
        wire::begin(),
        wire::headers(1, &post(fields), false),
        wire::headers(1, &block(fields), true),
    ]
    .concat();
    let (mut rest, mut held) = (&bytes[..], (0, 0));
    while !rest.is_empty() {
        let received = (connection.receive(rest, Instant::now(), &mut out)).expect("no error");
        rest = &rest[received.consumed..];
        match received.event {
            Some(Event::Request(_, opening)) => {
                held.0 = opening.held_bytes();
                connection.open(opening, ());
            }
            Some(Event::Trailers { held_bytes, .. }) => held.1 = held_bytes,
            _ => {}
        }
    }
    held
}

#[test]
fn fields_count_as_what_their_map_holds() {
    // What a counting allocator saw for such maps, with the text of the fields.
    for (count, value, tables) in [
        (440, "v", 1_024 * 4 + 768 * 104),
        (9, "twenty octets of text", 16 * 4 + 12 * 104),
        (1, &*"v".repeat(3_000), 8 * 4 + 6 * 104),
    ] {
        let names: Vec<_> = (0..count).map(|number| format!("{number:03x}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (&**name, value)).collect();
        let text = count * (3 + value.len());
        let pseudo: usize = POST.iter().map(|(_, value)| value.len()).sum();
        assert_eq!(held(&fields), (tables + text + pseudo, tables + text));
    }
    // One name with many values.
    let fields = vec![("x", "y"); 400];
    assert_eq!(held(&fields).1, 8 * 4 + 6 * 104 + 512 * 72 + 1 + 400);
    assert_eq!(held(&[]).1, 0);
    // Pieces of one cookie are one field.
    let cookies = held(&[("cookie", "a=1"), ("cookie", "b=2")]).0;
    assert!(cookies < held(&[("x-a", "a=1"), ("x-b", "b=2")]).0);
}

#[test]
fn a_name_or_a_path_that_is_too_long_makes_a_list_too_large() {
    let outcome = |path: usize, name: usize| {
        let mut server = Server::usual();
        let path = format!("/{}", "p".repeat(path - 1));
        let fields = POST.iter().map(|field| match *field {
            (":path", _) => (":path", &path[..]),
            field => field,
        });
        let name = "n".repeat(name);
        let fields: Vec<_> = fields.chain([(&name[..], "1")]).collect();
        server.send(&wire::headers(1, &block(&fields), true));
        matches!(server.said[..], [Said::Request(..)])
    };
    assert!(outcome(8_192, 512));
    assert!(!outcome(8_193, 1));
    assert!(!outcome(1, 513));
}
