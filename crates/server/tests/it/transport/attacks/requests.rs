//! Requests whose pseudo-fields or path are none, or odd (RFC 9113, 8.3.1).

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::END_STREAM;

use super::{Answer, CHECK, PROTOCOL_ERROR, assert_answer, attacked, grpc_status, headers};

const POST: u8 = 0x83;
const HTTP: u8 = 0x86;
const UNIMPLEMENTED: &str = "12";

fn request(block: &Block) -> Vec<u8> {
    headers(1, END_STREAM, block)
}

#[test]
fn pseudo_fields_that_are_none_make_a_request_malformed() {
    attacked(async |arena| {
        let block = || Block::default().octets(&[POST, HTTP]);
        let path = |block: Block| block.field(":path", CHECK);
        for (name, block) in [
            ("nothing", Block::default()),
            ("no :method", path(Block::default().octets(&[HTTP]))),
            ("no :scheme", path(Block::default().octets(&[POST]))),
            ("no :path", block()),
            (":path twice", path(path(block()))),
            (":method twice", path(block().octets(&[POST]))),
            ("an unknown one", path(block().field(":unknown", "x"))),
            ("one of responses", path(block().field(":status", "200"))),
            ("one of CONNECT", path(block().field(":protocol", "x"))),
            ("one after a field", path(block().field("x", "y"))),
            ("a method of no letters", path(block()).field(":method", "")),
            ("a name with a colon", path(block()).field("a:b", "c")),
            ("a name of no letters", path(block()).field("", "c")),
            ("a scheme that is none", {
                path(
                    Block::default()
                        .octets(&[POST])
                        .field(":scheme", "1\u{0}//"),
                )
            }),
            ("a user in :authority", {
                path(block()).field(":authority", "user@host")
            }),
            ("another host", {
                path(block()).field(":authority", "a").field("host", "b")
            }),
            ("CONNECT with a path", {
                path(Block::default().octets(&[HTTP])).field(":method", "CONNECT")
            }),
            ("te", path(block()).field("te", "gzip")),
            ("transfer-encoding", {
                path(block()).field("transfer-encoding", "chunked")
            }),
        ] {
            let answer = Answer::Reset(PROTOCOL_ERROR);
            assert_answer(arena, name, &request(&block), answer).await;
        }
    });
}

#[test]
fn paths_that_are_none_make_a_request_malformed() {
    attacked(async |arena| {
        for path in [
            &b""[..],
            b"*",
            b"grpc.health.v1.Health/Check",
            b"http://t/grpc.health.v1.Health/Check",
            b"/a b",
            b"/a\0b",
            b"/a\rb",
            b"/\x7f",
            b"/a#b",
            b" /a",
        ] {
            let name = String::from_utf8_lossy(path).into_owned();
            let bytes = request(&Block::post(path).field("content-type", "application/grpc"));
            assert_answer(arena, &name, &bytes, Answer::Reset(PROTOCOL_ERROR)).await;
        }
    });
}

/// A path that is one, and names no method: none of them is taken for another.
#[test]
fn odd_paths_name_no_method() {
    attacked(async |arena| {
        let mut attacker = Attacker::hello(arena.address()).await;
        let long = format!("/{}", "x".repeat(8_000));
        let segments = "/..".repeat(2_700);
        let paths = [
            "/",
            "//",
            "/grpc.health.v1.Health",
            "/grpc.health.v1.Health/",
            "//grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health//Check",
            "/grpc.health.v1.Health/Check/",
            "/grpc.health.v1.Health/../grpc.health.v1.Health/Check",
            "/grpc%2ehealth.v1.Health/Check",
            "/GRPC.HEALTH.V1.HEALTH/CHECK",
            "/grpc.health.v1.Health/Ch%65ck",
            "/%00",
            "/%",
            "/a?b=c",
            "/?",
            "/a/b?c/d",
            "/a/b/c",
            "/:path",
            &long,
            &segments,
        ];
        for (number, path) in paths.into_iter().enumerate() {
            let stream = 2 * number as u32 + 1;
            let bytes = headers(stream, END_STREAM, &Block::grpc(path));
            assert!(attacker.send(&bytes).await);
            assert!(attacker.is_answered(number as u64 + 1).await, "{path}");
            assert!(
                attacker.was_told(stream, &grpc_status(UNIMPLEMENTED)),
                "{path}"
            );
        }
    });
}

/// RFC 3986 has no octets over 127 in a path. Whether they are malformed or name no method, the connection goes on.
#[test]
fn a_path_that_is_not_ascii_is_no_method() {
    attacked(async |arena| {
        for path in [&b"/\xc3\xa9/\xc3\xa9"[..], b"/\xff\xfe", b"/\xc3"] {
            let mut attacker = Attacker::hello(arena.address()).await;
            let block = Block::post(path).field("content-type", "application/grpc");
            attacker.send(&headers(1, END_STREAM, &block)).await;
            assert!(attacker.is_taken().await, "{path:?}");
            let refused = attacker.was_told(1, &grpc_status(UNIMPLEMENTED))
                || attacker.reset(1) == Some(PROTOCOL_ERROR);
            assert!(refused, "{path:?}");
        }
    });
}
