//! Resets that the server is made to send: each closes a stream that counts no more as open, while its call has cost a handler.

use longlived_testkit::attacker::Attacker;
use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    DATA, END_STREAM, WINDOW_MAX, frame, reset as cancel, window_update,
};

use super::{
    Answer, Arena, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, PRIORITY, PROTOCOL_ERROR, STREAM_CLOSED,
    WATCH, assert_answer, attacked, call, flood, headers, watch,
};

/// Makes the server reset a stream, by a code.
struct Form {
    name: &'static str,
    code: u32,
    bytes: fn(u32) -> Vec<u8>,
}

/// A call with a content-length, and content.
fn content(stream: u32, length: &str, content: &[u8], flags: u8) -> Vec<u8> {
    let head = Block::grpc(WATCH).field("content-length", length);
    [
        headers(stream, 0, &head),
        frame(DATA, flags, stream, content),
    ]
    .concat()
}

fn after_the_call(stream: u32, trailers: &Block, flags: u8) -> Vec<u8> {
    [call(stream, WATCH), headers(stream, flags, trailers)].concat()
}

/// PRIORITY that says to depend on `stream`, with a weight.
fn depends_on(stream: u32) -> Vec<u8> {
    [&stream.to_be_bytes()[..], &[16]].concat()
}

const FORMS: [Form; 16] = [
    Form {
        name: "WINDOW_UPDATE by 0 (6.9)",
        code: PROTOCOL_ERROR,
        bytes: |stream| [call(stream, WATCH), window_update(stream, 0)].concat(),
    },
    Form {
        name: "a window over 2^31-1 (6.9.1)",
        code: FLOW_CONTROL_ERROR,
        bytes: |stream| [call(stream, WATCH), window_update(stream, WINDOW_MAX)].concat(),
    },
    Form {
        name: "DATA after END_STREAM (5.1)",
        code: STREAM_CLOSED,
        bytes: |stream| [watch(stream), frame(DATA, 0, stream, b"more")].concat(),
    },
    Form {
        name: "HEADERS after END_STREAM (5.1)",
        code: STREAM_CLOSED,
        bytes: |stream| {
            [
                watch(stream),
                headers(stream, END_STREAM, &Block::default()),
            ]
            .concat()
        },
    },
    Form {
        name: "a name with an upper-case letter (8.2.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| headers(stream, 0, &Block::grpc(WATCH).field("Upper", "x")),
    },
    Form {
        name: "a value with a line feed (8.2.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| headers(stream, 0, &Block::grpc(WATCH).field("x", "a\nb")),
    },
    Form {
        name: "a field of a connection (8.2.2)",
        code: PROTOCOL_ERROR,
        bytes: |stream| headers(stream, 0, &Block::grpc(WATCH).field("connection", "close")),
    },
    Form {
        name: "PRIORITY on itself (5.3.1 of RFC 7540)",
        code: PROTOCOL_ERROR,
        bytes: |stream| {
            let priority = frame(PRIORITY, 0, stream, &depends_on(stream));
            [call(stream, WATCH), priority].concat()
        },
    },
    Form {
        name: "HEADERS that depend on themselves (5.3.1 of RFC 7540)",
        code: PROTOCOL_ERROR,
        bytes: |stream| {
            const WITH_PRIORITY: u8 = 0x20;
            let block = Block::default().octets(&depends_on(stream));
            let block = block.octets(Block::grpc(WATCH).as_bytes());
            headers(stream, WITH_PRIORITY, &block)
        },
    },
    Form {
        name: "more content than content-length (8.1.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| content(stream, "1", b"two", 0),
    },
    Form {
        name: "less content than content-length (8.1.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| content(stream, "9", b"two", END_STREAM),
    },
    Form {
        name: "content-length without content (8.1.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| {
            let head = Block::grpc(WATCH).field("content-length", "9");
            headers(stream, END_STREAM, &head)
        },
    },
    Form {
        name: "two values of content-length (8.1.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| {
            let head = Block::grpc(WATCH).field("content-length", "5");
            headers(stream, 0, &head.field("content-length", "6"))
        },
    },
    Form {
        name: "trailers without END_STREAM (8.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| after_the_call(stream, &Block::default().field("a", "b"), 0),
    },
    Form {
        name: "a pseudo-field in trailers (8.1)",
        code: PROTOCOL_ERROR,
        bytes: |stream| after_the_call(stream, &Block::default().field(":path", "/"), END_STREAM),
    },
    Form {
        name: "trailers over the limit of a list (10.5.1)",
        code: ENHANCE_YOUR_CALM,
        bytes: |stream| after_the_call(stream, &Block::default().tiny_fields(600), END_STREAM),
    },
];

#[test]
fn streams_that_the_server_must_reset_are_cut_in_each_form() {
    attacked(async |arena| {
        for form in &FORMS {
            let Form { name, code, bytes } = form;
            assert_answer(arena, name, &bytes(1), Answer::Reset(*code)).await;
            is_cut(arena, name, *code, bytes).await;
        }
    });
}

/// The peer has closed the stream itself, and then goes on: a stream error (5.1).
#[test]
fn streams_that_the_peer_has_reset_and_goes_on_with_are_cut() {
    attacked(async |arena| {
        let data = |stream| frame(DATA, 0, stream, b"more");
        let block = |stream| headers(stream, END_STREAM, &Block::default());
        let lates: [&dyn Fn(u32) -> Vec<u8>; 2] = [&data, &block];
        for (late, name) in lates.into_iter().zip(["DATA", "HEADERS"]) {
            let bytes = |stream| [call(stream, WATCH), cancel(stream), late(stream)].concat();
            let answer = Answer::Reset(STREAM_CLOSED);
            assert_answer(arena, name, &bytes(1), answer).await;
            is_cut(arena, name, STREAM_CLOSED, &bytes).await;
        }
    });
}

async fn is_cut(arena: &Arena, name: &str, code: u32, bytes: &impl Fn(u32) -> Vec<u8>) {
    let mut attacker = Attacker::hello(arena.address()).await;
    let round = |number| bytes(2 * number + 1);
    let (ended, _) = flood(arena, &mut attacker, round).await;
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM), "{name}");
    assert_eq!(attacker.reset(1), Some(code), "{name}");
}
