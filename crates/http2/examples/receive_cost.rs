//! Sends a connection what is costly to receive, so that the instructions of each call of `receive` can be counted:
//! docs/TESTING.md.
//!
//!     receive_cost              names the kinds
//!     receive_cost KIND         receives such bytes, and says in how many calls
//!     receive_cost KIND CALL    the same, and only this call, from 1 on, goes through `counted`
//!
//! Only `counted` is to be counted.

#![allow(
    clippy::disallowed_types,
    reason = "the crate takes the caller's clock"
)]

#[path = "shared/strings.rs"]
mod strings;

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use longlived_http2::{Config, Connection, ConnectionError, Event, Output, Received};

use strings::{huffman, string};

const FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A block in as many frames as it needs.
fn block(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = block.chunks(FRAME).collect();
    let mut frames = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let (kind, first) = if n == 0 {
            (HEADERS, END_STREAM)
        } else {
            (CONTINUATION, 0)
        };
        let last = if n + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        frames.extend(frame(kind, first | last, stream, piece));
    }
    frames
}

/// A literal with a name of its own, or that of the static table.
fn literal(block: &mut Vec<u8>, name: Result<u8, &[u8]>, pattern: u8, value: &[u8]) {
    match name {
        Ok(index) => block.push(index),
        Err(name) => {
            block.push(0x00);
            string(block, 0x00, name);
        }
    }
    string(block, pattern, value);
}

/// The pseudo-fields of a request.
fn post() -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x84];
    literal(&mut block, Ok(0x01), 0x00, b"a.test");
    block
}

fn request(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut fields = post();
    write(&mut fields);
    block(1, &fields)
}

/// Many fields.
fn fields(name: &str) -> Option<Vec<u8>> {
    let bytes = match name {
        "usual_request" => request(|out| {
            for (name, value) in [
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "grpc-go/1.85.0"),
                ("authorization", "Bearer abc"),
                ("grpc-timeout", "10S"),
            ] {
                literal(out, Err(name.as_bytes()), 0x00, value.as_bytes());
            }
        }),
        "fields_of_the_table" => {
            let mut first = post();
            first.extend([0x40, 1, b'a', 1, b'b']);
            [
                block(1, &first),
                block(3, &[post(), vec![0xbe; 455]].concat()),
            ]
            .concat()
        }
        "fields_of_the_static_table" => request(|out| out.extend([0x90; 250])),
        "fields_with_new_names" => request(|out| {
            for n in 0..440 {
                literal(out, Err(format!("{n:03}").as_bytes()), 0x00, b"");
            }
        }),
        "fields_over_the_limit" => request(|out| out.extend([0x90; 16_000])),
        "added_fields" => request(|out| out.extend([0x41, 0].repeat(8_000))),
        _ => return None,
    };
    Some(bytes)
}

/// Long strings.
fn strings(name: &str) -> Option<Vec<u8>> {
    let long = vec![b'a'; 16_000];
    let bytes = match name {
        "huffman_60000" => request(|out| {
            literal(
                out,
                Err(b"a"),
                0x80,
                &huffman(&[(0x0, 5), (0x1ffa, 13)], 60_000),
            );
        }),
        "huffman_16000" => {
            request(|out| literal(out, Err(b"a"), 0x80, &huffman(&[(0x1ffa, 13)], 16_000)))
        }
        "huffman_1000_twice" => request(|out| {
            let codes = huffman(&[(0x0, 5), (0x1ffa, 13)], 1_000);
            for _ in 0..2 {
                out.push(0x00);
                string(out, 0x80, &codes);
                string(out, 0x80, &codes);
            }
        }),
        "a_long_name" => request(|out| literal(out, Err(&long), 0x00, b"")),
        "a_long_value" => request(|out| literal(out, Err(b"a"), 0x00, &long)),
        "a_long_cookie" => request(|out| literal(out, Err(b"cookie"), 0x00, &long)),
        _ => return None,
    };
    Some(bytes)
}

