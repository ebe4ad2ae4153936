//! A status as headers, for both contracts.
//!
//! Holds: of a text only what the gRPC specification names is escaped, and blanks at its ends, which HTTP/2 forbids
//! there (RFC 9113, 8.2.1). The frozen contract has no details.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tonic::{
    Code, Status,
    metadata::{Binary, MetadataValue},
};

use crate::contract::Contract;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The status as trailers of a stream.
pub(crate) fn trailers(status: &Status, contract: Contract) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    write(status, contract, &mut trailers);
    trailers
}

/// The status of a call that succeeded.
pub(crate) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    trailers
}

/// A response that is only a status: one HEADERS frame that ends the stream. Stock clients honour a pushback on no
/// other form.
pub(crate) fn trailers_only<B: Default>(status: &Status, contract: Contract) -> Response<B> {
    let mut response = Response::new(B::default());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    write(status, contract, response.headers_mut());
    response
}

fn write(status: &Status, contract: Contract, headers: &mut HeaderMap) {
    if !status.metadata().is_empty() {
        headers.extend(status.metadata().clone().into_headers());
    }
    headers.insert(STATUS, HeaderValue::from(status.code() as i32));
    if status.code() == Code::Ok && status.message().is_empty() {
        return;
    }
    // Visible characters and the blanks between them stay unescaped: a header holds them.
    if let Ok(message) = HeaderValue::try_from(escape(status.message())) {
        headers.insert(MESSAGE, message);
    }
    if !status.details().is_empty() && contract.dialect().has_details() {
        let details = MetadataValue::<Binary>::from_bytes(status.details());
        if let Ok(details) = HeaderValue::from_bytes(details.as_encoded_bytes()) {
            headers.insert(DETAILS, details);
        }
    }
}

fn stays(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

/// How long a text is on the wire, but for blanks at its ends.
pub(super) fn escaped_len(text: &str) -> usize {
    let each = text.bytes().map(|byte| if stays(byte) { 1 } else { 3 });
    each.sum()
}

/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, `Percent-Encoded`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(escaped_len(text) + 4);
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let at_end = byte == b' ' && (at == 0 || at == last);
        if stays(byte) && !at_end {
            escaped.push(byte.into());
        } else {
            write!(escaped, "%{byte:02X}").expect("a string takes all");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_that_the_specification_names_are_escaped() {
        assert_eq!(escape("a b \"c\" <d>#`{e}?"), "a b \"c\" <d>#`{e}?");
        assert_eq!(escape("100 % ä\n\u{7f}"), "100 %25 %C3%A4%0A%7F");
        assert_eq!(escape(" a  "), "%20a %20");
        assert_eq!(escape(" "), "%20");
        assert_eq!(escape(""), "");
    }

    #[test]
    fn the_frozen_contract_has_no_details() {
        let status = Status::with_details(Code::Unavailable, "a b", vec![1].into());
        assert!(trailers(&status, Contract::V1).contains_key(DETAILS));
        let frozen = trailers(&status, Contract::Legacy);
        assert_eq!(frozen.len(), 2, "{frozen:?}");
    }
}
