//! The frames of a batch in the messages of the frozen contract, made of those of version 1.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use longlived_api::{protos, v1};
use prost::Message as _;

use super::{Frames, PREFIX_BYTES, encode_message};

/// The frames of the frozen contract, and where each ends.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) bytes: Bytes,
    ends: Box<[u32]>,
    pub(super) largest_frame: u32,
}

impl Legacy {
    pub(super) fn of(frames: &Frames) -> Self {
        let mut bytes = BytesMut::with_capacity(frames.bytes.len());
        let mut largest_frame = 0;
        let ends = frames
            .entries
            .iter()
            .map(|entry| {
                let frame = &frames.bytes[entry.offset as usize..entry.end()];
                let begin = bytes.len();
                encode_message(&response(frame), &mut bytes);
                largest_frame = largest_frame.max(bytes.len() - begin);
                bytes.len() as u32
            })
            .collect();
        Self {
            bytes: bytes.freeze(),
            ends,
            largest_frame: largest_frame as u32,
        }
    }

    /// Where the frame of an entry stands.
    pub(super) fn place(&self, index: usize) -> Range<usize> {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        begin as usize..self.ends[index] as usize
    }
}

/// What subscribers of the frozen contract see of an event: its payload as text, lossy.
fn response(frame: &[u8]) -> protos::Response {
    let decoded = v1::SubscribeResponse::decode(&frame[PREFIX_BYTES..]);
    // Frames are only ever made by `EventWriter`, so they decode; an empty text is the harmless answer.
    let payload = match decoded.ok().and_then(|response| response.frame) {
        Some(v1::subscribe_response::Frame::Event(event)) => event.payload,
        _ => Bytes::new(),
    };
    protos::Response {
        data: String::from_utf8_lossy(&payload).into_owned(),
    }
}
