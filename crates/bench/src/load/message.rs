//! The messages of the load: written with the time of sending in their payload, found again by readers.

use longlived_api::v1::{SubscribeResponse, subscribe_response::Frame, welcome};
use prost::Message as _;
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint,
};

use crate::http2::request;

pub(super) use welcome::Outcome;

/// The kind of a `SubscribeResponse`, by its first byte: the field that is set in its oneof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Welcome,
    Gap,
    Other,
}

impl Kind {
    pub(crate) fn of(head: &[u8]) -> Self {
        match head.first() {
            Some(0x0a) => Self::Event,
            Some(0x12) => Self::Welcome,
            Some(0x22) => Self::Gap,
            _ => Self::Other,
        }
    }
}

/// The outcome in a Welcome for the position that it was asked to resume from; `None` when `head` is not all of it.
pub(super) fn outcome(head: &[u8]) -> Option<Outcome> {
    match SubscribeResponse::decode(head).ok()?.frame? {
        Frame::Welcome(welcome) => Some(welcome.outcome()),
        _ => None,
    }
}

/// When the event that begins with `head` was sent; `None` when the payload's beginning lies beyond it.
pub(super) fn sent_at(head: &[u8]) -> Option<u64> {
    const PAYLOAD: u32 = 4;

    let mut rest = head.get(1..)?;
    decode_varint(&mut rest).ok()?;
    loop {
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        let length = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).ok()?;
                continue;
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut rest).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        if field == PAYLOAD {
            let stamp = rest.first_chunk().filter(|_| length >= 8)?;
            return Some(u64::from_le_bytes(*stamp));
        }
        rest = rest.get(length..)?;
    }
}

/// A `PublishRequest` with its gRPC prefix; its payload is the time of sending, then filler.
pub(crate) fn publish_request(out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize) {
    const TOPIC: u32 = 1;
    const PAYLOAD: u32 = 2;

    let field_bytes = |length: usize| 1 + encoded_len_varint(length as u64) + length;
    request::grpc_prefix(out, field_bytes(topic.len()) + field_bytes(payload_bytes));
    encode_key(TOPIC, WireType::LengthDelimited, out);
    encode_varint(topic.len() as u64, out);
    out.extend_from_slice(topic.as_bytes());
    encode_key(PAYLOAD, WireType::LengthDelimited, out);
    encode_varint(payload_bytes as u64, out);
    let end = out.len() + payload_bytes;
    out.extend_from_slice(&sent_ns.to_le_bytes());
    out.resize(end, b'.');
}

#[cfg(test)]
mod tests {
    use longlived_api::v1::{
        Event, Gap, Progress, PublishRequest, SubscribeResponse, Welcome, subscribe_response,
    };
    use prost::Message as _;
    use subscribe_response::Frame;

    use super::*;

    fn encoded(frame: Frame) -> Vec<u8> {
        SubscribeResponse { frame: Some(frame) }.encode_to_vec()
    }

    fn event(payload: Vec<u8>) -> Vec<u8> {
        encoded(Frame::Event(Event {
            topic: "inbox.bench-12345".to_owned(),
            sequence: 1 << 40,
            previous_sequence: 300,
            payload: payload.into(),
            key: "k".to_owned(),
            ..Event::default()
        }))
    }

    #[test]
    fn the_first_byte_tells_the_kind() {
        assert_eq!(Kind::of(&event(vec![0; 8])), Kind::Event);
        assert_eq!(
            Kind::of(&encoded(Frame::Welcome(Welcome::default()))),
            Kind::Welcome
        );
        assert_eq!(Kind::of(&encoded(Frame::Gap(Gap::default()))), Kind::Gap);
        assert_eq!(
            Kind::of(&encoded(Frame::Progress(Progress::default()))),
            Kind::Other
        );
        assert_eq!(Kind::of(&[]), Kind::Other);
    }

    #[test]
    fn the_time_of_sending_is_found_as_soon_as_it_is_there() {
        let stamp = 0x0123_4567_89ab_cdef_u64;
        let mut payload = stamp.to_le_bytes().to_vec();
        payload.resize(200, 7);
        let message = event(payload);
        let complete = message
            .windows(8)
            .position(|window| window == stamp.to_le_bytes())
            .unwrap()
            + 8;
        for length in 0..=message.len() {
            let expected = (length >= complete).then_some(stamp);
            assert_eq!(sent_at(&message[..length]), expected, "with {length} bytes");
        }
    }

    #[test]
    fn a_payload_without_a_stamp_has_no_time() {
        assert_eq!(sent_at(&event(vec![1; 7])), None);
    }

    #[test]
    fn a_publish_request_is_the_bytes_that_prost_would_write() {
        for payload_bytes in [8, 127, 128, 20_000] {
            let mut out = Vec::new();
            publish_request(&mut out, "a.b", 42, payload_bytes);
            let (prefix, message) = out.split_at(5);
            assert_eq!(
                prefix[1..],
                u32::try_from(message.len()).unwrap().to_be_bytes()
            );
            let decoded = PublishRequest::decode(message).unwrap();
            let mut payload = 42_u64.to_le_bytes().to_vec();
            payload.resize(payload_bytes, b'.');
            assert_eq!(
                decoded,
                PublishRequest {
                    topic: "a.b".to_owned(),
                    payload: payload.into(),
                    ..PublishRequest::default()
                }
            );
        }
    }
}
