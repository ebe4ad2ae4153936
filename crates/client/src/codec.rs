//! The codec of a subscription's request and responses: as the generated client has it, with smaller buffers.
//!
//! Holds: an idle stream keeps a buffer of half a KiB instead of tonic's 8 KiB, which were most of the memory of a
//! subscriber. The buffer grows with the messages that come.

use longlived_api::v1;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Of each stream, from its opening on. More than a Welcome, a Gap or a small event takes.
const BUFFER_BYTES: usize = 512;
/// Bytes that are encoded before they are handed on; tonic's own number.
const YIELD_BYTES: usize = 32 << 10;

/// The codec of `SubscriptionService.Subscribe`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscribeCodec;

impl Codec for SubscribeCodec {
    type Encode = v1::SubscribeRequest;
    type Decode = v1::SubscribeResponse;
    type Encoder = ProstEncoder<Self::Encode>;
    type Decoder = ProstDecoder<Self::Decode>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}
