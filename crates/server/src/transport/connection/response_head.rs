//! Heads and trailers of responses, as header blocks (RFC 9113, 8.3.2).

use std::cell::Cell;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, StatusCode, header};
use longlived_http2::hpack::encode;

thread_local! {
    /// Where a block is made, for the connections of a thread in turn.
    static BLOCK: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Makes the block of a response's head and has it sent. Fields that only a connection of HTTP/1.1 has are left out (8.2.2).
pub(super) fn head(status: StatusCode, fields: &HeaderMap, send: impl FnOnce(&[u8])) {
    with_block(send, |block| {
        encode::field(block, b":status", status.as_str().as_bytes());
        put(block, fields);
    });
}

/// Makes the block of trailers and has it sent.
pub(super) fn trailers(fields: &HeaderMap, send: impl FnOnce(&[u8])) {
    with_block(send, |block| put(block, fields));
}

fn with_block(send: impl FnOnce(&[u8]), make: impl FnOnce(&mut Vec<u8>)) {
    let mut block = BLOCK.take();
    block.clear();
    make(&mut block);
    send(&block);
    BLOCK.set(block);
}

/// The field that every response of gRPC has, made once.
static GRPC: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut field = Vec::new();
    encode::field(&mut field, b"content-type", GRPC_CONTENT_TYPE);
    field
});

const GRPC_CONTENT_TYPE: &[u8] = b"application/grpc";

fn put(block: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        if *name == header::CONTENT_TYPE && value.as_bytes() == GRPC_CONTENT_TYPE {
            block.extend_from_slice(&GRPC);
            continue;
        }
        if is_of_the_connection(name) {
            continue;
        }
        let (name, bytes) = (name.as_str().as_bytes(), value.as_bytes());
        if value.is_sensitive() {
            encode::never_indexed(block, name, bytes);
        } else {
            encode::field(block, name, bytes);
        }
    }
}

fn is_of_the_connection(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
