//! The protocol of the bare sender and its load: records of one length, each beginning with the time of sending.
//!
//! A connection begins with [`HELLO_BYTES`] with its number, and is answered with one byte, [`GREETING`]. Then the
//! publisher sends records, and subscribers receive them.
//!
//! Holds: a record is as long as one framed delivery of ours, so that both servers write as many bytes.

use longlived_api::v1::{Event, SubscribeResponse, subscribe_response::Frame};
use prost::Message as _;

use super::line::Stamp;
use super::payload;
use crate::http2::{FRAME_HEADER_BYTES, GRPC_PREFIX_BYTES};

pub(crate) const HELLO_BYTES: usize = 8;
pub(crate) const GREETING: u8 = b'+';
/// The publisher's number, in place of a subscriber's.
pub(crate) const PUBLISHER: u64 = u64::MAX;
/// A sequence as long as that of most events of a run.
const SEQUENCE: u64 = 100_000;

/// Bytes of one delivery: an event in a gRPC message in a DATA frame of its own.
pub(crate) fn delivery_bytes(topic: &str, payload_bytes: usize) -> usize {
    let event = Event {
        topic: topic.to_owned(),
        sequence: SEQUENCE,
        previous_sequence: SEQUENCE,
        payload: vec![0; payload_bytes].into(),
        publish_time: Some(prost_types::Timestamp {
            seconds: 1 << 30,
            nanos: 1 << 29,
        }),
        ..Event::default()
    };
    let response = SubscribeResponse {
        frame: Some(Frame::Event(event)),
    };
    FRAME_HEADER_BYTES + GRPC_PREFIX_BYTES + response.encoded_len()
}

/// First bytes of a connection: a subscriber's number, or [`PUBLISHER`].
pub(crate) fn hello(out: &mut Vec<u8>, who: u64) {
    out.extend_from_slice(&who.to_le_bytes());
}

pub(crate) fn record(out: &mut Vec<u8>, sent_ns: u64, record_bytes: usize) {
    payload(out, sent_ns, record_bytes);
}

/// A read record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Greeting,
    Record { sent_ns: Option<u64> },
}

/// Per connection; survives between reads.
#[derive(Debug)]
pub(crate) struct Reader {
    greeted: bool,
    record_bytes: usize,
    stamp: Stamp,
    left: usize,
}

impl Reader {
    pub(crate) fn new(record_bytes: usize) -> Self {
        Self {
            greeted: false,
            record_bytes,
            stamp: Stamp::default(),
            left: record_bytes,
        }
    }

    pub(crate) fn read(&mut self, mut bytes: &[u8], heard: &mut impl FnMut(Heard)) {
        if !self.greeted
            && let Some((_greeting, rest)) = bytes.split_first()
        {
            self.greeted = true;
            bytes = rest;
            heard(Heard::Greeting);
        }
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.stamp.take(part);
            self.left -= part.len();
            if self.left == 0 {
                heard(Heard::Record {
                    sent_ns: self.stamp.get(),
                });
                self.left = self.record_bytes;
                self.stamp = Stamp::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_heard_however_they_are_split(
            stamps in vec(any::<u64>(), 0..20),
            record_bytes in 8..60_usize,
            pieces_bytes in 1..80_usize,
        ) {
            let mut bytes = vec![GREETING];
            for stamp in &stamps {
                record(&mut bytes, *stamp, record_bytes);
            }
            let mut reader = Reader::new(record_bytes);
            let mut all = Vec::new();
            for piece in bytes.chunks(pieces_bytes) {
                reader.read(piece, &mut |heard| all.push(heard));
            }
            let records = stamps.iter().map(|stamp| Heard::Record { sent_ns: Some(*stamp) });
            let expected: Vec<_> = std::iter::once(Heard::Greeting).chain(records).collect();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_delivery_is_the_payload_and_the_bytes_before_it() {
        let bytes = delivery_bytes("bench.fanout", 128);
        assert!((128 + 40..128 + 60).contains(&bytes), "{bytes}");
        // The lengths before the longer one take as many bytes.
        let longer = delivery_bytes("bench.fanout", 1_000);
        assert_eq!(longer - bytes, 1_000 - 128);
    }
}
