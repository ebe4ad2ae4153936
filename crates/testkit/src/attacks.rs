//! What one connection sends to make a server work for it, kind by kind, as frames.
//!
//! Does not: connect, or read an answer.

use longlived_api::v1::{PublishRequest, SubscribeRequest, Subscription};
use prost::Message as _;

use crate::block::Block;
use crate::frames::{
    DATA, END_STREAM, PING, SETTINGS, frame, initial_window, reset, window_update,
};
use crate::grpc::framed;

/// A call that every server answers at once.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const PUBLISH: &str = "/longlived.v1.PublishService/Publish";
const PUBLISH_STREAM: &str = "/longlived.v1.PublishService/PublishStream";
const SUBSCRIBE: &str = "/longlived.v1.SubscriptionService/Subscribe";

/// Streams that are opened where many are.
const STREAMS: u32 = 1_000;
/// Streams that the server lets one connection open, by default.
const STREAMS_MAX: u32 = 1_024;

/// What stands before a message of 983,040 octets, which is within the usual limit.
const LONG: [u8; 5] = [0, 0, 0x0f, 0, 0];

/// What an attacker does.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What it is called in the output of tests.
    pub name: &'static str,
    /// First, on each connection.
    pub begin: fn() -> Vec<u8>,
    /// Again and again, with the number of the round.
    pub round: fn(u32) -> Vec<u8>,
}

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn stream(round: u32) -> u32 {
    2 * round + 1
}

/// A call with one message, after which nothing comes.
fn call(path: &str, stream: u32, message: &[u8]) -> Vec<u8> {
    let message = frame(DATA, END_STREAM, stream, message);
    [Block::grpc(path).headers(stream, 0), message].concat()
}

/// A call that is answered and stays open.
fn watch(stream: u32) -> Vec<u8> {
    call(WATCH, stream, &[0; 5])
}

/// A subscription.
fn subscribe(stream: u32) -> Vec<u8> {
    let request = SubscribeRequest {
        subscriber_id: format!("attacker-{stream}"),
        subscriptions: vec![Subscription {
            topic_filter: "attacks".to_owned(),
        }],
        ..SubscribeRequest::default()
    };
    call(SUBSCRIBE, stream, &framed(&request.encode_to_vec()))
}

/// Calls that stay open.
fn watches() -> Vec<u8> {
    open(STREAMS)
}

fn open(streams: u32) -> Vec<u8> {
    (0..streams)
        .flat_map(|round| watch(stream(round)))
        .collect()
}

