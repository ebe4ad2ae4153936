//! Bytes a client sends: preface, windows, the headers of a call, its messages.
//!
//! Holds: header fields are literals or entries of HPACK's static table, so the peer's dynamic table stays empty and
//! every request can be written without a state.

use prost::Message;

use super::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GRPC_PREFIX_BYTES, WINDOW_DEFAULT, flag, kind, setting,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Receive windows that we announce once per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) stream_bytes: u32,
    pub(crate) connection_bytes: u32,
}

/// The opening of a connection.
pub(crate) fn open_connection(out: &mut Vec<u8>, windows: Windows) {
    out.extend_from_slice(PREFACE);
    frame_header(out, 12, kind::SETTINGS, 0, 0);
    for (id, value) in [
        (setting::ENABLE_PUSH, 0),
        (setting::INITIAL_WINDOW_SIZE, windows.stream_bytes),
    ] {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    let increment = windows.connection_bytes.saturating_sub(WINDOW_DEFAULT);
    if increment > 0 {
        window_update(out, 0, increment);
    }
}

/// The header fields of a gRPC call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head<'a> {
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) over_tls: bool,
    /// The encoding that messages are asked for in.
    pub(crate) encoding: Option<&'a str>,
    /// The field `authorization`.
    pub(crate) authorization: Option<&'a str>,
}

/// The headers of a gRPC call without TLS, in one frame.
pub(crate) fn call_headers(out: &mut Vec<u8>, stream_id: u32, authority: &str, path: &str) {
    let head = Head {
        authority,
        path,
        ..Head::default()
    };
    call_head(out, stream_id, &head);
}

/// The headers of any gRPC call, in one frame.
pub(crate) fn call_head(out: &mut Vec<u8>, stream_id: u32, head: &Head<'_>) {
    let start = out.len();
    frame_header(out, 0, kind::HEADERS, flag::END_HEADERS, stream_id);
    out.push(0x83); // :method: POST
    out.push(if head.over_tls { 0x87 } else { 0x86 }); // :scheme: https or http
    out.push(0x04); // a literal that is not indexed, named by entry 4, :path
    string(out, head.path);
    out.push(0x01); // entry 1, :authority
    string(out, head.authority);
    out.extend_from_slice(&[0x0f, 0x10]); // entry 31, content-type, which needs a second byte
    string(out, "application/grpc");
    out.push(0x00); // a literal that brings its own name
    string(out, "te");
    string(out, "trailers");
    if let Some(authorization) = head.authorization {
        out.extend_from_slice(&[0x1f, 0x08]); // entry 23, authorization, never indexed: no peer keeps it in a table
        string(out, authorization);
    }
    if let Some(encoding) = head.encoding {
        for name in ["longlived-compression", "grpc-accept-encoding"] {
            out.push(0x00);
            string(out, name);
            string(out, encoding);
        }
    }
    let length = out.len() - start - FRAME_HEADER_BYTES;
    assert!(length <= FRAME_BYTES_MAX, "request headers fit one frame");
    out[start..start + 3].copy_from_slice(&length_bytes(length));
}

/// One gRPC message in a DATA frame of its own.
pub(crate) fn call_message(
    out: &mut Vec<u8>,
    stream_id: u32,
    message: &impl Message,
    end_stream: bool,
) {
    let length = message.encoded_len();
    assert!(
        length + GRPC_PREFIX_BYTES <= FRAME_BYTES_MAX,
        "requests of the load fit one frame"
    );
    let flags = if end_stream { flag::END_STREAM } else { 0 };
    frame_header(
        out,
        length + GRPC_PREFIX_BYTES,
        kind::DATA,
        flags,
        stream_id,
    );
    grpc_prefix(out, length);
    message.encode(out).expect("a Vec grows");
}

/// Uncompressed, and so long.
pub(crate) fn grpc_prefix(out: &mut Vec<u8>, length: usize) {
    out.push(0);
    out.extend_from_slice(
        &u32::try_from(length)
            .expect("messages of the load are small")
            .to_be_bytes(),
    );
}

pub(crate) fn window_update(out: &mut Vec<u8>, stream_id: u32, increment: u32) {
    frame_header(out, 4, kind::WINDOW_UPDATE, 0, stream_id);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn frame_header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream_id: u32) {
    out.extend_from_slice(&length_bytes(length));
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream_id.to_be_bytes());
}

fn length_bytes(length: usize) -> [u8; 3] {
    let [_, a, b, c] = u32::try_from(length)
        .expect("frames are at most 16 KiB")
        .to_be_bytes();
    [a, b, c]
}

/// A plain (not Huffman-coded) HPACK string; its length is an integer with a prefix of seven bits (RFC 7541, 5.1).
fn string(out: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: u8 = 127;
    match u8::try_from(text.len()) {
        Ok(length) if length < PREFIX_MAX => out.push(length),
        _ => {
            out.push(PREFIX_MAX);
            let mut left = text.len() - usize::from(PREFIX_MAX);
            while left >= 128 {
                out.push((left % 128) as u8 | 128);
                left /= 128;
            }
            out.push(left as u8);
        }
    }
    out.extend_from_slice(text.as_bytes());
}