/// Long pseudo-header fields, and SETTINGS.
fn others(name: &str) -> Option<Vec<u8>> {
    let long = vec![b'a'; 16_000];
    let bytes = match name {
        "a_long_path" => block(1, &{
            let mut fields = vec![0x83, 0x86];
            literal(
                &mut fields,
                Ok(0x04),
                0x00,
                &[b"/", &long[..15_900]].concat(),
            );
            literal(&mut fields, Ok(0x01), 0x00, b"a.test");
            fields
        }),
        "a_long_authority" => block(1, &{
            let mut fields = vec![0x83, 0x86, 0x84];
            literal(&mut fields, Ok(0x01), 0x00, &long[..7_900]);
            literal(&mut fields, Err(b"host"), 0x00, &long[..7_900]);
            fields
        }),
        "settings" => {
            let setting = |n: u32| [&[0, 4][..], &n.to_be_bytes()].concat();
            frame(
                SETTINGS,
                0,
                0,
                &(1..2_730).flat_map(setting).collect::<Vec<_>>(),
            )
        }
        "settings_and_1000_streams" => {
            let streams = (0..1_000).flat_map(|n| block(1 + 2 * n, &post()));
            let widen = frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]);
            let reset = frame(3, 0, 1, &[0, 0, 0, 8]);
            let most = frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
            [streams.collect(), widen, reset, most].concat()
        }
        _ => return None,
    };
    Some(bytes)
}

fn kind(name: &str) -> Option<Vec<u8>> {
    (fields(name).or_else(|| strings(name))).or_else(|| others(name))
}

const KINDS: [&str; 16] = [
    "usual_request",
    "fields_of_the_table",
    "fields_of_the_static_table",
    "fields_with_new_names",
    "fields_over_the_limit",
    "added_fields",
    "huffman_60000",
    "huffman_16000",
    "huffman_1000_twice",
    "a_long_name",
    "a_long_value",
    "a_long_cookie",
    "a_long_path",
    "a_long_authority",
    "settings",
    "settings_and_1000_streams",
];

#[inline(never)]
fn counted<'a>(
    connection: &mut Connection<()>,
    input: &'a [u8],
    now: Instant,
    out: &mut Output,
) -> Result<Received<'a, ()>, ConnectionError> {
    connection.receive(input, now, out)
}

fn main() -> ExitCode {
    let Some(name) = env::args().nth(1) else {
        println!("{}", KINDS.join("\n"));
        return ExitCode::SUCCESS;
    };
    let Some(bytes) = kind(&name) else {
        eprintln!("there is no kind {name}");
        return ExitCode::FAILURE;
    };
    let config = Config {
        streams_max: 1_000,
        ..Config::default()
    };
    let mut connection = Connection::new(config.into());
    let (mut out, now) = (Output::with_capacity(1 << 20), Instant::now());
    let begin = [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ]
    .concat();
    let counts = env::args().nth(2).and_then(|call| call.parse().ok());
    let (mut calls, mut events, mut at) = (0, 0, 0);
    let all = [begin, bytes].concat();
    while at < all.len() {
        // As much as a connection reads at once.
        let piece = black_box(&all[at..all.len().min(at + FRAME)]);
        calls += 1;
        let received = if counts.is_none_or(|call: u32| call == calls) {
            counted(&mut connection, piece, now, &mut out)
        } else {
            connection.receive(piece, now, &mut out)
        };
        let received = received.expect("no rule is broken");
        assert!(received.consumed > 0, "it goes on");
        at += received.consumed;
        out.written(out.len());
        match received.event {
            Some(Event::Request(_, opening) | Event::HeadTooLarge { opening, .. }) => {
                events += 1;
                connection.open(opening, ());
            }
            Some(_) => events += 1,
            None => {}
        }
    }
    println!(
        "{name}: {} octets, {calls} calls, {events} events",
        all.len()
    );
    ExitCode::SUCCESS
}