/// All of them. What an honest client does beside what an attacker does: each is measured alone.
pub const ATTACKS: [Attack; 25] = [
    Attack {
        name: "rapid reset",
        begin: nothing,
        round: |round| {
            let call = Block::grpc(WATCH).headers(stream(round), 0);
            [call, reset(stream(round))].concat()
        },
    },
    Attack {
        name: "window of 1,000 streams up and down",
        begin: watches,
        round: |_| [initial_window(0), initial_window(1 << 20)].concat(),
    },
    Attack {
        name: "calls with 400 fields",
        begin: nothing,
        round: |round| {
            let block = Block::grpc("/no/Method").tiny_fields(400);
            block.headers(stream(round), END_STREAM)
        },
    },
    Attack {
        name: "calls with 4,000 fields of the table",
        begin: nothing,
        round: |round| {
            let mut block = Block::grpc("/no/Method").added("a", [b'x'; 3_000]);
            for _ in 0..4_000 {
                block = block.indexed(62);
            }
            block.headers(stream(round), END_STREAM)
        },
    },
    Attack {
        name: "trailers of 460 fields",
        begin: nothing,
        round: |round| {
            let trailers = Block::default().tiny_fields(460);
            let trailers = trailers.headers(stream(round), END_STREAM);
            let call = Block::grpc(CHECK).headers(stream(round), 0);
            let message = frame(DATA, 0, stream(round), &[0; 5]);
            [call, message, trailers].concat()
        },
    },
    Attack {
        name: "requests that are malformed",
        begin: nothing,
        round: |round| Block::grpc(CHECK).field("A", "b").headers(stream(round), 0),
    },
    Attack {
        name: "calls beyond the limit of streams",
        begin: || open(STREAMS_MAX),
        round: |round| watch(stream(STREAMS_MAX + round)),
    },
    Attack {
        name: "resets of 1,000 open streams",
        begin: watches,
        round: |round| reset(stream(round % STREAMS)),
    },
    Attack {
        name: "Check",
        begin: nothing,
        round: |round| call(CHECK, stream(round), &[0; 5]),
    },
    Attack {
        name: "Publish",
        begin: nothing,
        round: |round| {
            let request = PublishRequest {
                topic: "attacks".to_owned(),
                ..PublishRequest::default()
            };
            call(PUBLISH, stream(round), &framed(&request.encode_to_vec()))
        },
    },
    Attack {
        name: "Subscribe",
        begin: nothing,
        round: |round| subscribe(stream(round)),
    },
    Attack {
        name: "subscriptions that are cancelled",
        begin: nothing,
        round: |round| [subscribe(stream(round)), reset(stream(round))].concat(),
    },
    Attack {
        name: "resets of 1,000 open subscriptions",
        begin: || {
            (0..STREAMS)
                .flat_map(|round| subscribe(stream(round)))
                .collect()
        },
        round: |round| reset(stream(round % STREAMS)),
    },
    Attack {
        name: "a message in DATA of one octet",
        begin: || {
            let message = frame(DATA, 0, 1, &LONG);
            [Block::grpc(PUBLISH_STREAM).headers(1, 0), message].concat()
        },
        round: |_| frame(DATA, 0, 1, b"x"),
    },
    Attack {
        name: "messages in DATA of 16,384 octets",
        begin: || Block::grpc(PUBLISH_STREAM).headers(1, 0),
        round: |_| {
            let mut message = LONG.to_vec();
            message.resize(LONG.len() + 0x000f_0000, 0);
            let pieces = message.chunks(16_384);
            pieces.flat_map(|piece| frame(DATA, 0, 1, piece)).collect()
        },
    },
    Attack {
        name: "empty DATA",
        begin: || Block::grpc(PUBLISH_STREAM).headers(1, 0),
        round: |_| frame(DATA, 0, 1, &[]),
    },
    Attack {
        name: "DATA of streams that the server closed",
        begin: nothing,
        round: |round| {
            // Fewer than may be on their way when the client hears of it.
            let stream = stream(round / 10_000);
            if round % 10_000 == 0 {
                return Block::grpc("/no/Method").headers(stream, 0);
            }
            frame(DATA, 0, stream, b"x")
        },
    },
    Attack {
        name: "PING",
        begin: nothing,
        round: |_| frame(PING, 0, 0, b"are you?"),
    },
    Attack {
        name: "SETTINGS",
        begin: nothing,
        round: |_| initial_window(9),
    },
    Attack {
        name: "SETTINGS of 2,000 parameters, with 1,000 streams",
        begin: watches,
        round: |_| {
            let up_and_down = [[0, 4, 0, 0, 0, 0], [0, 4, 0, 0x10, 0, 0]].concat();
            frame(SETTINGS, 0, 0, &up_and_down.repeat(1_000))
        },
    },
    Attack {
        name: "PRIORITY",
        begin: nothing,
        round: |_| frame(0x02, 0, 1, &[0, 0, 0, 3, 1]),
    },
    Attack {
        name: "WINDOW_UPDATE",
        begin: nothing,
        round: |_| window_update(0, 1),
    },
    Attack {
        name: "WINDOW_UPDATE of 1,000 streams",
        begin: watches,
        round: |round| window_update(stream(round % STREAMS), 1),
    },
    Attack {
        name: "unknown frames",
        begin: nothing,
        round: |_| frame(0xfa, 0, 0, b"what"),
    },
    Attack {
        name: "RST_STREAM of a closed stream",
        begin: || [watch(1), reset(1)].concat(),
        round: |_| reset(1),
    },
];
