//! An event in the messages of the frozen contract.

use bytes::{Bytes, BytesMut};
use longlived_api::{protos, v1};
use prost::Message as _;

use super::{PREFIX_BYTES, encode_message};

/// Each byte of a payload that is no UTF-8 is a character of three.
pub(super) const GROWTH_MAX: usize = 3;

/// Writes the event as subscribers of the frozen contract see it: its payload as text, lossy.
pub(super) fn write(frame: &[u8], into: &mut BytesMut) {
    let decoded = v1::SubscribeResponse::decode(&frame[PREFIX_BYTES..]);
    // Frames are only ever made by `EventWriter`, so they decode; an empty text is the harmless answer.
    let payload = match decoded.ok().and_then(|response| response.frame) {
        Some(v1::subscribe_response::Frame::Event(event)) => event.payload,
        _ => Bytes::new(),
    };
    let response = protos::Response {
        data: String::from_utf8_lossy(&payload).into_owned(),
    };
    encode_message(&response, into);
}
