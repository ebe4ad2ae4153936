//! Heads and trailers of responses, as header blocks (RFC 9113, 8.3.2).

use http::{HeaderMap, HeaderName, StatusCode, header};
use longlived_http2::hpack::encode;

/// Writes the block of a response's head. Fields that only a connection of HTTP/1.1 has are left out (8.2.2).
pub(super) fn head(block: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    block.clear();
    encode::field(block, b":status", status.as_str().as_bytes());
    put(block, fields);
}

/// Writes the block of trailers.
pub(super) fn trailers(block: &mut Vec<u8>, fields: &HeaderMap) {
    block.clear();
    put(block, fields);
}

fn put(block: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
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
